package terminal

import (
	"context"
	"errors"
	"time"
)

// grace is how long people who are on their way are waited for when their time
// is over and the relay is at rest.
const grace = 300 * time.Millisecond

// expired is a time that is over.
var expired = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// pass waits until those who were admitted have passed, and settles their
// reservation.
//
//	                   ┌─ the relay did not move ───────────▶ annulled (enter)
//	reserved ──Open──▶ open ─┬─ all have passed ────────────▶ committed
//	                         ├─ time is over, some have ────▶ committed; the rest may come later
//	                         ├─ time is over, nobody has ───▶ annulled: no_passage
//	                         ├─ alarm, or told to stop ─────▶ as when time is over
//	                         └─ the sensor sticks ──────────▶ in doubt: staff settles it
//	one more, or anybody when nobody is admitted ───────────▶ tailgate
//
// Time begins anew with each who passes. A crash leaves the reservation as it
// is; the next start puts it in doubt.
func (l *Lane) pass(ctx context.Context, d Decision, seen <-chan Sensed, done func()) {
	passed, stuck := l.follow(ctx, d, seen)
	done()
	defer func() { // whoever followed
		for len(seen) > 0 {
			if s := <-seen; s != SensedStuck && s != SensedFree { // of these the watch knows
				l.sensed(ctx, s)
			}
		}
	}()
	keep := context.WithoutCancel(ctx)
	d.Settled, d.Passed = true, passed
	switch {
	case stuck:
		d.Reason = GateFault
	case passed == 0:
		d.Verdict, d.Reason = Deny, NoPassage
	}
	if d.Cause = l.settle(keep, d); d.Cause != nil {
		l.owe(d)
	}
	l.Observe(d)
	l.show()
}

// settle writes what came of a passage.
func (l *Lane) settle(ctx context.Context, d Decision) error {
	switch {
	case d.Reason == GateFault:
		return l.Journal.Doubt(ctx, d.Reservation, GateFault)
	case d.Passed > 0:
		return l.Journal.Commit(ctx, d.Reservation, d.Passed)
	default:
		return l.Journal.Annul(ctx, d.Reservation, NoPassage)
	}
}

// owe remembers a passage that could not be written: it counts as it was
// reserved until it can.
func (l *Lane) owe(d Decision) {
	l.door.mu.Lock()
	defer l.door.mu.Unlock()
	l.door.owed = append(l.door.owed, d)
}

// payUp writes the passages that are owed, as far as that works now.
func (l *Lane) payUp(ctx context.Context) {
	l.door.mu.Lock()
	owed := l.door.owed
	l.door.owed = nil
	l.door.mu.Unlock()
	for _, d := range owed {
		switch err := l.settle(context.WithoutCancel(ctx), d); {
		case errors.Is(err, ErrSettled), errors.Is(err, ErrPeople): // staff was faster, and it will never be
			_ = l.incident(ctx, Incident{Reason: GateFault, Cause: err})
		case err != nil:
			l.owe(d)
		}
	}
}

// follow counts people until all have passed or no more will, and brings the
// relay to rest.
func (l *Lane) follow(ctx context.Context, d Decision, seen <-chan Sensed) (passed uint32, stuck bool) {
	defer l.shut(ctx)
	over, closing, ended := l.After(l.PassTime), false, ctx.Done()
	for passed < d.People && !stuck {
		select {
		case s := <-seen:
			before := passed
			if passed, stuck = l.count(ctx, d, s, passed); passed > before && !closing {
				over = l.After(l.PassTime)
			}
			continue
		case <-over:
		case <-ended:
		}
		if len(seen) > 0 {
			over = expired // what was seen counts before what the clock says
			continue
		}
		if closing {
			break
		}
		l.shut(ctx)
		closing, ended, over = true, nil, l.After(grace)
	}
	return passed, stuck
}

// count is one thing that the sensor saw while people were to pass.
func (l *Lane) count(ctx context.Context, d Decision, s Sensed, passed uint32) (uint32, bool) {
	if d.Direction != l.Direction { // whoever leaves a shelter goes against its lane
		switch s {
		case SensedPassage:
			s = SensedWrongWay
		case SensedWrongWay:
			s = SensedPassage
		}
	}
	switch s {
	case SensedStuck:
		return passed, true
	case SensedWrongWay:
		_ = l.incident(ctx, Incident{Reason: Tailgate})
	case SensedPassage:
		if passed++; passed == d.People {
			break // the commit says so
		}
		if err := l.Journal.Passed(context.WithoutCancel(ctx), d.Reservation, passed); err != nil {
			_ = l.incident(ctx, Incident{Reason: GateFault, Cause: err})
		}
	}
	return passed, false
}

func (l *Lane) shut(ctx context.Context) {
	if err := l.Gate.Shut(); err != nil {
		_ = l.incident(ctx, Incident{Reason: GateFault, Cause: err})
	}
}
