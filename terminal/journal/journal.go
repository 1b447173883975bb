// Package journal is the terminal's memory of what its gate decided: an
// append-only SQLite file of events in a hash chain.
//
// It promises: when a method that writes returns nil, a power cut can no
// longer undo what it wrote, and when it returns an error, nothing was written
// or it counts against the person and never for them; an entry is counted in
// the same transaction that records it, so that two lanes cannot both take the
// last use; every event carries the hash of all before it, so that an event
// that was changed, removed or moved is found. A removed tail is found only by
// whoever keeps a later checkpoint elsewhere. The oldest events are deleted by
// Prune alone, which leaves a record in the chain and no byte of them.
//
// docs/journal.md describes events, chain, checkpoints and retention. The tables
// beside them are an index that can be made from them again.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Journal is open for writing in one process at a time. Its methods may be
// called by several lanes at once. It implements terminal.Journal.
type Journal struct {
	*Reader
	w    *sql.DB // one connection, so that writers queue in Go
	lock *os.File
	now  func() time.Time

	latest    atomic.Int64 // Unix milliseconds; 0 when there is no event
	unwritten sync.Map     // CardIDs whose refusal of the birth date could not be written
	fresh     bool
	reindexed bool
}

var _ terminal.Journal = (*Journal)(nil)

// Open opens the journal at path for writing, and makes it when there is none.
// now dates the events that carry no instant of a tap; nil means time.Now.
//
// The error is ErrInUse when another process has it open for writing, ErrNewer
// when a newer program wrote it, ErrCorrupt when it is damaged, ErrReadOnly or
// ErrFull when it cannot be written; each names the file. Opening checks the
// end of the chain and of the index; the whole is for Verify. A reservation that
// a process left open when it died is put in doubt.
func Open(path string, now func() time.Time) (_ *Journal, err error) {
	if now == nil {
		now = time.Now
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	j := &Journal{now: now}
	defer func() {
		if err != nil {
			err = errors.Join(fail(path, "opening", err), j.Close())
		}
	}()
	if j.lock, err = lock(path + ".lock"); err != nil {
		return nil, err
	}
	if j.fresh, err = createIfMissing(path); err != nil {
		return nil, err
	}
	// SQLite would fall back to reading and fail at the first tap only.
	if err := unix.Access(path, unix.W_OK); err != nil {
		return nil, err
	}
	if j.w, err = openDB(path, "mode=rw&_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_secure_delete=true"); err != nil {
		return nil, err
	}
	j.w.SetMaxOpenConns(1)
	if err := j.recover(context.Background()); err != nil {
		return nil, err
	}
	if j.Reader, err = openReader(path, "mode=ro"); err != nil {
		return nil, err
	}
	if err := j.doubtOpen(context.Background()); err != nil {
		return nil, err
	}
	return j, nil
}

// Close closes the journal. Events are durable long before.
func (j *Journal) Close() error {
	var errs []error
	if j.Reader != nil {
		errs = append(errs, j.Reader.Close())
	}
	if j.w != nil {
		errs = append(errs, j.w.Close())
	}
	if j.lock != nil {
		errs = append(errs, j.lock.Close()) // last: it guards the rest
	}
	return errors.Join(errs...)
}

// Fresh reports whether Open made the journal. A terminal that had one before
// has then forgotten which tickets are used, and somebody should know.
func (j *Journal) Fresh() bool { return j.fresh }

// Reindexed reports whether Open found that the index disagreed with the
// events, and made it again.
func (j *Journal) Reindexed() bool { return j.reindexed }

// Latest is the greatest instant of any event, in whole milliseconds rounded
// down; the zero time when there is none.
func (j *Journal) Latest() time.Time {
	ms := j.latest.Load()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// History is what is known of an entitlement. It reads what was used of that
// one, however long the journal is.
func (j *Journal) History(ctx context.Context, entitlement string) (terminal.History, error) {
	h, err := history(ctx, j.db, entitlement)
	if err != nil {
		return terminal.History{}, fail(j.path, "reading a history", err)
	}
	return h, nil
}

// Count is how many entitlements have been entered whose names begin with prefix.
func (j *Journal) Count(ctx context.Context, prefix string) (n uint32, err error) {
	err = j.db.QueryRowContext(ctx, `SELECT count(DISTINCT entitlement) FROM passages WHERE entitlement >= ?1 AND entitlement < ?1 || char(0x10FFFF)`, prefix).Scan(&n)
	if err != nil {
		return 0, fail(j.path, "counting", err)
	}
	return n, nil
}

// BirthDateRefused reports whether an event says that the card refused the
// birth date of its row, or said so before it was deleted, or would say so if it
// could have been written. It reads one entry of two indexes, never the events.
func (j *Journal) BirthDateRefused(ctx context.Context, cardID string) (bool, error) {
	if _, refused := j.unwritten.Load(cardID); refused {
		return true, nil
	}
	var refused bool
	err := j.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM refused WHERE card_id = ?1)
		OR EXISTS (SELECT 1 FROM events WHERE `+isRefusal+` AND bytes ->> 'card_id' = ?1)`, cardID).Scan(&refused)
	if err != nil {
		return false, fail(j.path, "looking for a refused birth date", err)
	}
	return refused, nil
}

// lockPatience is how long another process may still hold the lock.
const lockPatience = 300 * time.Millisecond

// lock takes the lock that keeps a second agent out. It lies beside the
// database: closing a descriptor of the database itself would drop the locks
// that SQLite holds on it (POSIX fcntl locks).
//
// It waits a moment for a process that is about to end, or about to become
// another program: what a process forks holds its locks until it executes.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for end := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w (it holds %s)", ErrInUse, path)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
