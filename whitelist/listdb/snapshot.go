package listdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"sync/atomic"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// content is where the rows of a list are: in a base, and above it in as much of an
// overlay as counts.
type content struct {
	base   *base
	over   *overlay // nil: none
	index  index
	length int64       // bytes of the overlay
	sum    hash.Cloner // over them
}

func (c content) hold() content {
	c.base.hold()
	c.over.hold()
	return c
}

func (c *content) release() {
	c.base.release()
	c.over.release()
}

// A snapshot is one list, open and verified. It is closed when the last of its
// users, the store and the views, lets go.
type snapshot struct {
	content
	cfg   Config
	stamp stamp
	head  whitelist.Head
	floor floor
	state []byte // of the set; nil when the list has none

	// pointer is list.head, open so that its inode number is not given to another.
	pointer *os.File

	// suspect: rows were found to be other than those of the list.
	suspect atomic.Bool
	users   atomic.Int64
}

// onBase returns the list of a base, as it is without a list.head. It has no user yet.
func onBase(b *base) *snapshot {
	return &snapshot{content: content{base: b.hold(), sum: sha256.New().(hash.Cloner)}, head: b.head, floor: b.floor, state: b.state}
}

// openSnapshot opens what is in the folder, and shares with prev, which may be nil,
// what has not changed since. st is the stamp of the folder.
func (s *Store) openSnapshot(prev *snapshot, st stamp) (_ *snapshot, err error) {
	var b *base
	if prev != nil && prev.stamp.list == st.list {
		b = prev.base.hold()
	} else if b, err = s.openBase(listFile); err != nil {
		return nil, err
	}
	defer b.release()
	snap := onBase(b)
	snap.cfg, snap.stamp = s.cfg, st
	snap.users.Store(1)
	p, f, err := s.readPointer()
	snap.pointer = f
	if err == nil && p != nil && p.Base == b.floor.Manifest { // else left behind when the base was replaced
		err = s.openAbove(snap, prev, p)
	}
	if err != nil {
		snap.release()
		return nil, fmt.Errorf("opening list: %s: %w", headFile, err)
	}
	return snap, nil
}

// openAbove makes snap what a pointer says that there is above the base.
func (s *Store) openAbove(snap, prev *snapshot, p *pointer) (err error) {
	if snap.head, err = s.cfg.readHead(p.Head); err != nil {
		return err
	}
	snap.floor, snap.state = floorOf(snap.head), p.State
	if m, below := snap.head.Manifest, snap.base.head.Manifest; !m.Published() || !below.Published() || m.Epoch != below.Epoch {
		return fmt.Errorf("%w: it cannot stand on this list", ErrUnreadable)
	}
	if err := checkState(snap.head.Manifest, p.State); err != nil {
		return err
	}
	if p.Length == 0 {
		return nil
	}
	to := int64(p.Length)
	if prev != nil && (prev.base != snap.base || prev.length > to) {
		prev = nil // of another base, or newer: it was put back
	}
	if err := s.openOverlay(snap, prev); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreadable, overlayFile, err)
	}
	sum, err := snap.sum.Clone()
	if err != nil {
		return err
	}
	if n, err := io.Copy(sum, io.NewSectionReader(snap.over.file, snap.length, to-snap.length)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreadable, overlayFile, err)
	} else if n != to-snap.length || [32]byte(sum.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("%w: %w: %s", ErrUnreadable, whitelist.ErrTampered, overlayFile)
	}
	var more []entry
	for e := range snap.over.scan(snap.length, to) {
		more = append(more, e)
	}
	snap.index, snap.length, snap.sum = snap.index.with(more), to, sum
	return nil
}

// openOverlay opens the overlay. When it is the one that prev has, snap begins with
// what prev knows of it.
func (s *Store) openOverlay(snap, prev *snapshot) error {
	f, err := s.root.Open(overlayFile)
	if err != nil {
		return err
	}
	if prev != nil && prev.over != nil {
		is, err := f.Stat()
		was, wasErr := prev.over.file.Stat()
		if err := errors.Join(err, wasErr); err != nil {
			return errors.Join(err, f.Close())
		}
		if os.SameFile(is, was) {
			snap.over, snap.index, snap.length, snap.sum = prev.over.hold(), prev.index, prev.length, prev.sum
			return f.Close()
		}
	}
	snap.over = newOverlay(f)
	return nil
}

// readHead reads a head and holds it against the configuration.
func (c Config) readHead(b []byte) (whitelist.Head, error) {
	h, err := whitelist.ReadHead(b, c.Trust)
	if err != nil {
		return h, err
	}
	return h, c.accepts(h.Manifest)
}

// accepts holds a verified manifest against the configuration.
func (c Config) accepts(m whitelist.Manifest) error {
	switch {
	case m.Scope != c.Scope:
		return fmt.Errorf("%w: it is for %q, this terminal is in %q", whitelist.ErrScope, m.Scope, c.Scope)
	case m.Hierarchy != c.Hierarchy:
		return fmt.Errorf("%w: a %s list on a %s terminal", ErrHierarchy, m.Hierarchy, c.Hierarchy)
	case m.ScopeKeyCheck != c.ScopeKey.Check():
		return fmt.Errorf("%w: give this terminal the current key of scope %q", whitelist.ErrScopeKey, c.Scope)
	}
	return nil
}

func (s *snapshot) hold() *snapshot {
	s.users.Add(1)
	return s
}

func (s *snapshot) release() {
	if s.users.Add(-1) > 0 {
		return
	}
	s.content.release()
	if s.pointer != nil {
		s.pointer.Close() // only read
	}
}

// sealed returns the sealed row of a CardID, nil when there is none.
func (c content) sealed(ctx context.Context, id cardid.CardID) ([]byte, error) {
	i, found := c.index.find(id)
	if !found {
		return c.base.sealed(ctx, id)
	}
	// A row that is gone is read as well: what the disk lost is no reason to say
	// that somebody is not listed.
	row, err := c.over.read(c.index[i], nil)
	if err != nil || len(row.Sealed) == 0 {
		return nil, err
	}
	return row.Sealed, nil
}

// rows yields all rows, ascending by CardID.
func (c content) rows(ctx context.Context) iter.Seq2[whitelist.SealedRow, error] {
	return c.withOverlay(c.base.rows(ctx, c.base.page))
}

// ids is rows; of most rows it reads the CardID alone.
func (c content) ids(ctx context.Context) iter.Seq2[whitelist.SealedRow, error] {
	return c.withOverlay(c.base.rows(ctx, c.base.ids))
}

func (c content) withOverlay(rows iter.Seq2[whitelist.SealedRow, error]) iter.Seq2[whitelist.SealedRow, error] {
	if len(c.index) == 0 {
		return rows
	}
	return above(rows, c.over.rows(c.index))
}

// A view implements whitelist.View.
type view struct {
	snap     *snapshot
	released atomic.Bool
}

func (v *view) Manifest() whitelist.Manifest { return v.snap.head.Manifest }

func (v *view) CardID(head []byte) cardid.CardID { return v.snap.cfg.ScopeKey.ID(head) }

func (v *view) Release() {
	if !v.released.Swap(true) {
		v.snap.release()
	}
}

func (v *view) Lookup(ctx context.Context, head []byte) (whitelist.Row, error) {
	if v.released.Load() {
		return whitelist.Row{}, errors.New("looking up: the view was released")
	}
	s := v.snap
	sealed, err := s.sealed(ctx, s.cfg.ScopeKey.ID(head))
	switch {
	case err != nil:
		return whitelist.Row{}, fmt.Errorf("looking up: %w", err)
	case sealed == nil:
		return whitelist.Row{}, whitelist.ErrNotListed
	}
	row, err := whitelist.OpenRow(s.cfg.ScopeKey, s.cfg.Scope, head, sealed)
	if err != nil {
		return whitelist.Row{}, fmt.Errorf("looking up: %w", err)
	}
	return row, nil
}

// verify writes the list file again from the disk and reads it like one that has
// just arrived.
func (s *snapshot) verify(ctx context.Context) error {
	next, stop := iter.Pull2(s.rows(ctx))
	defer stop()
	file, err := whitelist.NewReader(io.MultiReader(bytes.NewReader(s.head.Bytes), &listReader{next: next}), s.cfg.Trust)
	for err == nil {
		_, err = file.Next()
	}
	if err == io.EOF {
		return nil
	}
	if ctx.Err() == nil {
		s.suspect.Store(true)
	}
	return fmt.Errorf("verifying list: %w", err)
}

// A listReader reads rows as the bytes of a list file.
type listReader struct {
	next func() (whitelist.SealedRow, error, bool)
	item []byte // the current row
	rest []byte // what of item is still to be read
}

func (r *listReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		row, err, more := r.next()
		if err != nil {
			return 0, err
		}
		if !more {
			return 0, io.EOF
		}
		r.item = whitelist.AppendRow(r.item[:0], row)
		r.rest = r.item
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
