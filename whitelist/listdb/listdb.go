// Package listdb keeps the list in force on disk and answers lookups from it.
//
// The state folder holds
//
//	list.db       the base: a head verbatim, and the sealed rows, in SQLite
//	list.overlay  the deltas that came since, one behind the other
//	list.head     which list is in force above the base, and how much of the overlay counts
//	list.floor    the newest (epoch, seq) and delegation ever in force here, with a checksum
//	list.lock     locked by flock(2) while somebody writes
//
// and, meanwhile, list.db.new, list.head.new and list.floor.new. A list comes whole, by
// Import, or as a hub publishes it, by Examine and Apply. Merge writes base and overlay
// into a new base. docs/list-format.md says what heals what.
//
// It promises:
//
//   - A list is in force as a whole or not at all: what it consists of is checked to
//     its last byte and made durable, and then one rename puts it in force. Whatever
//     goes wrong before the rename leaves the old list in force.
//   - Lists only get newer. That holds also when they were lost or damaged, because
//     list.floor is a file of its own.
//   - What is read back is verified again: signatures, the state of a set and the
//     overlay when they are opened, each row by its seal when it is looked up,
//     everything by Verify.
//   - A list that cannot be verified is an error, never silently the one before.
//   - Memory does not grow with the list: an index of the overlay takes 40 bytes a row,
//     at most 8 MB, and twice that while it grows.
//
// What it cannot know: somebody who can write the folder can put back, in place,
// an older sealed row of the same card; Verify finds that, Lookup does not. And
// who removes all files sets the folder back to its start.
package listdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Errors, beside those of packages whitelist and sign1. After each of them the
// list in force is the one before.
var (
	// ErrNoList: the folder holds no list; import one.
	ErrNoList = errors.New("no list")
	// ErrUnreadable: the list is damaged; import it again, or a newer one.
	ErrUnreadable = errors.New("list database unreadable")
	// ErrOlder: the list, or its delegation, is older than one that was in force here.
	ErrOlder = errors.New("older than the list in force")
	// ErrConflict: two different lists have one epoch and sequence number.
	ErrConflict = errors.New("differs from the list of the same number")
	// ErrExpired: the list's not_after had passed when it was to be imported.
	ErrExpired = errors.New("list has expired")
	// ErrFar: its numbers or its issued_at are beyond all that could come next.
	ErrFar = errors.New("list from too far ahead")
	// ErrHierarchy: a test list in production, or the other way round.
	ErrHierarchy = errors.New("list of another hierarchy")
	// ErrFloor: list.floor is damaged and no readable list tells what it said.
	ErrFloor = errors.New("list floor unreadable")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("list store is closed")
)

const (
	listFile    = "list.db"
	overlayFile = "list.overlay"
	headFile    = "list.head"
	floorFile   = "list.floor"
	lockFile    = "list.lock"
	staged      = ".new"
)

// A Config says where the list is kept and whose lists are accepted.
type Config struct {
	Dir       string // state folder; made when missing, mode 0700
	Scope     string
	Hierarchy string // whitelist.Production or whitelist.Test
	Trust     roles.Trust
	ScopeKey  cardid.ScopeKey
}

// A Store is the list of one terminal. Its methods may be called from several
// goroutines, and several processes may have the same folder open.
//
//	         Current, file unchanged
//	          ┌──────┐
//	          │      ▼
//	closed ◄─ in force ◄── Current, file verified ──┐
//	  ▲          │                                  │
//	  │          └── file replaced, lost, damaged ─► error
//	  └──────────────────────── Close ──────────────┘
type Store struct {
	cfg  Config
	root *os.Root

	mu     sync.Mutex
	cur    *snapshot // nil: to be opened
	seen   floor     // newest list this process has had in force
	closed bool
}

// Open returns the store of a state folder. It does not need a list there, nor
// a readable one: Current says what is wrong, and Import heals it.
func Open(cfg Config) (*Store, error) {
	switch {
	case cfg.Dir == "":
		return nil, errors.New("opening list store: no folder given")
	case cfg.Scope == "":
		return nil, errors.New("opening list store: no scope given")
	case cfg.Hierarchy != whitelist.Production && cfg.Hierarchy != whitelist.Test:
		return nil, fmt.Errorf("opening list store: the hierarchy is neither %q nor %q", whitelist.Production, whitelist.Test)
	case cfg.ScopeKey.IsZero():
		return nil, errors.New("opening list store: no scope key given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening list store: %w", err)
	}
	cfg.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening list store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening list store: %w", err)
	}
	return &Store{cfg: cfg, root: root}, nil
}

// Close ends the use of the store. Views taken before stay valid until they are
// released.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.keep(nil)
	return s.root.Close()
}

// Current returns the list in force, opening it when a file was replaced since the
// last call, also by another process. The caller releases the view.
func (s *Store) Current() (whitelist.View, error) {
	snap, err := s.current()
	if err != nil {
		return nil, err
	}
	return &view{snap: snap}, nil
}

// current returns the list in force; the caller releases it.
func (s *Store) current() (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	st, err := s.stat()
	if err != nil {
		s.keep(nil)
		return nil, err
	}
	if s.cur == nil || s.cur.stamp != st {
		snap, err := s.reopen()
		s.keep(snap)
		if err != nil {
			return nil, err
		}
	}
	return s.cur.hold(), nil
}

// reopen opens the list and holds it against the floor.
func (s *Store) reopen() (*snapshot, error) {
	onDisk, err := s.readFloor()
	if err != nil {
		return nil, err
	}
	snap, err := s.openStable(s.cur)
	if err != nil {
		return nil, err
	}
	for _, f := range []floor{onDisk, s.seen} {
		if err := f.admit(snap.floor); err != nil {
			snap.release()
			return nil, fmt.Errorf("opening list: %w: import a list with epoch %d and sequence number %d or newer", err, f.Epoch, f.Seq)
		}
	}
	return snap, nil
}

// keep has the store hold snap, which may be nil, in the place of the one that it held.
func (s *Store) keep(snap *snapshot) {
	if s.cur != nil {
		s.cur.release()
	}
	if s.cur = snap; snap != nil {
		s.seen = s.seen.raised(snap.floor)
	}
}

// latest returns the list on disk, whatever the floor says of it; the caller
// releases it.
func (s *Store) latest() (*snapshot, error) {
	s.mu.Lock()
	prev := s.cur
	if prev != nil {
		prev.hold()
		defer prev.release()
	}
	s.mu.Unlock()
	if st, err := s.stat(); err != nil {
		return nil, err
	} else if prev != nil && prev.stamp == st {
		return prev.hold(), nil
	}
	return s.openStable(prev)
}

// openStable opens the list so that stamps and content are of the same files.
func (s *Store) openStable(prev *snapshot) (*snapshot, error) {
	for range 3 {
		before, err := s.stat()
		if err != nil {
			return nil, err
		}
		snap, err := s.openSnapshot(prev, before)
		after, statErr := s.stat()
		if statErr == nil && before == after {
			return snap, err
		}
		if err == nil {
			snap.release()
		}
	}
	return nil, fmt.Errorf("%w: it is being replaced again and again", ErrUnreadable)
}

// A stamp tells one list from its successor.
type stamp struct {
	list    fileStamp
	pointer fileStamp // zero: there is none
}

// A fileStamp tells one file from that which is renamed into its place. While the
// old one is open its inode number is not given to another.
type fileStamp struct {
	dev, ino uint64
	size     int64
	mtime    time.Time
}

func (s *Store) stat() (st stamp, err error) {
	st.list, err = s.statFile(listFile)
	if errors.Is(err, os.ErrNotExist) {
		return st, fmt.Errorf("%w in %s: import one", ErrNoList, s.cfg.Dir)
	}
	if err == nil {
		st.pointer, err = s.statFile(headFile)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return st, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return st, nil
}

func (s *Store) statFile(name string) (fileStamp, error) {
	fi, err := s.root.Stat(name)
	if err != nil {
		return fileStamp{}, err
	}
	st := fi.Sys().(*syscall.Stat_t) // always so on Linux
	return fileStamp{uint64(st.Dev), uint64(st.Ino), fi.Size(), fi.ModTime()}, nil
}

// Verify checks the list in force as if it were imported anew: the manifest's
// signature, order and number of rows, and the digest over all of them. It
// reads all of it: about ten seconds for a million rows. Taps go on meanwhile. What
// it finds wrong Examine knows, and asks for a snapshot.
func (s *Store) Verify(ctx context.Context) error {
	snap, err := s.current()
	if err != nil {
		return err
	}
	defer snap.release()
	return snap.verify(ctx)
}
