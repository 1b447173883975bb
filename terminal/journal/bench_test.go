package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// load makes a journal of n events, pairs of reserve and commit, of
// entitlements with so many uses each: what the agent would have written, without
// waiting for the disk.
func load(t testing.TB, path string, n, uses int) {
	t.Helper()
	check(t, create(path, vectorIncarnation))
	db, err := openDB(path, "mode=rw&_journal_mode=OFF&_synchronous=OFF&_cache_size=-400000")
	check(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	ctx := context.Background()
	_, err = db.Exec(`DROP INDEX passages_entitlement; DROP TRIGGER events_no_gap`)
	check(t, err)
	tx, err := db.Begin()
	check(t, err)
	event, err := tx.Prepare(`INSERT INTO events VALUES (?, ?, ?)`)
	check(t, err)
	passage, err := tx.Prepare(`INSERT INTO passages VALUES (?, ?, 'hall', 0, ?, 0, 2, 1, 0, 1, ?)`)
	check(t, err)
	s := state{hash: firstHash(vectorIncarnation)}
	put := func(e *Event) {
		s.seq++
		e.Seq, s.latest = s.seq, e.At.UnixMilli()
		bytes, err := e.encode()
		check(t, err)
		s.hash = next(s.hash, bytes)
		_, err = event.Exec(s.seq, string(bytes), s.hash[:])
		check(t, err)
	}
	for i := range n / 2 {
		now := instant(noon.Add(time.Duration(i) * 100 * time.Millisecond))
		entitlement := fmt.Sprintf("ticket-%08d", i/uses)
		put(&Event{Kind: KindReserve, At: now, Gate: "g", Verdict: "admit", Reason: terminal.OK, Entitlement: entitlement, Zone: "hall", People: 1})
		put(&Event{Kind: KindCommit, At: now, Reservation: s.seq, People: 1})
		_, err := passage.Exec(s.seq-1, entitlement, now.UnixMilli(), s.seq)
		check(t, err)
	}
	_, err = tx.Exec(`CREATE INDEX passages_entitlement ON passages (entitlement)`)
	check(t, err)
	_, err = tx.Exec(`INSERT INTO sums `+sumsOf, 0, lastBlock)
	check(t, err, s.store(ctx, tx))
	const trigger = `CREATE TRIGGER events_no_gap BEFORE INSERT ON events
		WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
		BEGIN SELECT raise(ABORT, 'events are appended in sequence'); END;`
	_, err = tx.Exec(trigger)
	check(t, err, tx.Commit())
}

func TestLoadedJournalIsSound(t *testing.T) {
	path := temp(t)
	load(t, path, 2000, 10)
	j := open(t, path)
	if r := sound(t, j); r.Events != 2000 || j.Reindexed() {
		t.Errorf("%+v", r)
	}
	wantUses(t, j, "ticket-00000003", 10)
}

// sizes are those of journals to measure. 10 million events take 3 GB and some
// minutes: set GATE_JOURNAL_BENCH_DIR to a folder that has room, where the file
// is kept for the next time.
func sizes(b *testing.B, bench func(b *testing.B, j *Journal, n int)) {
	dir := os.Getenv("GATE_JOURNAL_BENCH_DIR")
	for _, n := range []int{1e3, 1e5, 1e7} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "journal.db")
			if n > 1e6 {
				if dir == "" {
					b.Skip("GATE_JOURNAL_BENCH_DIR names no folder with room for 3 GB")
				}
				path = filepath.Join(dir, fmt.Sprintf("journal-%d.db", n))
			}
			if _, err := os.Stat(path); err != nil {
				load(b, path, n, 10)
			}
			bench(b, open(b, path), n)
		})
	}
}

// A tap: what is known of a ticket, the entry, its settlement.
func BenchmarkReserveCommit(b *testing.B) {
	sizes(b, func(b *testing.B, j *Journal, n int) {
		for i := 0; b.Loop(); i++ { // tickets from all over the journal, of ten uses each
			check(b, j.Commit(b.Context(), reserve(b, j, fmt.Sprintf("ticket-%08d", i*7919%(n/20))), 1))
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	sizes(b, func(b *testing.B, j *Journal, _ int) {
		path := j.path
		check(b, j.Close())
		for b.Loop() {
			j, err := Open(path, clock)
			check(b, err, j.Close())
		}
	})
}

// What a pass of a thousand entries costs, beside a ticket of one.
func BenchmarkHistory(b *testing.B) {
	for _, uses := range []int{1, 1000} {
		b.Run(strconv.Itoa(uses), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "journal.db")
			load(b, path, 100_000, uses)
			j := open(b, path)
			for b.Loop() {
				if h := lookUp(b, j, "ticket-00000007"); len(h.Passages) != uses {
					b.Fatal(len(h.Passages))
				}
			}
		})
	}
}

func BenchmarkReserveOfLongHistory(b *testing.B) {
	path := filepath.Join(b.TempDir(), "journal.db")
	load(b, path, 100_000, 1000)
	j := open(b, path)
	for b.Loop() {
		r := reserve(b, j, "ticket-00000007")
		check(b, j.Annul(b.Context(), r, terminal.NoPassage))
	}
}

func BenchmarkVerify(b *testing.B) {
	sizes(b, func(b *testing.B, j *Journal, _ int) {
		for b.Loop() {
			_, err := j.Verify(b.Context())
			check(b, err)
		}
	})
}

// A step of a deletion, which a tap may have to wait for, where so many passages
// outlive their events: none, and each of 50 000.
func BenchmarkPruneStep(b *testing.B) {
	for _, kept := range []bool{false, true} {
		b.Run(fmt.Sprint("carried=", kept), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				path := filepath.Join(b.TempDir(), "journal.db")
				load(b, path, 104_000, 10)
				now := noon.Add(1000 * time.Hour)
				j := at(b, path, &now)
				over := func(Used) bool { return !kept }
				for range 50 {
					_, err := j.prune(b.Context(), instant(now), Everything, over, terminal.Staff{})
					check(b, err)
				}
				b.StartTimer()
				n, err := j.prune(b.Context(), instant(now), Everything, over, terminal.Staff{})
				if err != nil || n == 0 {
					b.Fatal(n, err)
				}
			}
		})
	}
}
