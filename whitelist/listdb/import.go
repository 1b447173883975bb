package listdb

import (
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
	if isRefusal(err) {
		err = &whitelist.RefusedError{Err: err}
	}
	if err = errors.Join(err, unlock()); err != nil {
		return m, fmt.Errorf("importing list: %w", err)
	}
	return m, nil
}

func isRefusal(err error) bool {
	for _, refusal := range [...]error{
		sign1.ErrMalformed, sign1.ErrUnknownKey, sign1.ErrRole, sign1.ErrSignature,
		whitelist.ErrMalformed, whitelist.ErrScope, whitelist.ErrTruncated, whitelist.ErrTrailing,
		whitelist.ErrTampered, whitelist.ErrOrder, whitelist.ErrTooLarge,
		roles.ErrMalformed, roles.ErrThreshold, roles.ErrMissing, roles.ErrExpired,
		ErrOlder, ErrConflict, ErrExpired, ErrHierarchy, ErrScopeKey, ErrFloor,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func (s *Store) importLocked(ctx context.Context, r io.Reader, at time.Time, progress func(uint64)) (m whitelist.Manifest, err error) {
	file, err := whitelist.NewReader(r, s.cfg.Trust)
	if err != nil {
		return m, err
	}
	m = file.Manifest()
	if err := s.cfg.accepts(m); err != nil {
		return m, err
	}
	if err := file.Head().Valid(at); err != nil {
		return m, err
	}
	if at.Unix() > m.NotAfter.Unix() {
		return m, fmt.Errorf("%w on %s: fetch a newer one", ErrExpired, m.NotAfter.Format(time.RFC3339))
	}

	next := floorOf(m, file.Head().Payload())
	same, err := s.admit(ctx, next)
	if err != nil {
		return m, err
	}
	if same {
		if f, err := s.readFloor(); err == nil && f == next {
			return m, nil
		}
	}
	defer func() {
		if err != nil { // after the rename there is nothing to remove
			s.removeStaged()
		}
	}()
	if !same {
		if err := s.stage(ctx, file, progress); err != nil {
			return m, fmt.Errorf("staging in %s: %w", s.cfg.Dir, err)
		}
	}
	// The floor is staged before the list counts, so that a disk that is full
	// is found out here; it is raised after the list, so that a power cut
	// between the two leaves a list that its floor admits.
	if err := s.stageFloor(next); err != nil {
		return m, err
	}
	if !same {
		if err := s.rename(listFile); err != nil {
			return m, err
		}
	}
	return m, s.rename(floorFile)
}

// admit holds next against every list known to have been in force. same says
// that next is in force already and whole.
func (s *Store) admit(ctx context.Context, next floor) (same bool, err error) {
	onDisk, floorErr := s.readFloor()
	snap, listErr := s.openStable()
	if listErr == nil {
		defer snap.unpin()
		if err := snap.floor.admit(next); err != nil {
			return false, err
		}
		same = snap.floor == next && snap.verify(ctx) == nil
	}
	if floorErr != nil && listErr != nil {
		return false, fmt.Errorf("%w, and %w: when you know that this list is the newest, remove %s and import again",
			floorErr, listErr, filepath.Join(s.cfg.Dir, floorFile))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return same, errors.Join(onDisk.admit(next), s.seen.admit(next))
}

// stage writes the rows into a database beside list.db, checks them to the last
// byte of the file, and makes the database durable.
func (s *Store) stage(ctx context.Context, file *whitelist.Reader, progress func(uint64)) error {
	s.removeStaged() // left by a power cut
	f, err := s.root.OpenFile(listFile+staged, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.fill(ctx, file, progress); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	snap, err := s.openSnapshot(listFile + staged)
	if err != nil {
		return err
	}
	snap.unpin()
	return nil
}

func (s *Store) fill(ctx context.Context, file *whitelist.Reader, progress func(uint64)) (err error) {
	// No journal and no syncing: until the rename this file is nobody's.
	db := openSQLite(filepath.Join(s.cfg.Dir, listFile+staged), "mode=rw&_journal_mode=OFF&_synchronous=OFF&_locking_mode=EXCLUSIVE")
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tx.Rollback() // without a journal it cannot succeed; the file is removed
		}
	}()
	if _, err := tx.Exec(schema); err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO manifest (signed) VALUES (?)", file.Head().Bytes); err != nil {
		return err
	}
	insert, err := tx.Prepare("INSERT INTO row (card_id, sealed) VALUES (?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	var n uint64
	for ; ; n++ {
		if n%1000 == 0 && n > 0 {
			progress(n)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		row, err := file.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if _, err := insert.Exec(row.ID[:], row.Sealed); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	progress(n)
	return nil
}

// rename puts a staged file in its place, durably.
func (s *Store) rename(name string) error {
	if err := s.root.Rename(name+staged, name); err != nil {
		return err
	}
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// removeStaged removes what an import left behind. It may fail where there is
// nothing, or where nothing can be written; the import itself tells.
func (s *Store) removeStaged() {
	s.root.Remove(listFile + staged)
	s.root.Remove(floorFile + staged)
}

// lock takes the writer's lock of the folder, waiting until ctx ends.
func (s *Store) lock(ctx context.Context) (unlock func() error, err error) {
	f, err := s.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
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
