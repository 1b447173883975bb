package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// A relay is the contact that opens the gate. Those who open and shut move it,
// and run does what time brings, all under one lock.
//
//	        Open                    pulse over
//	rest ─────────▶ on ────────────────────────────▶ rest, people left
//	  ▲             │ ▲                                     │
//	  └─────────────┘ └─────────────────────────────────────┘
//	   Shut, longest,    somebody passed; without a sensor,
//	   pin error         the gap is over
//
// While the alarm is on no opening begins, and a relay that holds the gate open
// goes on holding it: nothing moves against the hardware that opened the gate.
type relay struct {
	pin     gpio.PinOut
	active  gpio.Level
	pulsed  bool
	pulse   time.Duration
	gap     time.Duration
	longest time.Duration
	counts  bool // a sensor tells who passed
	fault   func(error)
	wake    chan struct{}

	mu     sync.Mutex
	closed bool
	alarm  bool
	on     bool // the contact is closed, or may be
	open   bool // people may pass

	people, given, passed uint32 // of this opening: admitted, pulses, gone through

	off   time.Time // the pulse is over
	ready time.Time // the next pulse may begin
	until time.Time // the gate is shut, though nobody shuts it
	retry time.Time // rest is tried again after a pin error
}

// retryAfter is how long a pin that failed to bring the relay to rest is left.
const retryAfter = time.Second

// openFor opens for so many people. While an earlier pulse is not yet over, it
// waits: the permit has a deadline of its own.
func (r *relay) openFor(ctx context.Context, spend func() error, people uint32) error {
	if people == 0 {
		return errNobody
	}
	for ctx.Err() == nil {
		wait, err := r.tryOpen(spend, people)
		if err != nil || wait == 0 {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return context.Cause(ctx)
}

// tryOpen opens, or says how long an earlier pulse still takes.
func (r *relay) tryOpen(spend func() error, people uint32) (wait time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	switch {
	case r.closed:
		return 0, ErrClosed
	case r.alarm:
		return 0, ErrAlarm
	case r.pulsed && r.on:
		return max(r.off.Sub(now), 0) + r.gap, nil
	case r.pulsed && !r.counts && r.open && r.given < r.people: // those before are still let in
		return time.Duration(r.people-r.given) * (r.pulse + r.gap), nil
	case now.Before(r.ready):
		return r.ready.Sub(now), nil
	}
	if err := spend(); err != nil {
		return 0, err
	}
	defer r.nudge()
	r.open, r.people, r.given, r.passed = true, people, 0, 0
	return 0, r.move(now)
}

// move closes the contact. When the pin fails nobody knows where the relay is,
// so it goes to rest.
func (r *relay) move(now time.Time) error {
	r.on = true
	if err := r.pin.Out(r.active); err != nil {
		r.open = false
		return errors.Join(fmt.Errorf("moving the relay: %w", err), r.rest(now))
	}
	r.given++
	r.off, r.until = now.Add(r.pulse), now.Add(r.longest)
	return nil
}

func (r *relay) rest(now time.Time) error {
	if err := r.pin.Out(!r.active); err != nil {
		r.retry = now.Add(retryAfter)
		return fmt.Errorf("bringing the relay to rest: %w", err)
	}
	if r.on {
		r.on, r.ready = false, now.Add(r.gap)
	}
	return nil
}

func (r *relay) shut() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.nudge()
	r.open = false
	if r.held() {
		return nil
	}
	return r.rest(time.Now())
}

// close shuts for good, whatever the alarm says: nobody will be left to do it.
func (r *relay) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.closed = false, true
	return r.rest(time.Now())
}

// held reports whether the alarm keeps the relay where it is.
func (r *relay) held() bool { return r.alarm && r.on && !r.pulsed }

func (r *relay) setAlarm(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.nudge()
	r.alarm, r.open = on, false
}

// sawPassage is told by the sensor.
func (r *relay) sawPassage() {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.nudge()
	if r.open && r.passed < r.people {
		r.passed++
		r.until = time.Now().Add(r.longest)
	}
}

func (r *relay) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run keeps time until ctx ends.
func (r *relay) run(ctx context.Context) {
	for {
		var due <-chan time.Time
		if next := r.step(time.Now()); !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-due:
		}
	}
}

// step does what is due, and returns when something will be.
func (r *relay) step(now time.Time) (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open && !now.Before(r.until) {
		r.open = false
		if !r.pulsed || r.counts { // else nobody will tell that they have passed
			r.fault(fmt.Errorf("gate was open for %v and nobody shut it", r.longest))
		}
	}
	over := !r.open || r.pulsed && !now.Before(r.off)
	if r.on && over && !r.held() && !now.Before(r.retry) {
		if err := r.rest(now); err != nil {
			r.fault(err)
		}
	}
	owed := r.pulsed && r.open && !r.on && r.given < r.people && (!r.counts || r.passed >= r.given)
	if owed && !now.Before(r.ready) {
		if err := r.move(now); err != nil {
			r.fault(err)
		}
		owed, over = false, !r.open
	}
	at := func(t time.Time, matters bool) {
		if matters && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	at(r.until, r.open)
	at(r.off, r.pulsed && r.on && !over)
	at(r.ready, owed)
	at(r.retry, r.on && over && !r.held())
	return next
}
