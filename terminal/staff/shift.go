package staff

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Log makes durable who is on duty.
type Log interface {
	// Shift writes that somebody's shift begins or ends. It returns only when a
	// power cut can no longer undo it.
	Shift(ctx context.Context, at time.Time, by terminal.Staff, begins bool) error
}

// Errors of shifts.
var (
	ErrNotOnDuty    = errors.New("their shift has not begun, or somebody took over")
	ErrNobodyOnDuty = errors.New("nobody is on duty who could confirm: begin a shift (gate-agent shift begin)")
)

// A Shift is who answers for a terminal: one member of the staff, or nobody.
//
//	nobody ──Begin A──▶ A on duty ──Begin B──▶ B on duty    A's shift ends first
//	   ▲                    │
//	   └──────End A─────────┘
//
// Each change is in the log before it has an effect. A restart ends every shift.
// Its methods may be called concurrently.
type Shift struct {
	log Log
	now func() time.Time

	changing sync.Mutex
	on       atomic.Pointer[terminal.Staff] // nil: nobody
}

// NewShift begins with nobody on duty.
func NewShift(log Log, now func() time.Time) *Shift { return &Shift{log: log, now: now} }

// OnDuty is who is on duty, the zero Staff when nobody is. It does not wait.
func (s *Shift) OnDuty() terminal.Staff {
	if on := s.on.Load(); on != nil {
		return *on
	}
	return terminal.Staff{}
}

// Begin puts somebody on duty in the place of whoever is. Nothing happens when it
// is the same one.
func (s *Shift) Begin(ctx context.Context, by terminal.Staff) error {
	if err := by.May(terminal.Steward); err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	on := s.OnDuty()
	if on == by {
		return nil
	}
	if on != (terminal.Staff{}) {
		if err := s.write(ctx, on, false); err != nil {
			return err
		}
	}
	return s.write(ctx, by, true)
}

// End ends somebody's shift. The error is ErrNotOnDuty when it is not theirs.
func (s *Shift) End(ctx context.Context, by terminal.Staff) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if on := s.OnDuty(); on != by || on == (terminal.Staff{}) {
		return ErrNotOnDuty
	}
	return s.write(ctx, by, false)
}

// write makes a change durable, and then lets it be.
func (s *Shift) write(ctx context.Context, by terminal.Staff, begins bool) error {
	// Not cancelled: a write that is given up half-way might stand after all.
	if err := s.log.Shift(context.WithoutCancel(ctx), s.now(), by, begins); err != nil {
		return fmt.Errorf("recording the shift: %w", err)
	}
	if !begins {
		s.on.Store(nil)
		return nil
	}
	s.on.Store(&by)
	return nil
}

// Checker asks next while somebody is on duty to answer for what it says. Else
// the check fails: nobody confirms for nobody.
func (s *Shift) Checker(next terminal.HolderChecker) terminal.HolderChecker { return checker{s, next} }

type checker struct {
	shift *Shift
	next  terminal.HolderChecker
}

func (c checker) Check(ctx context.Context, d terminal.Decision) (bool, error) {
	if c.shift.OnDuty() == (terminal.Staff{}) {
		return false, ErrNobodyOnDuty
	}
	confirmed, err := c.next.Check(ctx, d)
	if confirmed && c.shift.OnDuty() == (terminal.Staff{}) { // it ended meanwhile
		return false, errors.Join(err, ErrNobodyOnDuty)
	}
	return confirmed, err
}
