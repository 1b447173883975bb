package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

var noon = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

// clock dates settlements in tests.
func clock() time.Time { return noon.Add(time.Second) }

func open(t testing.TB, path string) *Journal {
	t.Helper()
	j, err := Open(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil && !errors.Is(err, os.ErrClosed) { // some tests close it themselves
			t.Errorf("closing: %v", err)
		}
	})
	return j
}

func temp(t testing.TB) string { return filepath.Join(t.TempDir(), "journal.db") }

func denial() terminal.Decision {
	return terminal.Decision{Verdict: terminal.Deny, Reason: terminal.NotListed, Instant: noon, ListEpoch: 1, ListSeq: 7}
}

func admission(entitlement string) terminal.Decision {
	return terminal.Decision{
		Verdict: terminal.Admit, Reason: terminal.OK, Method: "tap-use", CardID: strings.Repeat("c4", 32),
		Gate: "gate-1", Entitlement: entitlement, Instant: noon, ListEpoch: 1, ListSeq: 7,
		Zone: "hall", People: 1,
		Elapsed: 431 * time.Millisecond, Warnings: []terminal.Reason{terminal.DataStale},
	}
}

// party is an admission of people.
func party(entitlement string, people uint32) terminal.Decision {
	d := admission(entitlement)
	d.People = people
	return d
}

// leaving is an exit of one person.
func leaving(entitlement string) terminal.Decision {
	d := admission(entitlement)
	d.Reason, d.Direction = terminal.Leaving, terminal.Exit
	return d
}

func lookUp(t testing.TB, j *Journal, entitlement string) terminal.History {
	t.Helper()
	h, err := j.History(t.Context(), entitlement)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// admit reserves an admission on what is known of its entitlement.
func admit(t testing.TB, j *Journal, d terminal.Decision) terminal.Reservation {
	t.Helper()
	r, err := j.Reserve(t.Context(), d, lookUp(t, j, d.Entitlement).Last)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reserve(t testing.TB, j *Journal, entitlement string) terminal.Reservation {
	t.Helper()
	return admit(t, j, admission(entitlement))
}

// check fails the test on the first error.
func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantUses(t testing.TB, j *Journal, entitlement string, want uint32) {
	t.Helper()
	if n := lookUp(t, j, entitlement).Entered(); n != want {
		t.Errorf("%d people of %s came in, want %d", n, entitlement, want)
	}
}

// fill writes one event of every kind and returns their number.
func fill(t testing.TB, j *Journal) uint64 {
	t.Helper()
	ctx := t.Context()
	steps := []error{
		j.Started(ctx, noon, "gate-1-left", "venue", "v0.1.0"),
		j.ListApplied(ctx, noon, "venue", 1, 7, Hash{0xAB}),
		j.Record(ctx, denial()),
		j.Commit(ctx, reserve(t, j, "ticket-1"), 1),
		j.Annul(ctx, reserve(t, j, "ticket-2"), terminal.GateFault),
	}
	reserve(t, j, "ticket-3")
	check(t, steps...)
	return 8
}

func TestEveryEventIsChained(t *testing.T) {
	j := open(t, temp(t))
	n := fill(t, j)
	report, err := j.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Events != n || report.Open != 1 || !report.Latest.Equal(clock()) || !j.Latest().Equal(clock()) {
		t.Errorf("report %+v, latest %v", report, j.Latest())
	}
	prev, seq := firstHash(report.Incarnation), uint64(0)
	for e, err := range j.List(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		seq++
		if prev = next(prev, e.Bytes); e.Hash != prev || e.Seq != seq {
			t.Fatalf("event %d (its seq %d) does not follow", seq, e.Seq)
		}
	}
	if seq != n || prev != report.Head {
		t.Errorf("listed %d events up to %x, want %d up to %x", seq, prev, n, report.Head)
	}
}

func TestEmptyJournalVerifies(t *testing.T) {
	j := open(t, temp(t))
	report, err := j.Verify(t.Context())
	if err != nil || report.Events != 0 || report.Head != firstHash(report.Incarnation) {
		t.Errorf("%+v, %v", report, err)
	}
	if !j.Latest().IsZero() || !j.Fresh() {
		t.Errorf("latest %v, fresh %v", j.Latest(), j.Fresh())
	}
}

func TestDecisionIsReadBack(t *testing.T) {
	j := open(t, temp(t))
	reserve(t, j, "ticket-1")
	for e, err := range j.List(t.Context(), Filter{}) {
		const want = `{"seq":1,"kind":"reserve","at":"2026-04-01T12:00:00.000Z","gate":"gate-1","verdict":"admit","reason":"ok","method":"tap-use",` +
			`"card_id":"c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4","entitlement":"ticket-1",` +
			`"list_epoch":1,"list_seq":7,"elapsed_ms":431,"warnings":["data_stale"],"zone":"hall","people":1}`
		if err != nil || string(e.Bytes) != want {
			t.Errorf("got  %s\nwant %s\n%v", e.Bytes, want, err)
		}
	}
}

func TestFilterChooses(t *testing.T) {
	j := open(t, temp(t))
	fill(t, j)
	for _, tc := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"all", Filter{}, "1 2 3 4 5 6 7 8"},
		{"after", Filter{After: 6}, "7 8"},
		{"kinds", Filter{Kinds: []Kind{KindCommit, KindAnnul}}, "5 7"},
		{"entitlement", Filter{Entitlement: "ticket-2"}, "6"},
		{"since", Filter{Since: clock()}, "5 7"},
		{"until", Filter{Until: clock(), Kinds: []Kind{KindStart, KindCommit}}, "1"},
	} {
		var got []string
		for e, err := range j.List(t.Context(), tc.filter) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(e.Seq))
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, s, tc.want)
		}
	}
}

func TestLongJournalIsListedWhole(t *testing.T) {
	j := open(t, temp(t))
	const n = 600 // more than two pages
	for range n {
		if err := j.Record(t.Context(), denial()); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for _, err := range j.List(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen++
	}
	if seen != n {
		t.Errorf("listed %d of %d", seen, n)
	}
}

func TestOnlyOneLaneTakesTheLastUse(t *testing.T) {
	j := open(t, temp(t))
	const lanes = 8
	errs := make([]error, lanes)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range lanes {
		done.Go(func() {
			start.Wait()
			_, errs[i] = j.Reserve(t.Context(), admission("last"), 0)
		})
	}
	start.Done()
	done.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, terminal.ErrUsesChanged):
			t.Errorf("a lane that lost: %v, want ErrUsesChanged", err)
		}
	}
	if won != 1 {
		t.Errorf("%d lanes got in, want 1", won)
	}
	wantUses(t, j, "last", 1)
	if r, err := j.Verify(t.Context()); err != nil || r.Events != 1 {
		t.Errorf("%d events, %v; want 1: who loses writes nothing", r.Events, err)
	}
}

func TestAnnulledEntryDoesNotCount(t *testing.T) {
	j := open(t, temp(t))
	first := reserve(t, j, "t")
	wantUses(t, j, "t", 1)
	if err := j.Annul(t.Context(), first, terminal.GateFault); err != nil {
		t.Fatal(err)
	}
	wantUses(t, j, "t", 0)
	second := reserve(t, j, "t")
	if err := j.Commit(t.Context(), second, 1); err != nil {
		t.Fatal(err)
	}
	wantUses(t, j, "t", 1)
	wantUses(t, j, "other", 0)
}

func TestReservationIsSettledOnce(t *testing.T) {
	j := open(t, temp(t))
	committed, annulled := reserve(t, j, "a"), reserve(t, j, "b")
	ctx := t.Context()
	if err := errors.Join(j.Commit(ctx, committed, 1), j.Annul(ctx, annulled, terminal.GateFault), j.Record(ctx, denial())); err != nil {
		t.Fatal(err)
	}
	const decision = terminal.Reservation(5)
	for _, r := range []terminal.Reservation{committed, annulled, decision, 0, 99} {
		if err := j.Commit(ctx, r, 1); !errors.Is(err, ErrSettled) {
			t.Errorf("commit of %d: %v, want ErrSettled", r, err)
		}
		if err := j.Annul(ctx, r, terminal.GateFault); !errors.Is(err, ErrSettled) {
			t.Errorf("annulment of %d: %v, want ErrSettled", r, err)
		}
	}
	if r, err := j.Verify(ctx); err != nil || r.Events != 5 {
		t.Errorf("%d events, %v; want 5: what is refused writes nothing", r.Events, err)
	}
}

func TestAdmissionIsNeverOnlyRecorded(t *testing.T) {
	j := open(t, temp(t))
	if err := j.Record(t.Context(), admission("t")); err == nil {
		t.Error("an admission was recorded without a reservation")
	}
	for name, d := range map[string]terminal.Decision{
		"denial": denial(), "no entitlement": admission(""), "not UTF-8": admission("\xff"), "zero": {},
		"no instant": {Verdict: terminal.Admit, Entitlement: "t", People: 1}, "nobody": party("t", 0),
	} {
		if _, err := j.Reserve(t.Context(), d, 0); err == nil {
			t.Errorf("%s: reserved", name)
		}
	}
	if r, err := j.Verify(t.Context()); err != nil || r.Events != 0 {
		t.Errorf("%d events, %v; want none", r.Events, err)
	}
}

func TestCancelledReserveWritesNothing(t *testing.T) {
	j := open(t, temp(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Reserve(ctx, admission("t"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	wantUses(t, j, "t", 0)
	reserve(t, j, "t")
}

func TestLatestNeverGoesBack(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	for _, offset := range []time.Duration{0, 2 * time.Hour, -24 * time.Hour, 1500 * time.Microsecond} {
		d := denial()
		d.Instant = noon.Add(offset)
		if err := j.Record(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	want := noon.Add(2 * time.Hour)
	if !j.Latest().Equal(want) {
		t.Errorf("latest %v, want %v", j.Latest(), want)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j = open(t, path); !j.Latest().Equal(want) || j.Fresh() || j.Reindexed() {
		t.Errorf("after reopening: latest %v, fresh %v, reindexed %v", j.Latest(), j.Fresh(), j.Reindexed())
	}
}

// The clock that gave an instant must not stand behind the journal's floor.
func TestLatestIsRoundedDown(t *testing.T) {
	j := open(t, temp(t))
	d := denial()
	d.Instant = noon.Add(1999 * time.Microsecond)
	if err := j.Record(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if want := noon.Add(time.Millisecond); !j.Latest().Equal(want) {
		t.Errorf("latest %v, want %v", j.Latest(), want)
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	if _, err := Open(path, nil); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want ErrInUse with the file", err)
	}
	reserve(t, j, "t") // the first one works on
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestJournalIsReadWhileAnAgentHasIt(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	reserve(t, j, "t")
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint64{1, 2} {
		if report, err := r.Verify(t.Context()); err != nil || report.Events != want {
			t.Errorf("reader sees %d events, %v; want %d", report.Events, err, want)
		}
		for range r.List(t.Context(), Filter{}) {
			reserve(t, j, "t") // the agent writes while somebody lists
			break
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	wantUses(t, j, "t", 3)
}

func TestClosedJournalIsRead(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	n := fill(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := r.Verify(t.Context()); err != nil || report.Events != n {
		t.Errorf("%d events, %v; want %d", report.Events, err, n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := OpenReader(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
	if _, err := os.Stat(path + "x"); err == nil {
		t.Error("reading made a journal")
	}
}

func TestJournalIsClosedToOthers(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	reserve(t, j, "t")
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if fi, err := os.Stat(path + suffix); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", suffix, fi, err)
		}
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("the draft is still there")
	}
}

func TestPathMayHoldAnyCharacter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c%20d e&mode=memory 門.db")
	j := open(t, path)
	reserve(t, j, "t")
	if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
		t.Errorf("no journal at %s: %v", path, err)
	}
}

func TestAbandonedLockIsBounded(t *testing.T) {
	path := temp(t)
	j := open(t, path)
	other := raw(t, path)
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := j.Reserve(t.Context(), admission("t"), 0); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("waited %v", took)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	reserve(t, j, "t")
}

// raw opens the database as any program would.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := openDB(path, "mode=rw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
