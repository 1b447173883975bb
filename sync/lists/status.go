package lists

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

const (
	statusFile = "sync.json"
	lockFile   = "sync.lock"

	maxStatus  = 64 << 10 // bytes
	maxMessage = 1 << 10  // bytes of an error
)

// A Status is what came of all rounds of a state folder, as sync.json has it. Times
// are UTC; one that never was is missing.
type Status struct {
	Source    string    `json:"source"`
	LastRound time.Time `json:"last_round,omitzero"`
	// LastContact is the last round in which the source had a list that this
	// terminal may use, also when it was the one in force. It says nothing of how
	// old that list is.
	LastContact time.Time `json:"last_contact,omitzero"`
	Next        time.Time `json:"next,omitzero"` // by the running agent

	Failure *Failure `json:"failure"` // the last one
	Alarm   *Alarm   `json:"alarm"`   // the last one
	InForce *InForce `json:"in_force"`
	// RoleEnds is when the key that signed the source's list may not sign any
	// more, missing where keys are pinned.
	RoleEnds time.Time `json:"role_ends,omitzero"`

	Counts Counts `json:"counts"`
}

// A Failure is what has kept lists from coming.
type Failure struct {
	Error   string    `json:"error"`   // of its last round
	Refused bool      `json:"refused"` // the list was at fault
	Since   time.Time `json:"since"`
	Times   uint64    `json:"times"`          // rounds, one behind the other
	Until   time.Time `json:"until,omitzero"` // missing while it goes on
}

// An Alarm is files that lead to other rows than are signed.
type Alarm struct {
	Error string    `json:"error"`
	At    time.Time `json:"at"`
	Epoch uint64    `json:"epoch"` // of the list
	Seq   uint64    `json:"seq"`
}

// InForce is the list in force after the last round.
type InForce struct {
	Epoch    uint64    `json:"epoch"`
	Seq      uint64    `json:"seq"`
	SetSeq   uint64    `json:"set_seq"` // 0: it came as one file
	Rows     uint64    `json:"rows"`
	NotAfter time.Time `json:"not_after"`
}

// NewInForce says it of a manifest.
func NewInForce(m whitelist.Manifest) *InForce {
	return &InForce{m.Epoch, m.Seq, m.Set.Seq, m.Rows, m.NotAfter}
}

// Counts are of all rounds of a state folder.
type Counts struct {
	Rounds    uint64 `json:"rounds"`
	Failures  uint64 `json:"failures"` // rounds with one
	Alarms    uint64 `json:"alarms"`
	Lists     uint64 `json:"lists"`     // that came into force
	Deltas    uint64 `json:"deltas"`    // files of that kind in them
	Snapshots uint64 `json:"snapshots"` // and of this one
	Files     uint64 `json:"files"`     // whole lists
	Received  int64  `json:"received"`  // bytes
}

// ErrNoStatus: no round was made yet, or sync.json is not readable.
var ErrNoStatus = errors.New("nothing is known of rounds")

// ReadStatus reads what came of the rounds of a state folder.
func ReadStatus(state string) (Status, error) {
	f, err := os.Open(filepath.Join(state, statusFile))
	if errors.Is(err, os.ErrNotExist) {
		return Status{}, fmt.Errorf("%w: there is no %s", ErrNoStatus, statusFile)
	}
	if err != nil {
		return Status{}, err
	}
	defer f.Close() // only read
	return readStatus(f)
}

func readStatus(r io.Reader) (s Status, err error) {
	b, err := io.ReadAll(io.LimitReader(r, maxStatus))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return Status{}, fmt.Errorf("%w: %s is not readable: %w", ErrNoStatus, statusFile, err)
	}
	return s, nil
}

// record writes down what came of a round. Nothing hangs on what stood there
// before: where it is not readable it begins anew.
func (u *Updater) record(r Round) error {
	var s Status
	if f, err := u.state.Open(statusFile); err == nil {
		s, _ = readStatus(f)
		f.Close() // only read
	}
	s.add(r, u.cfg.From, time.Now().UTC().Truncate(time.Second))
	if m, err := u.inForce(); err == nil {
		s.InForce = NewInForce(*m)
	} else {
		s.InForce = nil
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = u.replace(statusFile, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", statusFile, err)
	}
	return nil
}

// add adds a round that ended now.
func (s *Status) add(r Round, source string, now time.Time) {
	s.Source, s.LastRound = source, now
	if !r.Next.IsZero() {
		s.Next = r.Next.UTC().Truncate(time.Second)
	}
	if r.Contact {
		s.LastContact, s.RoleEnds = now, r.RoleEnds
	}
	s.Counts.Rounds++
	s.Counts.Received += r.Received
	switch {
	case r.Err != nil:
		s.Counts.Failures++
		if s.Failure == nil || !s.Failure.Until.IsZero() {
			s.Failure = &Failure{Since: now}
		}
		s.Failure.Error, s.Failure.Refused = message(r.Err), r.Refused()
		s.Failure.Times++
	case s.Failure != nil && s.Failure.Until.IsZero():
		s.Failure.Until = now
	}
	if r.Alarm != nil {
		s.Counts.Alarms++
		s.Alarm = &Alarm{message(r.Alarm), now, r.Manifest.Epoch, r.Manifest.Seq}
	}
	if r.Came != "" {
		s.Counts.Lists++
	}
	s.Counts.Deltas += uint64(r.Deltas)
	switch r.Came {
	case BySnapshot:
		s.Counts.Snapshots++
	case ByFile:
		s.Counts.Files++
	}
}

func message(err error) string {
	text := err.Error()
	return text[:min(len(text), maxMessage)]
}

// replace writes a small file of the state folder durably. Whoever calls it holds
// the lock.
func (u *Updater) replace(name string, content []byte) error {
	const staged = ".new"
	f, err := u.state.OpenFile(name+staged, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := u.state.Rename(name+staged, name); err != nil {
		return err
	}
	dir, err := u.state.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock takes the lock of a round, waiting until ctx ends.
func (u *Updater) lock(ctx context.Context) (unlock func() error, err error) {
	f, err := u.state.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil // closing unlocks
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", lockFile, err), f.Close())
		}
		if !told {
			told = true
			u.cfg.Tell(Progress{Doing: Waiting})
		}
		wait := time.NewTimer(50 * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, errors.Join(fmt.Errorf("another round is running: %w", ctx.Err()), f.Close())
		}
	}
}
