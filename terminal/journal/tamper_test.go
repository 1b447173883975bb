package journal

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// disarm drops the triggers, as somebody who means it would.
const disarm = `DROP TRIGGER events_no_update; DROP TRIGGER events_no_delete; DROP TRIGGER events_no_gap;
	DROP TRIGGER base_no_insert; DROP TRIGGER base_no_delete; DROP TRIGGER base_needs_record;`

func TestEventsCannotBeChangedByMistake(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	n := fill(t, j)
	db := raw(t, path)
	for _, stmt := range []string{
		`UPDATE events SET bytes = '{}' WHERE seq = 1`,
		`DELETE FROM events`,
		`DELETE FROM events WHERE seq = 8`,
		`INSERT OR REPLACE INTO events SELECT 1, bytes, hash FROM events WHERE seq = 2`,
		`INSERT INTO events SELECT 10, bytes, hash FROM events WHERE seq = 2`,
		`INSERT INTO events SELECT NULL, bytes, hash FROM events WHERE seq = 2`,
		`UPDATE meta SET value = x'00'`,
		`DELETE FROM meta`,
		`UPDATE base SET seq = 5, hash = (SELECT hash FROM events WHERE seq = 5), event = 8`,
		`DELETE FROM base`,
		`INSERT OR REPLACE INTO base VALUES (1, 5, x'', 8)`,
	} {
		if _, err := db.Exec(stmt); err == nil {
			t.Errorf("%s: done", stmt)
		}
	}
	if r, err := j.Verify(t.Context()); err != nil || r.Events != n {
		t.Errorf("%d events, %v", r.Events, err)
	}
	if last, err := j.CheckTail(t.Context()); err != nil || last != n {
		t.Errorf("%d events, %v", last, err)
	}
}

func TestTamperedEventIsNamed(t *testing.T) {
	for _, tc := range []struct {
		name, stmt string
		first      uint64 // event that is named
	}{
		{"content", `UPDATE events SET bytes = replace(bytes, 'not_listed', 'ok') WHERE seq = 3`, 3},
		{"instant of the first", `UPDATE events SET bytes = replace(bytes, '2026', '2025') WHERE seq = 1`, 1},
		{"content of the last", `UPDATE events SET bytes = replace(bytes, 'ticket-3', 'ticket-4') WHERE seq = 8`, 8},
		{"hash", `UPDATE events SET hash = zeroblob(32) WHERE seq = 5`, 5},
		{"one deleted", `DELETE FROM events WHERE seq = 4`, 4},
		{"first deleted", `DELETE FROM events WHERE seq = 1`, 1},
		{"last deleted", `DELETE FROM events WHERE seq = 8`, 8},
		{"all deleted", `DELETE FROM events`, 1},
		{"one deleted, gap closed", `DELETE FROM events WHERE seq = 2; UPDATE events SET seq = seq - 1 WHERE seq > 2`, 2},
		{"two exchanged", `UPDATE events SET seq = 99 WHERE seq = 3; UPDATE events SET seq = 3 WHERE seq = 4; UPDATE events SET seq = 4 WHERE seq = 99`, 3},
		{"one added", `INSERT INTO events SELECT 9, bytes, hash FROM events WHERE seq = 8`, 9},
		{"another incarnation", `DROP TRIGGER meta_no_update; UPDATE meta SET value = zeroblob(16)`, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := temp(t)
			j := open(t, path)
			fill(t, j)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			db := raw(t, path)
			if _, err := db.Exec(disarm + tc.stmt); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := OpenReader(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			report, err := r.Verify(t.Context())
			var ce *ChainError
			if !errors.As(err, &ce) || ce.Seq != tc.first || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Errorf("verify: %v, want a ChainError for event %d of %s", err, tc.first, path)
			}
			if report.Events >= tc.first && tc.name != "one added" {
				t.Errorf("report vouches for %d events, the first bad one is %d", report.Events, tc.first)
			}
			// So short a journal lies whole within the part that CheckTail and Open check.
			if last, err := r.CheckTail(t.Context()); !errors.Is(err, ErrCorrupt) {
				t.Errorf("its newest events are taken for whole: %d, %v", last, err)
			}
			if j, err := Open(path, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("an agent opens it: %v, %v", j, err)
			}
		})
	}
}

func TestIndexIsMadeAgainWhenItDisagrees(t *testing.T) {
	for name, stmt := range map[string]string{
		"entry removed":      `DELETE FROM passages WHERE entitlement = 'ticket-1'`,
		"entry annulled":     `UPDATE passages SET state = 3 WHERE entitlement = 'ticket-1'`,
		"entry added":        `INSERT INTO passages VALUES (4000, 'ticket-9', '', 0, 0, 0, 2, 1, 0, 1, 4000)`,
		"people changed":     `UPDATE passages SET people = 2 WHERE entitlement = 'ticket-1'`,
		"all removed":        `DELETE FROM passages`,
		"table gone":         `DROP TABLE passages`,
		"block sums gone":    `DELETE FROM sums`,
		"block sum added":    `INSERT INTO sums VALUES (7, 1, 1, 1)`,
		"sums gone":          `DELETE FROM folded`,
		"sums table gone":    `DROP TABLE folded`,
		"an older index":     `DELETE FROM passages WHERE seq = 8; UPDATE folded SET seq = 7, hash = (SELECT hash FROM events WHERE seq = 7); UPDATE sums SET entries = 2, states = 26, people = 2`,
		"another hash in it": `UPDATE folded SET hash = zeroblob(32)`,
	} {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			j := open(t, path)
			n := fill(t, j)
			latest := j.Latest()
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			db := raw(t, path)
			if _, err := db.Exec(stmt); err != nil {
				t.Fatal(err)
			}
			if r, err := OpenReader(path); err != nil {
				t.Error(err)
			} else {
				if _, err := r.Verify(t.Context()); err == nil {
					t.Error("the damaged index verifies")
				}
				r.Close()
			}
			j = open(t, path)
			if !j.Reindexed() {
				t.Error("not made again")
			}
			wantUses(t, j, "ticket-1", 1)
			wantUses(t, j, "ticket-2", 0)
			wantUses(t, j, "ticket-3", 1)
			wantUses(t, j, "ticket-9", 0)
			if r, err := j.Verify(t.Context()); err != nil || r.Events != n+1 || !j.Latest().Equal(latest) {
				t.Errorf("%d events, latest %v, %v", r.Events, j.Latest(), err)
			}
			// The open reservation is in doubt, the settled ones are not.
			if err := j.Commit(t.Context(), 8, 1); err != nil {
				t.Error(err)
			}
			if err := j.Commit(t.Context(), 4, 1); !errors.Is(err, ErrSettled) {
				t.Errorf("commit of 4: %v, want ErrSettled", err)
			}
		})
	}
}

// What the sums of Open cannot see, Verify sees, in each column.
func TestVerifyComparesEveryColumn(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	fill(t, j)
	check(t, j.Commit(t.Context(), 8, 1))
	check(t, j.Commit(t.Context(), admit(t, j, party("ticket-5", 3)), 3)) // event 10
	check(t, j.Close())
	for column, value := range map[string]string{
		"seq": "1000", "entitlement": "'ticket-9'", "zone": "'vip'", "direction": "1", "at": "at + 1", "until": "1", "state": "3",
		"people": "4", "reentry": "1", "passed": "2", "last": "last + 1",
	} {
		copied := copyJournal(t, path)
		_, err := raw(t, copied).Exec(`UPDATE passages SET ` + column + ` = ` + value + ` WHERE seq = 10`)
		check(t, err)
		r, err := OpenReader(copied)
		check(t, err)
		if _, err := r.Verify(t.Context()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "event 10") {
			t.Errorf("%s: %v, want ErrCorrupt that names event 10", column, err)
		}
		check(t, r.Close())
	}
	var columns int
	check(t, raw(t, path).QueryRow(`SELECT count(*) FROM pragma_table_info('passages')`).Scan(&columns))
	if columns != 11 {
		t.Errorf("there are %d columns, 11 are tried", columns)
	}
}

func TestBrokenChainIsNoSourceForAnIndex(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	fill(t, j)
	for range tail { // push the change out of the part that Open always checks
		if err := j.Record(t.Context(), denial()); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := raw(t, path).Exec(disarm + `DROP TABLE folded;
		UPDATE events SET bytes = replace(bytes, 'ticket-1', 'ticket-9') WHERE seq = 4`); err != nil {
		t.Fatal(err)
	}
	var ce *ChainError
	if _, err := Open(path, nil); !errors.As(err, &ce) || ce.Seq != 4 {
		t.Errorf("got %v, want a ChainError for event 4", err)
	}
}

func TestNewerJournalIsRefused(t *testing.T) {
	path := temp(t)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := raw(t, path).Exec(`PRAGMA user_version = 3`); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("open: %v, want ErrNewer with the file", err)
	}
	if _, err := OpenReader(path); !errors.Is(err, ErrNewer) {
		t.Errorf("open for reading: %v, want ErrNewer", err)
	}
}

func TestDamagedFileIsNamed(t *testing.T) {
	write := func(t *testing.T, path string, off int64, b []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	garbage := []byte(strings.Repeat("garbage ", 512))
	for name, damage := range map[string]func(t *testing.T, path string){
		"header":         func(t *testing.T, path string) { write(t, path, 0, garbage) },
		"empty":          func(t *testing.T, path string) { os.Truncate(path, 0) },
		"cut":            func(t *testing.T, path string) { os.Truncate(path, 4096) },
		"no database":    func(t *testing.T, path string) { os.WriteFile(path, garbage[:100], 0o600) },
		"other database": func(t *testing.T, path string) { raw(t, path).Exec(`PRAGMA application_id = 1`) },
		"pages":          func(t *testing.T, path string) { write(t, path, 4096, []byte(strings.Repeat(string(garbage), 20))) },
		"gone, its WAL is there": func(t *testing.T, path string) {
			os.Remove(path)
			os.WriteFile(path+"-wal", garbage, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			j := open(t, path)
			fill(t, j)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, path)
			if j, err := Open(path, nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, %v; want ErrCorrupt with the file", j, err)
			}
		})
	}
}

func TestDamageBehindTheOpenJournalStopsEntries(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	fill(t, j)
	if _, err := raw(t, path).Exec(`DROP TABLE folded`); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Reserve(t.Context(), admission("t"), 0); err == nil {
		t.Error("an entry without a place in the chain")
	}
	if err := j.Annul(t.Context(), terminal.Reservation(8), terminal.GateFault); err == nil {
		t.Error("an annulment without a place in the chain")
	}
}
