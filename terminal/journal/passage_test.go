package journal

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// Twelve lanes let a party of 40 in, one at a time, each on what it has just
// read: exactly 40 get in, whoever lost read again.
func TestNothingIsLostOrDoubleAmongLanes(t *testing.T) {
	j := open(t, temp(t))
	const lanes, size = 12, 40
	var done sync.WaitGroup
	for range lanes {
		done.Go(func() {
			for {
				h, err := j.History(t.Context(), "party")
				if err != nil {
					t.Error(err)
					return
				}
				if h.Entered() >= size {
					return
				}
				r, err := j.Reserve(t.Context(), admission("party"), h.Last)
				if errors.Is(err, terminal.ErrUsesChanged) {
					continue
				}
				if err == nil {
					err = j.Commit(t.Context(), r, 1)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
	wantUses(t, j, "party", size)
	if h := lookUp(t, j, "party"); len(h.Passages) != size {
		t.Errorf("%d passages, want %d", len(h.Passages), size)
	}
	if r, err := j.Verify(t.Context()); err != nil || r.Events != 2*size || r.Open != 0 {
		t.Errorf("%+v, %v; want %d events: who loses writes nothing", r, err, 2*size)
	}
}

// Whatever happens to an entitlement, also what takes nothing, makes an older
// history worthless.
func TestEveryEventOfAnEntitlementChangesItsHistory(t *testing.T) {
	j := open(t, temp(t))
	seen := []uint64{0}
	r := reserve(t, j, "t")
	for _, step := range []func() error{
		func() error { return j.Doubt(t.Context(), r, terminal.GateFault) },
		func() error { return j.Commit(t.Context(), r, 1) },
		func() error { return j.SettleBy(t.Context(), r, 0, steward, "") },
	} {
		seen = append(seen, lookUp(t, j, "t").Last)
		check(t, step())
		for _, old := range seen {
			if _, err := j.Reserve(t.Context(), admission("t"), old); !errors.Is(err, terminal.ErrUsesChanged) {
				t.Errorf("on a history up to event %d: %v, want ErrUsesChanged", old, err)
			}
		}
	}
	if h := lookUp(t, j, "t"); h.Last != 4 || len(h.Passages) != 0 {
		t.Errorf("%+v", h)
	}
	// Other entitlements, and people without one, do not get in the way.
	reserve(t, j, "u")
	d := admission("")
	d.Reason = terminal.Override
	for range 2 {
		if _, err := j.Reserve(t.Context(), d, 0); err != nil {
			t.Error(err)
		}
	}
	reserve(t, j, "t")
}

func TestFewerPeopleFreeTheRest(t *testing.T) {
	j := open(t, temp(t))
	d := party("t", 5)
	d.Reentry = 2
	r := admit(t, j, d)
	wantUses(t, j, "t", 5)
	check(t, j.Passed(t.Context(), r, 2))
	want := terminal.Passage{Reservation: r, At: noon, Zone: "hall", People: 5, Reentry: 2, Open: true, Passed: 2, Gate: "gate-1"}
	if h := lookUp(t, j, "t"); len(h.Passages) != 1 || h.Passages[0] != want {
		t.Errorf("got  %+v\nwant %+v", h.Passages, want)
	}
	check(t, j.Commit(t.Context(), r, 3))
	want.People, want.Passed, want.Open = 3, 3, false
	if h := lookUp(t, j, "t"); h.Passages[0] != want {
		t.Errorf("got  %+v\nwant %+v", h.Passages, want)
	}
	wantUses(t, j, "t", 3)
}

func TestMorePeopleThanReservedAreRefused(t *testing.T) {
	j := open(t, temp(t))
	r := admit(t, j, party("t", 3))
	check(t, j.Passed(t.Context(), r, 2))
	for name, err := range map[string]error{
		"passed": j.Passed(t.Context(), r, 4), "commit": j.Commit(t.Context(), r, 4),
		"fewer passed": j.Passed(t.Context(), r, 1), "fewer than passed": j.Commit(t.Context(), r, 1), "nobody": j.Commit(t.Context(), r, 0),
	} {
		if !errors.Is(err, ErrPeople) {
			t.Errorf("%s: %v, want ErrPeople", name, err)
		}
	}
	if r, err := j.Verify(t.Context()); err != nil || r.Events != 2 {
		t.Errorf("%d events, %v; want 2: what is refused writes nothing", r.Events, err)
	}
	check(t, j.Commit(t.Context(), r, 3))
}

func TestOnlyStaffAnnulsACommittedEntry(t *testing.T) {
	j := open(t, temp(t))
	r := reserve(t, j, "t")
	check(t, j.Commit(t.Context(), r, 1))
	if err := j.Annul(t.Context(), r, terminal.GateFault); !errors.Is(err, ErrSettled) {
		t.Errorf("by the lane: %v, want ErrSettled", err)
	}
	if err := j.SettleBy(t.Context(), r, 0, terminal.Staff{}, "who am I"); err == nil {
		t.Error("annulled by nobody")
	}
	wantUses(t, j, "t", 1)
	check(t, j.SettleBy(t.Context(), r, 0, steward, "went home <ill>"))
	wantUses(t, j, "t", 0)
	if err := j.SettleBy(t.Context(), r, 0, steward, ""); !errors.Is(err, ErrSettled) {
		t.Errorf("twice: %v, want ErrSettled", err)
	}
	const want = `{"seq":3,"kind":"annul","at":"2026-04-01T12:00:01.000Z","reservation":1,"reason":"annulled","staff":"Sato","role":"steward","note":"went home <ill>"}`
	for e, err := range j.List(t.Context(), Filter{After: 2}) {
		if err != nil || string(e.Bytes) != want {
			t.Errorf("got %s, %v", e.Bytes, err)
		}
	}
}

// dump is every row of a table.
func dump(t testing.TB, db querier, table string) (rows []string) {
	t.Helper()
	check(t, each(t.Context(), db, `SELECT * FROM `+table+` ORDER BY 1`, func(scan scanner) error {
		v := make([]any, 11)
		dest := make([]any, len(v))
		for i := range v {
			dest[i] = &v[i]
		}
		n := map[string]int{"passages": 11, "sums": 4, "folded": 4, "carried": 11, "base": 4}[table]
		if err := scan(dest[:n]...); err != nil {
			return err
		}
		rows = append(rows, fmt.Sprint(v[:n]...))
		return nil
	}))
	return rows
}

// sameAgain checks that the index is what its events make of it.
func sameAgain(t testing.TB, j *Journal) {
	t.Helper()
	var live, again [3][]string
	tables := []string{"passages", "sums", "folded"}
	for i, table := range tables {
		live[i] = dump(t, j.db, table)
	}
	tx, err := j.w.BeginTx(t.Context(), nil)
	check(t, err)
	defer tx.Rollback()
	_, err = rebuild(t.Context(), tx)
	check(t, err)
	for i, table := range tables {
		if again[i] = dump(t, tx, table); !slices.Equal(live[i], again[i]) {
			t.Errorf("%s\nlive  %q\nagain %q", table, live[i], again[i])
		}
	}
}

// Property: whatever was done, in whatever order, and whatever was refused, the
// index that was kept is the one that the events make, and verifies.
func TestIndexIsWhatTheEventsMake(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		now := noon
		path := temp(t)
		j, err := Open(path, func() time.Time { return now })
		check(t, err)
		for range 120 {
			act(t, j, rng, &now)
		}
		sameAgain(t, j)
		before := j.Latest()
		check(t, j.Close())
		j, err = Open(path, func() time.Time { return now })
		check(t, err)
		if j.Reindexed() || j.Latest().Before(before) {
			t.Errorf("seed %d: reindexed %v, latest %v then %v", seed, j.Reindexed(), before, j.Latest())
		}
		if _, err := j.Verify(t.Context()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		sameAgain(t, j)
		check(t, j.Close())
	}
}

// act does something to a journal that it may refuse.
func act(t *testing.T, j *Journal, rng *rand.Rand, now *time.Time) {
	t.Helper()
	*now = now.Add(time.Duration(rng.IntN(120)-10) * time.Second)
	ctx := t.Context()
	n := rng.IntN(8)
	d := party(fmt.Sprint("ticket-", n), uint32(1+rng.IntN(4)))
	d.Instant, d.Reentry = *now, uint32(rng.IntN(5))
	if n > 3 {
		d.Until = noon.Add(time.Duration(n) * 10 * time.Minute)
	}
	if rng.IntN(3) == 0 {
		d.Direction = terminal.Exit
	}
	if rng.IntN(10) == 0 {
		d.Entitlement, d.Reason = "", terminal.Override
	}
	refusal := denial()
	refusal.Instant, refusal.CardID, refusal.BirthDateRefused = *now, fmt.Sprint("card-", n), rng.IntN(4) == 0
	r := terminal.Reservation(1 + rng.Uint64N(lastNumber(t, j)+2))
	people := uint32(rng.IntN(5))
	var err error
	switch rng.IntN(9) {
	case 0, 1, 2:
		seen := lookUp(t, j, d.Entitlement).Last
		if rng.IntN(8) == 0 {
			seen++
		}
		_, err = j.Reserve(ctx, d, seen)
	case 3:
		err = j.Passed(ctx, r, people)
	case 4:
		err = j.Commit(ctx, r, people)
	case 5:
		err = j.Annul(ctx, r, terminal.NoPassage)
	case 6:
		err = j.SettleBy(ctx, r, 0, steward, "")
	case 7:
		err = j.Doubt(ctx, r, terminal.GateFault)
	case 8:
		err = j.Record(ctx, refusal)
	}
	if err != nil && !errors.Is(err, ErrSettled) && !errors.Is(err, ErrPeople) && !errors.Is(err, terminal.ErrUsesChanged) {
		t.Fatal(err)
	}
}

func lastNumber(t testing.TB, j *Journal) uint64 {
	t.Helper()
	s, err := loadState(t.Context(), j.db)
	check(t, err)
	return s.seq
}

// plan is how SQLite answers a query.
func plan(t testing.TB, db *sql.DB, query string, args ...any) string {
	t.Helper()
	var steps []string
	check(t, each(t.Context(), db, `EXPLAIN QUERY PLAN `+query, func(scan scanner) error {
		var step string
		var ignored int
		err := scan(&ignored, &ignored, &ignored, &step)
		steps = append(steps, step)
		return err
	}, args...))
	return strings.Join(steps, "; ")
}

// What a tap reads is bounded by its own entitlement, what the start reads by
// what is open.
func TestQueriesUseTheirIndexes(t *testing.T) {
	j := open(t, temp(t))
	for _, tc := range []struct {
		query, want string
		args        []any
	}{
		{historyOf, "SEARCH p USING INDEX passages_entitlement (entitlement=?); SEARCH e USING INTEGER PRIMARY KEY (rowid=?)", []any{"t"}},
		{lastOf, "SEARCH passages USING INDEX passages_entitlement (entitlement=?)", []any{"t"}},
		{openOnes, "SCAN passages USING INDEX passages_open", nil},
		{firstOpen, "SEARCH passages USING INDEX passages_open", nil},
		{rateOf, "SEARCH passages USING INDEX passages_at (at>? AND at<?)", []any{0, 1, 1}},
		{occupancySince, "SEARCH passages USING INDEX passages_at (at>?)", []any{0}},
		{sumsOf, "SEARCH passages USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)", []any{0, 1}},
	} {
		if got := plan(t, j.db, tc.query, tc.args...); !strings.Contains(got, tc.want) || tc.query == historyOf && strings.Contains(got, "ORDER BY") {
			t.Errorf("%s\ngot  %s\nwant %s", tc.query, got, tc.want)
		}
	}
}
