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
type Permit struct {
	state atomic.Int32
	at    time.Time // when it was spent
}

const (
	permitNone int32 = iota
	permitIssued
	permitSpent
	permitRevoked
)

// ErrNoPermit says that the relay must not move.
var ErrNoPermit = errors.New("permit is revoked, spent or was never issued")

func newPermit() *Permit {
	p := new(Permit)
	p.state.Store(permitIssued)
	return p
}

// Spend uses the permit up. A Gate calls it as the last thing before the
// relay moves, and does not move it on error.
func (p *Permit) Spend() error {
	at := time.Now()
	if !p.state.CompareAndSwap(permitIssued, permitSpent) {
		return ErrNoPermit
	}
	p.at = at
	return nil
}

// Revoke takes the permit back. It reports whether it is certain that the
// relay did not and will not move for it.
func (p *Permit) Revoke() bool {
	return p.state.CompareAndSwap(permitIssued, permitRevoked) || p.state.Load() != permitSpent
}
