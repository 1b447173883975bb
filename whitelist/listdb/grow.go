package listdb

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/gate-agent/gate-agent/internal/diskroom"
	"github.com/gate-agent/gate-agent/whitelist"
)

// minOverlay is how many bytes an overlay may have however small its base is.
const minOverlay = 16 << 20

// A growth is a list that comes to be above the base of another, whose overlay goes on.
// Nothing of it counts before list.head says so.
type growth struct {
	content
	store    *Store
	was      int64         // bytes of the overlay that count
	w        *bufio.Writer // nil: nothing was appended
	unsynced int

	set  *whitelist.Set
	rows uint64
	read uint64 // rows of deltas
	full bool   // too many: index, set and rows were given up
}

// grow begins with the list of cur. The caller releases it.
func (s *Store) grow(cur *snapshot) (*growth, error) {
	set, err := whitelist.SetOfState(cur.state)
	if err != nil {
		return nil, err
	}
	sum, err := cur.sum.Clone()
	if err != nil {
		return nil, err
	}
	g := &growth{content: cur.content.hold(), store: s, was: cur.length, set: set, rows: cur.head.Manifest.Rows}
	g.sum = sum
	return g, nil
}

// open opens the overlay for writing behind what counts of it. What a power cut or a
// failure left there goes. The error is errNewBase when somebody took the file away or
// cut it: what the store has open may still be whole.
func (g *growth) open() error {
	if g.w != nil {
		return nil
	}
	flags := os.O_RDWR
	if g.over == nil {
		// Not the file that lies there: an old view may look into it.
		if err := g.store.root.Remove(overlayFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := g.store.root.OpenFile(overlayFile, flags, 0o600)
	if g.over != nil && errors.Is(err, os.ErrNotExist) {
		return errNewBase
	}
	if err != nil {
		return err
	}
	if whole, err := g.goesOn(f); err != nil || !whole {
		return cmp.Or(errors.Join(err, f.Close()), errNewBase)
	}
	if err := f.Truncate(g.length); err != nil {
		return errors.Join(err, f.Close())
	}
	if g.over == nil {
		// Its name is to be durable before list.head relies on it.
		if err := g.store.syncFolder(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	g.over.release() // the same file
	g.over = newOverlay(f)
	g.w = bufio.NewWriterSize(io.NewOffsetWriter(f, g.length), 1<<16)
	return nil
}

// goesOn says whether f is the overlay that there is, and has what counts of it.
func (g *growth) goesOn(f *os.File) (bool, error) {
	if g.over == nil {
		return true, nil
	}
	is, err := f.Stat()
	was, wasErr := g.over.file.Stat()
	if err := errors.Join(err, wasErr); err != nil {
		return false, err
	}
	return os.SameFile(is, was) && is.Size() >= g.length, nil
}

// append appends the rows of a delta, and returns them, to be read once more.
func (g *growth) append(ctx context.Context, rows iter.Seq2[whitelist.SealedRow, error], progress func(uint64)) (again iter.Seq2[whitelist.SealedRow, error], err error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	from := g.length
	var more []entry
	var item []byte
	for row, err := range rows {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		item = whitelist.AppendRow(item[:0], row)
		g.sum.Write(item)
		if _, err := g.w.Write(item); err != nil {
			return nil, err
		}
		if g.full = g.full || len(g.index)+len(more) == maxEntries; !g.full {
			if err := g.exchange(ctx, row); err != nil {
				return nil, err
			}
			more = append(more, entry{row.ID, uint32(g.length), uint16(len(item))})
		}
		g.length += int64(len(item))
		if g.unsynced += len(item); g.unsynced > syncEvery {
			if err := g.sync(); err != nil {
				return nil, err
			}
		}
		if g.read++; g.read%1000 == 0 {
			progress(g.read)
		}
	}
	progress(g.read)
	if err := g.w.Flush(); err != nil { // the next delta may touch a row of this one
		return nil, err
	}
	if !g.full {
		g.index = g.index.with(more)
	}
	over, to := g.over, g.length
	return func(yield func(whitelist.SealedRow, error) bool) {
		for _, row := range over.scan(from, to) {
			if !yield(row, nil) {
				return
			}
		}
	}, nil
}

// exchange takes the row with the CardID of r out of the set, and r into it. It comes
// before the index knows r.
func (g *growth) exchange(ctx context.Context, r whitelist.SealedRow) error {
	old, err := g.sealed(ctx, r.ID)
	if err != nil {
		return unreadable(ctx, err)
	}
	if old != nil {
		g.set.Remove(whitelist.SealedRow{ID: r.ID, Sealed: old})
		g.rows--
	}
	if len(r.Sealed) > 0 {
		g.set.Add(r)
		g.rows++
	}
	return nil
}

// check says whether what was appended leads to the set of m.
func (g *growth) check(m whitelist.Manifest) error {
	switch {
	case g.full:
		return errNewBase
	case g.rows != m.Rows:
		return fmt.Errorf("%w: %d rows, and %d are signed", whitelist.ErrSet, g.rows, m.Rows)
	case g.set.Digest() != m.Set.Digest:
		return whitelist.ErrSet
	}
	return nil
}

// pointer is the list.head that makes it count.
func (g *growth) pointer(h whitelist.Head) pointer {
	return pointer{
		Head: h.Bytes, Base: g.base.floor.Manifest,
		Length: uint64(g.length), SHA256: [32]byte(g.sum.Sum(nil)), State: g.set.State(),
	}
}

// sync makes durable what was appended.
func (g *growth) sync() error {
	if g.w == nil {
		return nil
	}
	g.unsynced = 0
	return errors.Join(g.w.Flush(), g.over.file.Sync(), diskroom.Check(g.store.cfg.Dir))
}

// undo cuts off what was appended.
func (g *growth) undo() error {
	if g.w == nil {
		return nil
	}
	return g.over.file.Truncate(g.was)
}
