package terminal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A door follows what the inputs of a lane's gate see.
//
// While people are expected, what the sensor sees belongs to their reservation.
// Whoever passes at any other time was not admitted.
type door struct {
	mu       sync.Mutex
	expected chan Sensed // nil: nobody is
	owed     []Decision  // passages whose end could not be written
}

// expect makes passages from now on those of one reservation, until done.
func (d *door) expect(people uint32) (seen <-chan Sensed, done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan Sensed, people+64) // and those who follow
	d.expected = c
	return c, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.expected = nil
	}
}

// hand gives s to whoever expects it, and reports whether somebody does.
func (d *door) hand(s Sensed) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.expected <- s: // a nil channel takes nothing
		return true
	default:
		return false
	}
}

// watch follows the gate's inputs until ctx ends.
func (l *Lane) watch(ctx context.Context) {
	look := time.NewTicker(lampEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			l.payUp(ctx)
			l.look(ctx)
		case s := <-l.Gate.Sensed():
			l.sensed(ctx, s)
		}
	}
}

func (l *Lane) sensed(ctx context.Context, s Sensed) {
	switch s {
	case SensedAlarm, SensedAllClear:
		if on := s == SensedAlarm; l.halts.set(HaltAlarm, on) {
			_ = l.incident(ctx, Incident{Reason: EmergencyOpen, State: state(on)})
		}
	case SensedStuck, SensedFree:
		on := s == SensedStuck
		if l.door.hand(s); l.halts.set(HaltSensor, on) {
			_ = l.incident(ctx, Incident{Reason: GateFault, State: state(on), Cause: errors.New("passage sensor")})
		}
	case SensedPassage, SensedWrongWay:
		if l.halts.get()&HaltAlarm != 0 || l.door.hand(s) { // whoever leaves a fire is not counted
			return
		}
		l.light(ShowTailgate)
		_ = l.incident(ctx, Incident{Reason: Tailgate})
	}
	l.look(ctx)
}

func state(on bool) State {
	if on {
		return Begins
	}
	return Ends
}

// incident makes an incident durable and tells whoever watches. The error is
// that of the journal, which they are told too: only who acts for staff needs it.
func (l *Lane) incident(ctx context.Context, i Incident) error {
	i.At, i.Gate, i.Direction = l.read().at, l.GateName, l.Direction
	err := l.Journal.Incident(context.WithoutCancel(ctx), i)
	if err != nil {
		err = fmt.Errorf("recording: %w", err)
		i.Cause = errors.Join(i.Cause, err)
	}
	l.Incidents(i)
	return err
}
