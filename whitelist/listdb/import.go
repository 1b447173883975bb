package listdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Import reads a list file and, when it keeps every rule and is newer than all
// before, puts it in force. It returns the manifest as soon as one was verified,
// also beside an error.
//
// at is now, by the clock the terminal trusts most. progress, when not nil, is
// told the number of rows read, every thousand and at the end.
//
// The list that is in force already is no error: when it verifies on disk
// nothing is written, and when it does not it is written anew.
//
// The error is a *whitelist.RefusedError when the list is at fault, and not this
// machine.
//
// Import waits while another process imports into the same folder.
func (s *Store) Import(ctx context.Context, r io.Reader, at time.Time, progress func(rows uint64)) (whitelist.Manifest, error) {
	if progress == nil {
		progress = func(uint64) {}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return whitelist.Manifest{}, fmt.Errorf("importing list: %w", err)
	}
	m, err := s.importLocked(ctx, r, at, progress)
	if err = errors.Join(refusal(err), unlock()); err != nil {
		return m, fmt.Errorf("importing list: %w", err)
	}
	return m, nil
}

// refusal makes an error a *whitelist.RefusedError when the list is at fault.
func refusal(err error) error {
	for _, refusal := range [...]error{
		sign1.ErrMalformed, sign1.ErrUnknownKey, sign1.ErrRole, sign1.ErrSignature,
		whitelist.ErrMalformed, whitelist.ErrScope, whitelist.ErrTruncated, whitelist.ErrTrailing,
		whitelist.ErrTampered, whitelist.ErrOrder, whitelist.ErrTooLarge,
		roles.ErrMalformed, roles.ErrThreshold, roles.ErrMissing, roles.ErrExpired,
		ErrOlder, ErrConflict, ErrExpired, ErrFar, ErrHierarchy, whitelist.ErrScopeKey, ErrFloor,
	} {
		if errors.Is(err, refusal) {
			return &whitelist.RefusedError{Err: err}
		}
	}
	return err
}

func (s *Store) importLocked(ctx context.Context, r io.Reader, at time.Time, progress func(uint64)) (whitelist.Manifest, error) {
	file, err := whitelist.NewReader(r, s.cfg.Trust)
	if err != nil {
		return whitelist.Manifest{}, err
	}
	h := file.Head()
	m := h.Manifest
	if err := s.cfg.accepts(m); err != nil {
		return m, err
	}
	standing, err := s.examine(h, at)
	if err != nil {
		return m, err
	}
	defer standing.release()
	if standing.same && standing.cur.verify(ctx) == nil {
		return m, s.raiseFloor(standing.next)
	}
	base, err := s.stage(ctx, h.Bytes, rowsOf(file.Next), func() ([]byte, error) {
		if m.Published() {
			return file.Set().State(), nil
		}
		return nil, nil
	}, progress)
	if err != nil {
		s.removeStaged()
		return m, fmt.Errorf("staging in %s: %w", s.cfg.Dir, err)
	}
	return m, s.putBase(base, standing.next)
}

// A standing is what a list that came finds here.
type standing struct {
	cur  *snapshot // the list on disk; nil when there is none that can be read
	next floor     // what the floor will be
	same bool      // the list that came is cur

	floorLost bool // list.floor is unreadable: cur is not in force until it is written anew
}

func (st standing) release() {
	if st.cur != nil {
		st.cur.release()
	}
}

// examine says whether a list may come into force at an instant: it is valid, and not
// older than any that is known to have been in force.
func (s *Store) examine(h whitelist.Head, at time.Time) (st standing, err error) {
	if err := h.Valid(at); err != nil {
		return st, err
	}
	if at.Unix() > h.Manifest.NotAfter.Unix() {
		return st, fmt.Errorf("%w on %s: fetch a newer one", ErrExpired, h.Manifest.NotAfter.Format(time.RFC3339))
	}
	onDisk, floorErr := s.readFloor()
	cur, listErr := s.latest()
	if floorErr != nil && listErr != nil {
		return st, fmt.Errorf("%w, and %w: when you know that this list is the newest, remove %s and import again",
			floorErr, listErr, filepath.Join(s.cfg.Dir, floorFile))
	}
	s.mu.Lock()
	known := []floor{onDisk, s.seen}
	s.mu.Unlock()
	if issued := h.Manifest.IssuedAt; cur != nil { // else a board without a clock would have no first list
		if issued.Sub(at) > maxAhead && issued.Sub(cur.head.Manifest.IssuedAt) > maxAhead {
			err = fmt.Errorf("%w: issued on %s: is the clock right, here and at the hub?", ErrFar, issued.Format(time.RFC3339))
		}
	}
	st = standing{cur: cur, next: floorOf(h), floorLost: floorErr != nil}
	if cur != nil {
		known = append(known, cur.floor)
		st.same = cur.floor.same(st.next)
	}
	for _, f := range known {
		if err := cmp.Or(err, f.admit(st.next), f.reaches(st.next)); err != nil {
			st.release()
			return standing{}, err
		}
		st.next = f.raised(st.next)
	}
	return st, nil
}

// putBase puts the list of a staged base in force, and releases it.
func (s *Store) putBase(b *base, next floor) error {
	defer b.release()
	counts, err := s.put(listFile, next, func() *snapshot { return onBase(b) })
	if counts {
		// These stand on the base before, and say nothing any more.
		s.root.Remove(headFile)
		s.root.Remove(overlayFile)
	}
	return err
}

// put puts a list in force by giving a staged file its name, list.db or list.head.
// successor is that list, for the next tap. counts says that the list is in force,
// also beside an error; otherwise nothing has changed.
//
// The floor is staged before, so that a disk that is full is found out while nothing
// has changed; it is raised after, so that a power cut between the two leaves a list
// that its floor admits.
func (s *Store) put(name string, next floor, successor func() *snapshot) (counts bool, err error) {
	if err := s.stageFloor(next); err != nil {
		s.removeStaged()
		return false, err
	}
	if err := s.swap(name, successor); err != nil {
		s.removeStaged()
		return false, err
	}
	if err := s.syncFolder(); err != nil {
		return true, err
	}
	return true, s.rename(floorFile)
}

// swap renames a staged file, and has the next tap find the successor open. Taps
// wait meanwhile.
func (s *Store) swap(name string, successor func() *snapshot) error {
	// Closing the last handle of a list that has no name any more frees its blocks,
	// which takes long for a gigabyte of them: no tap is to wait for that.
	var old *snapshot
	defer func() {
		if old != nil {
			old.release()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.root.Rename(name+staged, name); err != nil {
		return err
	}
	st, err := s.stat()
	if err != nil {
		return nil // the next tap will say so
	}
	snap := successor()
	snap.cfg, snap.stamp = s.cfg, st
	snap.users.Store(1)
	if st.pointer != (fileStamp{}) {
		snap.pointer, _ = s.root.Open(headFile) // it is there
	}
	if old = s.cur; old != nil {
		old.hold()
	}
	s.keep(snap)
	return nil
}

// raiseFloor writes the floor unless it is on disk.
func (s *Store) raiseFloor(next floor) error {
	if f, err := s.readFloor(); err == nil && f == next {
		return nil
	}
	if err := s.stageFloor(next); err != nil {
		s.removeStaged()
		return err
	}
	return s.rename(floorFile)
}

// rename puts a staged file in its place, durably.
func (s *Store) rename(name string) error {
	if err := s.root.Rename(name+staged, name); err != nil {
		return err
	}
	return s.syncFolder()
}

// syncFolder makes durable which names the folder has.
func (s *Store) syncFolder() error {
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// removeStaged removes what an import left behind. It may fail where there is
// nothing, or where nothing can be written; the import itself tells.
func (s *Store) removeStaged() {
	for _, name := range []string{listFile, headFile, floorFile} {
		s.root.Remove(name + staged)
	}
}

// lockWait is how long a writer waits for another one. That takes a minute or so for a
// million rows; a process that was stopped (^Z) would hold the lock for ever.
const lockWait = 10 * time.Minute

// lock takes the writer's lock of the folder, waiting until ctx ends, or lockWait. What a
// power cut left staged goes: it may be as long as a list.
func (s *Store) lock(ctx context.Context) (unlock func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	f, err := s.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			s.removeStaged()
			return f.Close, nil // closing unlocks
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", lockFile, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another import is running: %w", ctx.Err()), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
