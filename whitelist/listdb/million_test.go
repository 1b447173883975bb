package listdb

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/procfs"
	"github.com/gate-agent/gate-agent/whitelist"
)

// BenchmarkMillion is a list at its largest: 1,000,000 rows of two RSA-2048 keys, as a
// snapshot, and a delta of 1 % of them, of which half changed, a quarter is new and a
// quarter gone. The store looks into no row, so random bytes stand for sealed ones. It
// wants 5 GB of the disk in GATE_LISTDB_BENCH_DIR, and one iteration:
// -bench Million -benchtime 1x.
func BenchmarkMillion(b *testing.B) {
	const rows, churn = 1_000_000, 10_000
	where, ctx := os.Getenv("GATE_LISTDB_BENCH_DIR"), context.Background()
	if where == "" {
		b.Skip("GATE_LISTDB_BENCH_DIR names no folder")
	}
	dir, err := os.MkdirTemp(where, "million")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)

	var set whitelist.Set
	snapshot, delta := whitelist.Snapshot{Seq: 1}, whitelist.Delta{From: 1, To: 2}
	snapshot.SHA256, snapshot.Size = writeRows(b, dir, "snapshot", func(yield func(whitelist.SealedRow, error) bool) {
		for n := range rows {
			r := randomRow(2*n, 1)
			set.Add(r)
			if !yield(r, nil) {
				return
			}
		}
	})
	sign := func(seq uint64, deltas ...whitelist.Delta) []byte {
		m := manifest(seq)
		m.ScopeKeyCheck, m.Rows = scopeKey(b).Check(), rows
		m.Set, m.Snapshot, m.Deltas = whitelist.SetID{Seq: seq, Digest: set.Digest()}, snapshot, deltas
		signed, err := m.Sign(listKey, nil)
		if err != nil {
			b.Fatal(err)
		}
		return signed
	}
	first := sign(1)
	delta.SHA256, delta.Size = writeRows(b, dir, "delta", func(yield func(whitelist.SealedRow, error) bool) {
		for i := range churn {
			n := 2 * i * (rows / churn)
			r := randomRow(n, 2)
			switch i % 4 {
			case 0: // gone
				r.Sealed = nil
			case 1: // new
				r = randomRow(n+1, 2)
			}
			if i%4 != 1 {
				set.Remove(randomRow(n, 1))
			}
			if i%4 != 0 {
				set.Add(r)
			}
			if !yield(r, nil) {
				return
			}
		}
	})
	second := sign(2, delta)

	for b.Loop() {
		s, err := Open(config(b, filepath.Join(dir, "state")))
		if err != nil {
			b.Fatal(err)
		}
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"snapshot", func() error {
				_, err := s.Apply(ctx, first, now, whitelist.Files{Snapshot: openFile(b, dir, "snapshot")}, nil)
				return err
			}},
			{"delta", func() error {
				_, err := s.Apply(ctx, second, now, whitelist.Files{Deltas: []io.Reader{openFile(b, dir, "delta")}}, nil)
				return err
			}},
			{"reopen", func() error {
				s.Close()
				if s, err = Open(config(b, s.cfg.Dir)); err != nil {
					return err
				}
				v, err := s.Current()
				if err == nil {
					v.Release()
				}
				return err
			}},
			{"merge", func() error {
				_, err := s.Merge(ctx, true)
				return err
			}},
			{"verify", func() error { return s.Verify(ctx) }},
		} {
			debug.FreeOSMemory()
			os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the highest RSS, proc(5)
			taps := startTapping(b, s.cfg.Dir, rows)
			wrote, began := cost(b, procfs.Written), time.Now()
			if err := step.do(); err != nil {
				b.Fatalf("%s: %v", step.name, err)
			}
			b.ReportMetric(time.Since(began).Seconds(), step.name+"_s")
			p99, most := taps()
			b.ReportMetric(p99.Seconds()*1000, step.name+"_tap_p99_ms")
			b.ReportMetric(most.Seconds()*1000, step.name+"_tap_max_ms")
			b.ReportMetric(cost(b, procfs.PeakRSS)/1e6, step.name+"_rss_MB")
			b.ReportMetric((cost(b, procfs.Written)-wrote)/1e6, step.name+"_written_MB")
		}
		if err := errors.Join(s.Close(), os.RemoveAll(s.cfg.Dir)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(delta.Size)/1e6, "delta_MB")
	b.ReportMetric(float64(snapshot.Size)/1e6, "snapshot_MB")
}

// startTapping has people come every few milliseconds to a gate on the same disk: each
// is looked up, and written down durably. taps ends it and tells how long that took.
func startTapping(b *testing.B, dir string, rows int) (taps func() (p99, most time.Duration)) {
	b.Helper()
	s, err := Open(config(b, dir))
	if err != nil {
		b.Fatal(err)
	}
	journal, err := os.CreateTemp(filepath.Dir(dir), "journal")
	if err != nil {
		b.Fatal(err)
	}
	done, took := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var all []time.Duration
		for {
			select {
			case <-done:
				took <- all
				return
			case <-time.After(3 * time.Millisecond):
			}
			began := time.Now()
			if snap, err := s.current(); err == nil { // at first there is none
				_, err = snap.sealed(context.Background(), randomRow(2*rand.IntN(rows), 1).ID)
				snap.release()
				if err != nil {
					b.Error(err)
				}
			}
			if _, err := journal.Write(make([]byte, 512)); err != nil {
				b.Error(err)
			}
			if err := journal.Sync(); err != nil {
				b.Error(err)
			}
			all = append(all, time.Since(began))
		}
	}()
	return func() (p99, most time.Duration) {
		close(done)
		all := <-took
		if err := errors.Join(s.Close(), journal.Close(), os.Remove(journal.Name())); err != nil {
			b.Error(err)
		}
		if len(all) == 0 {
			return 0, 0
		}
		slices.Sort(all)
		return all[len(all)*99/100], all[len(all)-1]
	}
}

// randomRow is row n of an edition, of random bytes; rows ascend with n, below 2^21.
func randomRow(n int, edition byte) whitelist.SealedRow {
	r := whitelist.SealedRow{Sealed: make([]byte, 808)}
	seed := [32]byte{0: byte(n), 1: byte(n >> 8), 2: byte(n >> 16)}
	rand.NewChaCha8(seed).Read(r.ID[:])
	binary.BigEndian.PutUint64(r.ID[:], uint64(n)<<43)
	seed[3] = edition
	rand.NewChaCha8(seed).Read(r.Sealed)
	return r
}

func writeRows(b *testing.B, dir, name string, rows iter.Seq2[whitelist.SealedRow, error]) (sum [32]byte, size int64) {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		b.Fatal(err)
	}
	sum, size, err = whitelist.WriteRows(f, rows)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
	return sum, size
}

func openFile(b *testing.B, dir, name string) io.Reader {
	b.Helper()
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// cost is a number of this process.
func cost(b *testing.B, of func(pid int) (int64, error)) float64 {
	b.Helper()
	n, err := of(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	return float64(n)
}
