package terminal

import (
	"errors"
	"sync/atomic"
	"time"
)

// A Permit is the one right to move the relay once. The deadline of the tap
// revokes it, so that an answer which comes late opens nothing, whatever it
// says. The zero Permit permits nothing.
//
//	issued ──Spend──▶ spent     the relay moves
//	   └────Revoke──▶ revoked   it never will
//
// After its deadline an issued permit is as good as revoked.
type Permit struct {
	state atomic.Int32
	until time.Time // the deadline, with a monotonic reading
	at    time.Time // when it was spent
	spent func()    // called then, before the relay moves; may be nil
}

const (
	permitNone int32 = iota
	permitIssued
	permitSpent
	permitRevoked
)

// ErrNoPermit says that the relay must not move.
var ErrNoPermit = errors.New("permit is revoked, spent, past its deadline or was never issued")

func newPermit(until time.Time) *Permit {
	p := &Permit{until: until}
	p.state.Store(permitIssued)
	return p
}

// Spend uses the permit up. A Gate calls it as the last thing before the
// relay moves, and does not move it on error. It looks at the clock itself:
// on a busy machine whoever revokes may get to run long after the deadline.
func (p *Permit) Spend() error {
	at := time.Now()
	if at.After(p.until) || !p.state.CompareAndSwap(permitIssued, permitSpent) {
		return ErrNoPermit
	}
	p.at = at
	if p.spent != nil {
		p.spent()
	}
	return nil
}

// Revoke takes the permit back. It reports whether it is certain that the
// relay did not and will not move for it.
func (p *Permit) Revoke() bool {
	return p.state.CompareAndSwap(permitIssued, permitRevoked) || p.state.Load() != permitSpent
}
