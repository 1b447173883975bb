package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// A birth date that a card refused stays refused: after a restart, after the
// index was made again, and in a journal from before there was such an index.
func TestRefusedBirthDateIsRemembered(t *testing.T) {
	for name, change := range map[string]string{
		"reopened":          "",
		"index lost":        "DROP TABLE folded",
		"without the index": "DROP INDEX events_birth_date_refused",
	} {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			j := open(t, path)
			about := func(card string, refused bool) terminal.Decision {
				d := denial()
				d.CardID, d.BirthDateRefused = card, refused
				return d
			}
			for _, d := range []terminal.Decision{about("card-2", false), about("card-1", true), about("card-1", false)} {
				if err := j.Record(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if change != "" {
				if _, err := raw(t, path).Exec(change); err != nil {
					t.Fatal(err)
				}
			}
			j = open(t, path)
			for card, want := range map[string]bool{"card-1": true, "card-2": false, "card-3": false, "": false} {
				if got, err := j.BirthDateRefused(t.Context(), card); err != nil || got != want {
					t.Errorf("%s: %v, %v", card, got, err)
				}
			}
			var plan string
			var ignored any
			row := j.db.QueryRowContext(t.Context(), `EXPLAIN QUERY PLAN SELECT 1 FROM events WHERE `+isRefusal+` AND bytes ->> 'card_id' = 'card-1'`)
			if err := row.Scan(&ignored, &ignored, &ignored, &plan); err != nil || !strings.Contains(plan, "events_birth_date_refused") {
				t.Errorf("a tap reads the events: %s, %v", plan, err)
			}
			if _, err := j.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A refusal that cannot be written is not forgotten either, or a gate with a
// full disk would spend all the tries that a card has. Once there is room it is
// in the next event of that card.
func TestRefusedBirthDateOnAFullDiskIsRemembered(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	// SQLite gives a connection that must not grow the database SQLITE_FULL.
	limit := func(pages int) {
		t.Helper()
		if _, err := j.w.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // what it has
	d := denial()
	d.CardID = "card-2"
	var err error
	for range 1000 { // what the last page still holds
		if err = j.Record(t.Context(), d); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	d.CardID, d.BirthDateRefused = "card-1", true
	if err := j.Record(t.Context(), d); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	refused := func(want bool) {
		t.Helper()
		for card, want := range map[string]bool{"card-1": want, "card-2": false} {
			if got, err := j.BirthDateRefused(t.Context(), card); err != nil || got != want {
				t.Errorf("%s: %v, %v", card, got, err)
			}
		}
	}
	refused(true)
	limit(1 << 20)
	d.BirthDateRefused = false // it was not given the date again
	if err := j.Record(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, path)
	refused(true)
}
