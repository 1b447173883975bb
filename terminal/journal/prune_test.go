package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// at opens a journal whose clock can be set.
func at(t testing.TB, path string, now *time.Time) *Journal {
	t.Helper()
	j, err := Open(path, func() time.Time { return *now })
	check(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

// visit lets one person in, at an instant, with an entitlement that ends.
func visit(t testing.TB, j *Journal, entitlement string, now *time.Time, until time.Time) terminal.Reservation {
	t.Helper()
	d := admission(entitlement)
	d.Instant, d.Until = *now, until
	if entitlement == "" {
		d.Reason = terminal.Override
	}
	r := admit(t, j, d)
	check(t, j.Commit(t.Context(), r, 1))
	return r
}

func prune(t testing.TB, j *Journal, cutoff time.Time, want uint64) {
	t.Helper()
	if n, err := j.Prune(t.Context(), cutoff, Everything, nil, terminal.Staff{}); err != nil || n != want {
		t.Errorf("deleted %d, %v; want %d", n, err, want)
	}
}

func sound(t testing.TB, j *Journal) Report {
	t.Helper()
	report, err := j.Verify(t.Context())
	if err != nil {
		t.Error(err)
	}
	sameAgain(t, j)
	return report
}

func TestPruningKeepsWhatIsStillUsed(t *testing.T) {
	path, now := temp(t), noon
	j := at(t, path, &now)
	day := 24 * time.Hour
	visit(t, j, "day", &now, noon.Add(day))        // 1, 2: over
	visit(t, j, "season", &now, noon.Add(400*day)) // 3, 4
	visit(t, j, "for ever", &now, time.Time{})     // 5, 6: nobody says that it ends
	visit(t, j, "", &now, time.Time{})             // 7, 8: nobody's
	refused := denial()                            // 9
	refused.CardID, refused.BirthDateRefused = "card-1", true
	check(t, j.Record(t.Context(), refused))
	visit(t, j, "prolonged", &now, noon.Add(day)) // 10, 11
	now = noon.Add(30 * day)
	visit(t, j, "season", &now, noon.Add(400*day))   // 12, 13
	visit(t, j, "prolonged", &now, noon.Add(60*day)) // 14, 15

	now = noon.Add(40 * day)
	prune(t, j, noon.Add(20*day), 11) // event 16
	report := sound(t, j)
	if report.Events != 16 || report.Pruned != 11 || !report.PrunedAt.Equal(now) || !report.Latest.Equal(now) {
		t.Errorf("%+v", report)
	}
	for entitlement, n := range map[string]uint32{"day": 0, "season": 2, "for ever": 1, "prolonged": 2} {
		wantUses(t, j, entitlement, n)
	}
	if h := lookUp(t, j, ""); len(h.Passages) != 0 {
		t.Errorf("of nobody: %+v", h)
	}
	prune(t, j, noon.Add(20*day), 0)
	if got, err := j.BirthDateRefused(t.Context(), "card-1"); err != nil || !got {
		t.Errorf("the card would lose its tries: %v, %v", got, err)
	}
	// An entry of which only the index knows can be annulled, and is left in peace
	// when all its events go.
	check(t, j.SettleBy(t.Context(), 3, 0, steward, "")) // event 17
	wantUses(t, j, "season", 1)
	check(t, j.Close())
	if j = at(t, path, &now); j.Reindexed() {
		t.Error("made again at the start")
	}
	sound(t, j)
	now = noon.Add(100 * day)
	prune(t, j, noon.Add(90*day), 6) // 12 to 17; event 18
	if report := sound(t, j); report.Pruned != 17 || report.Events != 18 {
		t.Errorf("%+v", report)
	}
	for entitlement, n := range map[string]uint32{"season": 1, "for ever": 1, "prolonged": 0} {
		wantUses(t, j, entitlement, n)
	}

	// The caller may know more: the list no longer has it.
	now = noon.Add(200 * day)
	asked := map[string]Used{}
	n, err := j.Prune(t.Context(), noon.Add(190*day), Everything, func(u Used) bool {
		asked[u.Entitlement] = u
		return u.Entitlement == "for ever"
	}, steward)
	if err != nil || n != 1 || len(asked) != 2 || !asked["for ever"].Until.IsZero() || !asked["season"].Until.Equal(noon.Add(400*day)) {
		t.Errorf("%d, %v, asked %v", n, err, asked)
	}
	if s := asked["season"]; s.Inside != 1 || s.Last.Before(noon.Add(30*day)) || s.Last.After(noon.Add(31*day)) {
		t.Errorf("%+v", s)
	}
	wantUses(t, j, "for ever", 0)
	wantUses(t, j, "season", 1)
	sound(t, j)
	visit(t, j, "season", &now, noon.Add(400*day))
	sound(t, j)
}

func TestPruningStopsAtWhatIsOpen(t *testing.T) {
	now := noon
	j := at(t, temp(t), &now)
	visit(t, j, "a", &now, time.Time{})
	r := reserve(t, j, "b") // 3
	visit(t, j, "c", &now, time.Time{})
	now = noon.Add(time.Hour)
	prune(t, j, now, 2)
	check(t, j.Doubt(t.Context(), r, terminal.GateFault))
	now = noon.Add(2 * time.Hour)
	prune(t, j, now, 0)
	check(t, j.Commit(t.Context(), r, 1))
	sound(t, j)
	now = noon.Add(3 * time.Hour)
	prune(t, j, now, 6) // 3, 4, 5, the record, doubt, commit
	wantUses(t, j, "b", 1)
	sound(t, j)
	if _, err := j.Prune(t.Context(), now.Add(time.Hour), Everything, nil, terminal.Staff{}); err == nil {
		t.Error("deleted what is yet to happen")
	}
}

// A clock that went back leaves younger events before older ones: only the
// beginning goes.
func TestOnlyAPrefixIsPruned(t *testing.T) {
	now := noon
	j := at(t, temp(t), &now)
	for _, h := range []int{0, 5, 1} {
		d := denial()
		d.Instant = noon.Add(time.Duration(h) * time.Hour)
		check(t, j.Record(t.Context(), d))
	}
	now = noon.Add(6 * time.Hour)
	prune(t, j, noon.Add(3*time.Hour), 1)
	sound(t, j)
}

// More events than one step deletes.
func TestLongJournalIsPrunedInSteps(t *testing.T) {
	now := noon
	path := temp(t)
	load(t, path, 5000, 1)
	j := at(t, path, &now)
	now = noon.Add(1000 * time.Hour)
	prune(t, j, now, 5000)
	if report := sound(t, j); report.Pruned != 5000 || report.Events != 5003 {
		t.Errorf("%+v", report) // with a record of each step
	}
}

// What was exported before ends in the hash that the record has.
func TestDeletionIsProvable(t *testing.T) {
	now := noon
	j := at(t, temp(t), &now)
	fill(t, j)
	check(t, j.Commit(t.Context(), 8, 1))
	var old bytes.Buffer
	check(t, j.Export(t.Context(), &old, Filter{}, JSONLines))
	report, err := j.Verify(t.Context())
	check(t, err)
	keys := trust(t, "gate-1", vectorKey.Public())
	early := sign(t, j) // of event 9, in event 10
	now = noon.Add(time.Hour)
	check(t, j.Record(t.Context(), denial()))
	late := sign(t, j) // of event 11, in event 12
	prune(t, j, now, 12)

	prev, n := firstHash(report.Incarnation), uint64(0)
	for line := range strings.Lines(old.String()) {
		n++
		prev = next(prev, []byte(strings.TrimSuffix(line, "\n")))
	}
	if n != 9 || prev != report.Head {
		t.Errorf("the export has %d events up to %x", n, prev)
	}
	var record Entry
	for e, err := range j.List(t.Context(), Filter{Kinds: []Kind{KindPrune}}) {
		check(t, err)
		record = e
	}
	if record.Through != 12 || record.Deleted != 12 || !record.Cutoff.Equal(now) {
		t.Errorf("%s", record.Bytes)
	}
	for _, msg := range [][]byte{early, late} {
		if _, err := j.VerifyCheckpoint(t.Context(), keys, msg); !errors.Is(err, ErrPruned) || errors.Is(err, ErrCorrupt) {
			t.Errorf("a checkpoint of what is deleted: %v, want ErrPruned", err)
		}
	}
	if r, err := j.VerifySigned(t.Context(), keys); err != nil || r.Checkpoints != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	at := sign(t, j)
	if c, err := j.VerifyCheckpoint(t.Context(), keys, at); err != nil || c.Seq != 13 {
		t.Errorf("%+v, %v", c, err)
	}
}

// The checkpoint of the very event that the chain begins after still tells.
func TestCheckpointAtTheBaseStillVerifies(t *testing.T) {
	now := noon
	j := at(t, temp(t), &now)
	fill(t, j)
	check(t, j.Commit(t.Context(), 8, 1))
	now = noon.Add(time.Hour)
	msg, err := j.Checkpoint(t.Context(), now, vectorKey, "gate-1", "venue") // of event 9
	check(t, err)
	prune(t, j, now, 9)
	keys := trust(t, "gate-1", vectorKey.Public())
	if c, err := j.VerifyCheckpoint(t.Context(), keys, msg); err != nil || c.Seq != 9 {
		t.Errorf("%+v, %v", c, err)
	}
	if r, err := j.VerifySigned(t.Context(), keys); err != nil || r.Checkpoints != 1 || r.Signed != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTamperedDeletionIsFound(t *testing.T) {
	path, now := temp(t), noon
	j := at(t, path, &now)
	fill(t, j)
	check(t, j.Commit(t.Context(), 8, 1))
	refused := denial()
	refused.CardID, refused.BirthDateRefused = "card-1", true
	check(t, j.Record(t.Context(), refused)) // 10
	now = noon.Add(time.Hour)
	late := denial()
	late.Instant = now
	for range 2 {
		check(t, j.Record(t.Context(), late)) // 11, 12
	}
	prune(t, j, now, 10) // event 13
	sound(t, j)
	check(t, j.Close())
	for name, stmt := range map[string]string{
		"more deleted":        `UPDATE base SET seq = 11, hash = (SELECT hash FROM events WHERE seq = 11); DELETE FROM events WHERE seq = 11`,
		"hash":                `UPDATE base SET hash = zeroblob(32)`,
		"nothing deleted":     `UPDATE base SET seq = 0, event = 0`,
		"record gone":         `DELETE FROM events WHERE seq = 13`,
		"other record":        `UPDATE base SET event = 12`,
		"no base":             `DELETE FROM base`,
		"use taken away":      `DELETE FROM carried WHERE entitlement = 'ticket-1'`,
		"use annulled":        `UPDATE carried SET state = 3 WHERE entitlement = 'ticket-1'`,
		"use added":           `INSERT INTO carried VALUES (1, 'ticket-9', '', 0, 0, 0, 2, 1, 0, 1, 1)`,
		"refusal taken away":  `DELETE FROM refused`,
		"refusal added":       `INSERT INTO refused VALUES ('card-2')`,
		"index only":          `DELETE FROM passages WHERE entitlement = 'ticket-1'`,
		"another incarnation": `DROP TRIGGER meta_no_update; UPDATE meta SET value = zeroblob(16)`,
		"event after it":      `UPDATE events SET bytes = replace(bytes, 'not_listed', 'ok') WHERE seq = 12`,
		"record changed":      `UPDATE events SET bytes = replace(bytes, '"deleted":10', '"deleted":11') WHERE seq = 13`,
	} {
		copied := copyJournal(t, path)
		db := raw(t, copied)
		_, err := db.Exec(disarm + stmt)
		check(t, err, db.Close())
		r, err := OpenReader(copied)
		check(t, err)
		if _, err := r.Verify(t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
		check(t, r.Close())
		// An index is not made from carried uses that were changed.
		if name == "use taken away" {
			db := raw(t, copied)
			_, err := db.Exec(`DROP TABLE folded`)
			check(t, err, db.Close())
			if _, err := Open(copied, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: opened: %v", name, err)
			}
		}
	}
}

func TestNobodyElseDeletesEvents(t *testing.T) {
	path, now := temp(t), noon
	j := at(t, path, &now)
	fill(t, j)
	check(t, j.Commit(t.Context(), 8, 1))
	now = noon.Add(time.Hour)
	late := denial()
	late.Instant = now
	check(t, j.Record(t.Context(), late))
	prune(t, j, now, 9)
	db := raw(t, path)
	for _, stmt := range []string{
		`DELETE FROM events`, `DELETE FROM events WHERE seq = 10`,
		`UPDATE base SET seq = 10, hash = (SELECT hash FROM events WHERE seq = 10), event = 11`, // the record is of 9
		`UPDATE base SET seq = 8`, `UPDATE base SET hash = zeroblob(32)`, `DELETE FROM base`, `INSERT OR REPLACE INTO base VALUES (1, 10, x'', 11)`,
	} {
		if _, err := db.Exec(stmt); err == nil {
			t.Errorf("%s: done", stmt)
		}
	}
	sound(t, j)
}

// Personal data that was deleted is in no file of the journal: not in a free
// page, not in the rest of a page, not in the WAL.
func TestPrunedDataIsGoneFromTheFiles(t *testing.T) {
	path, now := temp(t), noon
	j := at(t, path, &now)
	rng := rand.New(rand.NewPCG(1, 2))
	secret := func(i int) string { return fmt.Sprintf("SECRET%08x%06d", rng.Uint32(), i) }
	var secrets []string
	for i := range 1500 { // in random order, so that pages of the index split
		d := admission(secret(i))
		d.CardID, d.Instant, d.Until = "SECRETcard"+d.Entitlement, now, noon.Add(time.Hour)
		secrets = append(secrets, d.Entitlement)
		r := admit(t, j, d)
		switch i % 3 {
		case 0:
			check(t, j.Commit(t.Context(), r, 1))
		case 1:
			check(t, j.Annul(t.Context(), r, terminal.NoPassage))
		default:
			check(t, j.Doubt(t.Context(), r, terminal.GateFault), j.SettleBy(t.Context(), r, 0, terminal.Staff{Name: "SECRETstaff", Role: terminal.Steward}, "SECRETnote"))
		}
		if i%2 == 0 {
			visit(t, j, fmt.Sprintf("season-%08x", rng.Uint32()), &now, time.Time{})
		}
	}
	count := func() (n int) {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
			b, err := os.ReadFile(path + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			n += bytes.Count(b, []byte("SECRET"))
		}
		return n
	}
	if count() < len(secrets) {
		t.Fatal("nothing to be found before")
	}
	now = noon.Add(2 * time.Hour)
	n, err := j.Prune(t.Context(), now, Everything, nil, terminal.Staff{})
	if err != nil || n < 4000 {
		t.Fatal(n, err)
	}
	if left := count(); left != 0 {
		t.Errorf("%d pieces of deleted data are left", left)
	}
	sound(t, j)
	wantUses(t, j, secrets[0], 0)
	check(t, j.Close())
	if left := count(); left != 0 {
		t.Errorf("%d pieces of deleted data are left after closing", left)
	}
}

// Somebody who reads keeps the old pages in the WAL; then Prune says so, and the
// next one completes it.
func TestReaderDelaysTheOverwriting(t *testing.T) {
	path, now := temp(t), noon
	j := at(t, path, &now)
	visit(t, j, "SECRET", &now, noon)
	other := raw(t, path)
	tx, err := other.BeginTx(t.Context(), nil)
	check(t, err)
	var n int
	check(t, tx.QueryRow(`SELECT count(*) FROM events`).Scan(&n))
	now = noon.Add(time.Hour)
	if n, err := j.Prune(t.Context(), now, Everything, nil, terminal.Staff{}); !errors.Is(err, ErrBusy) || n != 2 {
		t.Errorf("%d, %v; want 2 and ErrBusy", n, err)
	}
	check(t, tx.Rollback())
	prune(t, j, now, 0)
	for _, suffix := range []string{"", "-wal"} {
		if b, err := os.ReadFile(path + suffix); err != nil || bytes.Contains(b, []byte("SECRET")) {
			t.Errorf("still in %q, %v", suffix, err)
		}
	}
}

// Property: deleting at any time, between any other acts, changes no use that is
// not over, and leaves an index that its base and events make.
func TestPruningChangesNoUse(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 2))
		now := noon
		j := at(t, temp(t), &now)
		for range 12 {
			for range 15 {
				act(t, j, rng, &now)
			}
			before := map[string]terminal.History{}
			for n := range 8 {
				before[fmt.Sprint("ticket-", n)] = lookUp(t, j, fmt.Sprint("ticket-", n))
			}
			over := rng.IntN(8)
			_, err := j.Prune(t.Context(), now.Add(-time.Duration(rng.IntN(600))*time.Second), Everything, func(u Used) bool {
				return u.Entitlement == fmt.Sprint("ticket-", over)
			}, terminal.Staff{})
			check(t, err)
			for entitlement, want := range before {
				got := lookUp(t, j, entitlement)
				gone := entitlement == fmt.Sprint("ticket-", over) && got.Last == 0 && len(got.Passages) == 0
				for i := range want.Passages { // where it was goes with its event
					if i < len(got.Passages) && got.Passages[i].Gate == "" {
						want.Passages[i].Gate = ""
					}
				}
				if !gone && (got.Last != want.Last || !slices.Equal(got.Passages, want.Passages)) {
					t.Errorf("seed %d, %s\nbefore %+v\nafter  %+v", seed, entitlement, want, got)
				}
			}
			sound(t, j)
		}
	}
}

func pruneOverAndOver(dir string) error {
	now := noon
	j, err := Open(filepath.Join(dir, "journal.db"), func() time.Time { return now })
	if err != nil {
		return err
	}
	ctx := context.Background()
	for i := 0; ; i++ {
		now = now.Add(time.Minute)
		d := admission("season")
		d.Instant = now
		h, err := j.History(ctx, "season")
		if err != nil {
			return err
		}
		r, err := j.Reserve(ctx, d, h.Last)
		if err == nil {
			err = j.Commit(ctx, r, 1)
		}
		if err == nil {
			_, err = j.Prune(ctx, now.Add(-2*time.Minute), Everything, nil, terminal.Staff{})
		}
		if err != nil {
			return err
		}
		fmt.Println(i + 1)
	}
}

// Killed at any moment, a journal that deletes is the old one or the new one.
func TestKilledPruningLeavesOldOrNew(t *testing.T) {
	for i := range 8 {
		dir := t.TempDir()
		cmd := child(t, "pruning", dir)
		out, err := cmd.StdoutPipe()
		check(t, err, cmd.Start())
		lines, told := bufio.NewScanner(out), uint32(0)
		for lines.Scan() {
			if told++; told == uint32(10+7*i) {
				time.Sleep(time.Duration(i) * 700 * time.Microsecond)
				check(t, cmd.Process.Kill())
				break
			}
		}
		for lines.Scan() { // what it still said
			told++
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("child ended by itself")
		}
		now := noon.Add(1000 * time.Hour)
		j := at(t, filepath.Join(dir, "journal.db"), &now)
		if j.Reindexed() {
			t.Error("the index did not fit")
		}
		report := sound(t, j)
		if n := lookUp(t, j, "season").Entered(); n < told || n > told+1 || report.Pruned == 0 {
			t.Errorf("%d uses of %d are known; %+v", n, told, report)
		}
		check(t, j.Close())
	}
}
