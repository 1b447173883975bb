package whitelist

import (
	"bytes"
	"crypto/ed25519"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
)

// The format is fixed: a list of yesterday reads today, and is built the same.
// The vectors are not made by this package, but by testdata/gen/list_vectors.py.

func vector(t *testing.T, name ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", "list", filepath.Join(name...)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestListVectors(t *testing.T) {
	for name, c := range map[string]struct {
		manifest Manifest
		rows     []Listed
	}{
		"four-rows.list": {manifest(), listed()},
		"venue.list":     {venueManifest(), venueListed()},
	} {
		stored := vector(t, name)
		if !bytes.Equal(write(t, c.manifest, c.rows), stored) {
			t.Errorf("%s is built differently from the stored one", name)
		}
		if _, rows, err := read(trust(t), bytes.NewReader(stored)); err != nil || len(rows) != len(c.rows) {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
	}
}

func rootTrust(t *testing.T) roles.Trust {
	t.Helper()
	public := func(b byte) ed25519.PublicKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)).Public().(ed25519.PublicKey)
	}
	root, err := roles.NewRoot(2, public(0x31), public(0x32), public(0x33))
	if err != nil {
		t.Fatal(err)
	}
	return roles.Trust{Root: root}
}

// sealedOf seals rows and returns them ascending.
func sealedOf(t *testing.T, rows []Listed) []SealedRow {
	t.Helper()
	_, sealed, err := read(trust(t), bytes.NewReader(write(t, manifest(), rows)))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func rowsFile(t *testing.T, rows []SealedRow) ([]byte, [32]byte) {
	t.Helper()
	var b bytes.Buffer
	sum, _, err := WriteRows(&b, func(yield func(SealedRow, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), sum
}

// Publication 7 has four rows. Until publication 9 one of them changed, one is gone, and
// one is new; publication 10 changed none.
func TestPublishedListVectors(t *testing.T) {
	before := sealedOf(t, listed())
	gone := SealedRow{ID: scopeKey(t).ID(head(2))}
	touched := append(sealedOf(t, []Listed{
		{head(1), Row{Status: Revoked, Entitlements: []Entitlement{{ID: "season-1"}}}},
		{head(5), Row{Status: Active, Entitlements: []Entitlement{{ID: "season-5"}}, AuthKey: key(rsaKey(2048, 5))}},
	}), gone)
	slices.SortFunc(touched, func(a, b SealedRow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	snapshot, snapshotSum := rowsFile(t, before)
	delta, deltaSum := rowsFile(t, touched)

	// What the delta does to the set: the rows that it touches out, and in as they are.
	var set Set
	for _, r := range before {
		set.Add(r)
		if slices.ContainsFunc(touched, func(t SealedRow) bool { return t.ID == r.ID }) {
			set.Remove(r)
		}
	}
	for _, r := range touched {
		if len(r.Sealed) > 0 {
			set.Add(r)
		}
	}
	want := manifest()
	want.Seq, want.Rows, want.ScopeKeyCheck = 10, 4, scopeKey(t).Check()
	want.Set = SetID{9, set.Digest()}
	want.Snapshot = Snapshot{7, snapshotSum, int64(len(snapshot))}
	want.Deltas = []Delta{{7, 9, deltaSum, int64(len(delta))}}

	delegation := vector(t, "published", "delegation")
	built, err := want.Sign(listKey, delegation)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"manifest": built, "snapshot": snapshot, "delta": delta} {
		if !bytes.Equal(vector(t, "published", name), b) {
			t.Errorf("%s is built differently from the stored one", name)
		}
	}
	h, err := ReadHead(vector(t, "published", "manifest"), rootTrust(t))
	if err != nil || !reflect.DeepEqual(h.Manifest, want) || h.Delegation() != 5 {
		t.Errorf("%+v, delegation %d, %v", h.Manifest, h.Delegation(), err)
	}
	for at, valid := range map[time.Time]bool{
		issued: true, issued.Add(7 * 24 * time.Hour): true,
		issued.Add(-2 * time.Hour): false, issued.Add(7*24*time.Hour + time.Second): false,
	} {
		if err := h.Valid(at); (err == nil) != valid {
			t.Errorf("at %v: %v", at, err)
		}
	}
	if n, err := count(h.Manifest.Snapshot.Reader(bytes.NewReader(vector(t, "published", "snapshot")))); n != 4 || err != io.EOF {
		t.Errorf("snapshot: %d rows, %v", n, err)
	}
	if n, err := count(h.Manifest.Deltas[0].Reader(bytes.NewReader(vector(t, "published", "delta")))); n != 3 || err != io.EOF {
		t.Errorf("delta: %d rows, %v", n, err)
	}
}

func count(r *RowsReader) (n int, err error) {
	for ; ; n++ {
		if _, err := r.Next(); err != nil {
			return n, err
		}
	}
}
