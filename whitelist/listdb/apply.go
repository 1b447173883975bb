package listdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// Examine verifies the head of a published list and says whether Apply could put it
// in force at an instant, and from which set: that in force, when deltas of the list
// lead on from it, else 0. same says that this very list is in force: where only
// list.floor is lost, Apply writes it anew.
//
// The error is a *whitelist.RefusedError when the list is at fault. It comes beside
// the head when that was verified.
func (s *Store) Examine(ctx context.Context, head []byte, at time.Time) (h whitelist.Head, from uint64, same bool, err error) {
	if h, err = s.readPublished(head); err == nil {
		var st standing
		if st, err = s.examine(h, at); err == nil {
			defer st.release()
			from, same = st.from(h.Manifest), st.same && !st.floorLost && !st.cur.suspect.Load()
			err = ctx.Err()
		}
	}
	if err != nil {
		return h, 0, false, fmt.Errorf("examining list: %w", refusal(err))
	}
	return h, from, same, nil
}

func (s *Store) readPublished(head []byte) (whitelist.Head, error) {
	h, err := s.cfg.readHead(head)
	if err == nil && !h.Manifest.Published() {
		err = fmt.Errorf("%w: it names no set of rows: import it as a whole file", whitelist.ErrMalformed)
	}
	return h, err
}

// from is the set in force when deltas lead from it to the set of m, else 0: those of
// another epoch are sealed anew, and from rows that are not as they were signed no
// delta leads anywhere.
func (st standing) from(m whitelist.Manifest) uint64 {
	if st.cur == nil || st.cur.suspect.Load() {
		return 0
	}
	is := st.cur.head.Manifest
	if !is.Published() || is.Epoch != m.Epoch || is.Set.Seq == m.Set.Seq && is.Set != m.Set {
		return 0
	}
	if _, ok := m.Path(is.Set.Seq); !ok {
		return 0
	}
	return is.Set.Seq
}

// Apply puts the list of a head in force. files are the deltas of Path from the set
// that Examine told, none when it is the list's own, or the list's snapshot and the
// deltas of Path behind it. progress, when not nil, is told the number of rows read.
//
// Whatever goes wrong, the old list is in force or the new one, and no mixture.
// errors.Is(err, whitelist.ErrSet) says that the deltas do not lead to the list: the
// snapshot does. The error is a *whitelist.RefusedError when the list is at fault,
// and not this machine.
//
// Apply waits while another process writes into the same folder.
func (s *Store) Apply(ctx context.Context, head []byte, at time.Time, files whitelist.Files, progress func(rows uint64)) (whitelist.Manifest, error) {
	if progress == nil {
		progress = func(uint64) {}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return whitelist.Manifest{}, fmt.Errorf("applying list: %w", err)
	}
	h, err := s.readPublished(head)
	if err == nil {
		err = s.applyLocked(ctx, h, at, files, progress)
	}
	if err = errors.Join(refusal(err), unlock()); err != nil {
		return h.Manifest, fmt.Errorf("applying list: %w", err)
	}
	return h.Manifest, nil
}

func (s *Store) applyLocked(ctx context.Context, h whitelist.Head, at time.Time, files whitelist.Files, progress func(uint64)) error {
	st, err := s.examine(h, at)
	if err != nil {
		return err
	}
	defer st.release()
	m := h.Manifest
	if files.Snapshot != nil {
		_, deltas, err := deltasOf(m, m.Snapshot.Seq, files.Deltas)
		if err != nil {
			return err
		}
		err = s.rebuild(ctx, h, st.next, rowsOf(m.Snapshot.Reader(files.Snapshot).Next), deltas, progress)
		if errors.Is(err, whitelist.ErrSet) { // and there is nothing better to take
			err = fmt.Errorf("%w: its snapshot leads to other rows", whitelist.ErrTampered)
		}
		return err
	}
	from := st.from(m)
	if from == 0 {
		return fmt.Errorf("%w: none of epoch %d is in force here from which they lead on", whitelist.ErrSet, m.Epoch)
	}
	size, deltas, err := deltasOf(m, from, files.Deltas)
	if err != nil {
		return err
	}
	if st.same {
		return s.raiseFloor(st.next)
	}
	if size <= st.cur.room() {
		g, err := s.grow(st.cur)
		if err != nil {
			return err
		}
		defer func() { g.release() }() // of the overlay that it has then
		if err := s.applyAbove(ctx, h, st.next, g, deltas, progress); err != errNewBase {
			return err
		}
	}
	return s.rebuild(ctx, h, st.next, ours(ctx, st.cur.rows(ctx)), deltas, progress)
}

// ours yields rows that are on our own disk: where they cannot be read no delta leads on
// from them.
func ours(ctx context.Context, rows iter.Seq2[whitelist.SealedRow, error]) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		for row, err := range rows {
			if !yield(row, unreadable(ctx, err)) {
				return
			}
		}
	}
}

// unreadable is whitelist.ErrSet in the place of an error of our own disk.
func unreadable(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: those in force here cannot be read: %v", whitelist.ErrSet, err)
}

// deltasOf returns the rows of the deltas that lead to the set of m, and the bytes of
// their files.
func deltasOf(m whitelist.Manifest, from uint64, files []io.Reader) (size int64, deltas []iter.Seq2[whitelist.SealedRow, error], err error) {
	path, ok := m.Path(from)
	if !ok || len(path) != len(files) {
		return 0, nil, fmt.Errorf("%d deltas were given and %d lead from set %d to %d: another list came into force meanwhile", len(files), len(path), from, m.Set.Seq)
	}
	for i, d := range path {
		size += d.Size
		deltas = append(deltas, rowsOf(d.Reader(files[i]).Next))
	}
	return size, deltas, nil
}

// room is how many bytes of deltas the overlay still takes. Beyond half of the base a
// new base is written rather: Merge had no time for it.
func (s *snapshot) room() int64 {
	return min(maxOverlay, max(minOverlay, s.stamp.list.size/2)) - s.length
}

// errNewBase: the overlay does not take the deltas, a new base does. They have too many
// rows for the index, or the file is not there any more.
var errNewBase = errors.New("a new base is needed")

// applyAbove puts the list of a head in force by appending deltas, if any, to the
// overlay. It exchanges each for one that can be read again, while g is in use: when
// the error is errNewBase they are to go there.
func (s *Store) applyAbove(ctx context.Context, h whitelist.Head, next floor, g *growth, deltas []iter.Seq2[whitelist.SealedRow, error], progress func(uint64)) (err error) {
	counts := false
	defer func() {
		if err != nil && err != errNewBase && !counts {
			s.removeStaged()
			err = errors.Join(err, g.undo())
		}
	}()
	for i, rows := range deltas {
		again, err := g.append(ctx, rows, progress)
		if err != nil {
			return err
		}
		deltas[i] = again
	}
	if err := g.check(h.Manifest); err != nil {
		return err
	}
	if err := g.sync(); err != nil {
		return err
	}
	if err := s.stagePointer(g.pointer(h)); err != nil {
		return err
	}
	counts, err = s.put(headFile, next, func() *snapshot {
		return &snapshot{content: g.content.hold(), head: h, floor: floorOf(h), state: g.set.State()}
	})
	return err
}

func (s *Store) stagePointer(p pointer) error {
	b, err := p.encode()
	if err != nil {
		return err
	}
	return s.stageFile(headFile, b)
}

// rebuild puts a list in force whose rows are those of below, with those of the deltas
// above: as a new base. The error is whitelist.ErrSet when they are not its set.
func (s *Store) rebuild(ctx context.Context, h whitelist.Head, next floor, below iter.Seq2[whitelist.SealedRow, error], deltas []iter.Seq2[whitelist.SealedRow, error], progress func(uint64)) error {
	for _, d := range deltas {
		below = above(below, d)
	}
	b, err := s.stageSet(ctx, h, below, progress)
	if err != nil {
		return err
	}
	return s.putBase(b, next)
}

// stageSet stages a base, and compares its rows with the set of its head.
func (s *Store) stageSet(ctx context.Context, h whitelist.Head, rows iter.Seq2[whitelist.SealedRow, error], progress func(uint64)) (*base, error) {
	sum := newAdder()
	defer sum.end()
	b, err := s.stage(ctx, h.Bytes, sum.pass(rows), func() ([]byte, error) {
		set, n := sum.end()
		if m := h.Manifest; n != m.Rows || set.Digest() != m.Set.Digest {
			return nil, fmt.Errorf("%w: %d rows, and %d are signed", whitelist.ErrSet, n, m.Rows)
		}
		return set.State(), nil
	}, progress)
	if err != nil {
		s.removeStaged()
		return nil, fmt.Errorf("staging in %s: %w", s.cfg.Dir, err)
	}
	return b, nil
}
