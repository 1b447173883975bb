package listdb

import (
	"context"
	"errors"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardid"
)

func TestCardIDsAreThoseOfEveryRow(t *testing.T) {
	s := open(t, t.TempDir())
	for _, err := range s.CardIDs(t.Context()) {
		if !errors.Is(err, ErrNoList) {
			t.Fatalf("without a list: %v", err)
		}
	}
	const rows = 2500 // some pages
	load(t, s, list(t, manifest(1), rows))
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	want := make(map[cardid.CardID]bool, rows)
	for n := range rows {
		want[v.CardID(head(n))] = true
	}
	var last cardid.CardID
	n := 0
	for id, err := range s.CardIDs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !want[id] || id.String() <= last.String() && n > 0 {
			t.Fatalf("row %d: %v after %v", n, id, last)
		}
		// The list is looked up meanwhile.
		if _, err := v.Lookup(t.Context(), head(n)); err != nil {
			t.Fatal(err)
		}
		last, n = id, n+1
	}
	if n != rows {
		t.Errorf("%d rows, want %d", n, rows)
	}
	for range s.CardIDs(t.Context()) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.CardIDs(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}
