package journal

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/gate-agent/gate-agent/terminal"
)

// Errors that callers act on. Each comes wrapped with the path of the journal.
var (
	ErrInUse    = errors.New("another agent has the journal open")
	ErrNewer    = errors.New("a newer program wrote the journal")
	ErrOlder    = errors.New("an older program wrote the journal: start the agent once, which brings it up to date")
	ErrCorrupt  = errors.New("journal is damaged or was tampered with")
	ErrReadOnly = errors.New("journal cannot be written: read-only")
	ErrFull     = errors.New("journal cannot be written: no space left")
	ErrBusy     = errors.New("journal is locked by another program")

	ErrSettled = terminal.ErrSettled
	ErrPeople  = terminal.ErrPeople

	// ErrOtherJournal says that a checkpoint is not of this journal.
	ErrOtherJournal = errors.New("checkpoint of another journal")

	// ErrPruned says that retention has deleted the event of a checkpoint, and
	// left a record of it: nothing can be compared.
	ErrPruned = errors.New("deleted by retention")
)

// A ChainError names the first event at which the chain breaks. It is an
// ErrCorrupt.
type ChainError struct {
	Seq uint64
	Why string
}

func (e *ChainError) Error() string { return fmt.Sprintf("event %d: %s", e.Seq, e.Why) }

func (e *ChainError) Unwrap() error { return ErrCorrupt }

// fail says which journal and what was done to it, and maps what SQLite and
// the system say to the errors above.
func fail(path, doing string, err error) error {
	if kind := classify(err); kind != nil && !errors.Is(err, kind) {
		err = fmt.Errorf("%w: %w", kind, err)
	}
	return fmt.Errorf("journal %s: %s: %w", path, doing, err)
}

func classify(err error) error {
	var se sqlite3.Error
	if errors.As(err, &se) {
		switch se.Code {
		case sqlite3.ErrFull:
			return ErrFull
		case sqlite3.ErrReadonly:
			return ErrReadOnly
		case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
			return ErrCorrupt
		case sqlite3.ErrBusy, sqlite3.ErrLocked:
			return ErrBusy
		}
		err = se.SystemErrno
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrFull
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return ErrReadOnly
	}
	return nil
}
