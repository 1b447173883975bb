package listdb

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Merge writes base and overlay into a new base when that is due, or force. The list
// in force stays the same. It is for a time when little happens: it writes the whole
// list anew, once for many deltas, and what comes meanwhile waits for it.
//
// It is due when the overlay has more than a tenth of the base's bytes, and at least a
// mebibyte, or when its index takes half the memory that it may.
func (s *Store) Merge(ctx context.Context, force bool) (merged bool, err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return false, fmt.Errorf("merging list: %w", err)
	}
	merged, err = s.mergeLocked(ctx, force)
	if err = errors.Join(err, unlock()); err != nil {
		return merged, fmt.Errorf("merging list: %w", err)
	}
	return merged, nil
}

func (s *Store) mergeLocked(ctx context.Context, force bool) (bool, error) {
	cur, err := s.current()
	if errors.Is(err, ErrNoList) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer cur.release()
	due := cur.length > max(1<<20, cur.stamp.list.size/10) || len(cur.index) > maxEntries/2
	if cur.length == 0 || !due && !force {
		return false, nil
	}
	b, err := s.stageSet(ctx, cur.head, ours(ctx, cur.rows(ctx)), func(uint64) {})
	if errors.Is(err, whitelist.ErrSet) { // no delta was there to lead elsewhere
		err = fmt.Errorf("%w: %v", whitelist.ErrTampered, err)
		cur.suspect.Store(true) // the next Examine asks for a snapshot
	}
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	next := s.seen.raised(cur.floor)
	s.mu.Unlock()
	return true, s.putBase(b, next)
}

// An adder makes the set of rows that are on their way, in a goroutine of its own: it
// takes about as long as writing them does.
type adder struct {
	batches chan *batch
	empty   chan *batch
	done    chan struct{}
	ended   bool

	set  whitelist.Set
	rows uint64
}

// A batch is some rows, and their bytes.
type batch struct {
	ids    []cardid.CardID
	ends   []int
	sealed []byte
}

const batchBytes = 64 << 10

// newAdder starts the goroutine; end ends it.
func newAdder() *adder {
	a := &adder{batches: make(chan *batch, 2), empty: make(chan *batch, 3), done: make(chan struct{})}
	for range cap(a.empty) {
		a.empty <- new(batch)
	}
	go func() {
		defer close(a.done)
		for b := range a.batches {
			at := 0
			for i, end := range b.ends {
				a.set.Add(whitelist.SealedRow{ID: b.ids[i], Sealed: b.sealed[at:end]})
				at = end
			}
			a.rows += uint64(len(b.ids))
			a.empty <- b
		}
	}()
	return a
}

// pass yields rows, and adds each.
func (a *adder) pass(rows iter.Seq2[whitelist.SealedRow, error]) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		b := <-a.empty
		send := func() {
			a.batches <- b
			b = <-a.empty
			b.ids, b.ends, b.sealed = b.ids[:0], b.ends[:0], b.sealed[:0]
		}
		for r, err := range rows {
			if !yield(r, err) || err != nil {
				return
			}
			b.ids, b.sealed = append(b.ids, r.ID), append(b.sealed, r.Sealed...)
			b.ends = append(b.ends, len(b.sealed))
			if len(b.sealed) > batchBytes {
				send()
			}
		}
		send()
	}
}

// end waits for the rows that were passed, and returns their set and number.
func (a *adder) end() (*whitelist.Set, uint64) {
	if !a.ended {
		a.ended = true
		close(a.batches)
		<-a.done
	}
	return &a.set, a.rows
}
