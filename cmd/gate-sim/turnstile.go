package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

// A turnstile is a real lane, with a simulated gate that has a sensor, and does
// with it what people do. Nothing is waited for by the clock: the time to pass is
// over when the people say so.
type turnstile struct {
	lane  *terminal.Lane
	field *nfctest.Field
	gate  *gate.Simulator
	radio *vcard.Clock // of the cards at this lane, modelled

	decisions chan terminal.Decision
	incidents chan terminal.Incident
	waits     chan struct{}  // the lane waits for somebody to pass
	over      chan time.Time // nobody will
}

func newTurnstile() *turnstile {
	return &turnstile{
		field: nfctest.NewField(onlySlot), gate: gate.NewSimulator(nil).WithSensor(), radio: &vcard.Clock{},
		decisions: make(chan terminal.Decision, 4), incidents: make(chan terminal.Incident, 64),
		waits: make(chan struct{}, 2*largestGroup), over: make(chan time.Time),
	}
}

// wire puts the turnstile under a lane.
func (t *turnstile) wire(p *terminal.Parts) {
	p.Gate, p.Checker = t.gate, t.gate
	p.Observe = func(d terminal.Decision) { t.decisions <- d }
	p.Incidents = func(i terminal.Incident) { t.incidents <- i }
	p.After = func(time.Duration) <-chan time.Time {
		select {
		case t.waits <- struct{}{}:
		default: // the people have gone
		}
		return t.over
	}
}

// An act is what happens at a turnstile: what people do there, what has to come
// of it, and what came.
type act struct {
	who      *person // nil: a supervisor lets people in
	exit     bool
	want     answer
	pullAt   int  // the command before which the card is pulled away; 0 is a patient person
	pass     int  // who walk through an open gate
	followed bool // by somebody who was not admitted
	confirm  bool // staff does, when asked
	rival    *act // one of the two gets in
	unjudged bool // what should come of it is worked out elsewhere

	got    terminal.Decision
	passed int
	took   time.Duration // the card's modelled time with the agent's, detection to relay
	faults []string
}

func (a *act) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// do lets the people act, and waits until the lane is done with them. An error is
// a lane that does not answer.
func (t *turnstile) do(ctx context.Context, a *act) (err error) {
	modelled := t.radio.Elapsed()
	if a.who == nil {
		if _, err := t.lane.Override(ctx, terminal.Staff{Name: "supervisor", Role: terminal.Supervisor}, "press", uint32(a.want.people)); err != nil {
			a.fault("override: %v", err)
		}
	} else {
		card, err := vcard.New(a.who.image, vcard.Options{Clock: t.radio})
		if err != nil {
			return err
		}
		var medium nfctest.Medium = card
		if a.pullAt > 0 {
			medium = nfctest.Pulled(card, a.pullAt)
		}
		t.field.Insert(onlySlot, medium)
	}
	if a.got, err = await(ctx, t.decisions); err != nil {
		return err
	}
	if a.who != nil {
		t.field.Remove(onlySlot)
	}
	a.took = a.got.Elapsed + t.radio.Elapsed() - modelled
	if asked := a.got.Verdict == terminal.Attend; asked != a.want.staff {
		a.fault("staff was asked: %t", asked)
	}
	if a.got.Verdict == terminal.Attend {
		for !t.gate.Press(a.confirm) {
			select {
			case <-time.After(100 * time.Microsecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if a.got, err = await(ctx, t.decisions); err != nil {
			return err
		}
	}
	if a.got.Admitted() {
		if err := t.through(ctx, a); err != nil {
			return err
		}
	}
	a.check()
	for len(t.incidents) > 0 {
		i := <-t.incidents
		a.fault("incident %s %s (%v)", i.Reason, i.State, i.Cause)
	}
	return nil
}

// through walks people through the open gate.
func (t *turnstile) through(ctx context.Context, a *act) error {
	a.passed = a.pass
	if a.want.verdict != terminal.Admit && a.rival == nil && !a.unjudged {
		a.passed = 1 // whom the gate should not let in goes in all the same
	}
	a.passed = min(a.passed, int(a.got.People))
	for range a.passed {
		t.gate.Pass(1)
		if _, err := await(ctx, t.waits); err != nil {
			return err
		}
	}
	if _, err := await(ctx, t.waits); err != nil { // since it opened
		return err
	}
	if a.followed && a.passed == int(a.got.People) {
		t.gate.Pass(1)
		if i, err := await(ctx, t.incidents); err != nil {
			return err
		} else if i.Reason != terminal.Tailgate {
			a.fault("incident %s, not tailgate", i.Reason)
		}
	}
	settled, err := t.settled(ctx)
	if err != nil {
		return err
	}
	for len(t.waits) > 0 {
		<-t.waits
	}
	want := terminal.Admit
	if a.passed == 0 {
		want = terminal.Deny
	}
	if !settled.Settled || settled.Verdict != want || int(settled.Passed) != a.passed {
		a.fault("settled as %v %s with %d people, %d passed (%v)", settled.Verdict, settled.Reason, settled.Passed, a.passed, settled.Cause)
	}
	if t.gate.IsOpen() {
		a.fault("the relay is not at rest")
	}
	return nil
}

// settled waits until the lane has settled what it let in; whoever has not passed
// will not.
func (t *turnstile) settled(ctx context.Context) (d terminal.Decision, err error) {
	for {
		select {
		case d = <-t.decisions:
			return d, nil
		case t.over <- time.Time{}:
		case <-time.After(patience):
			return d, errMute
		case <-ctx.Done():
			return d, context.Cause(ctx)
		}
	}
}

// check compares what the gate did with what it should have done.
func (a *act) check() {
	if a.rival != nil || a.unjudged {
		return // once both are through
	}
	want, got := a.want, a.got
	if got.Verdict != want.verdict || got.Reason != want.reason {
		a.fault("%v %s, should be %v %s (%v)", got.Verdict, got.Reason, want.verdict, want.reason, got.Cause)
	} else if int(got.People) != want.people {
		a.fault("%s for %d people, should be %d", got.Reason, got.People, want.people)
	}
}

// decideBetween compares what came of two who came at once: one gets in, and the
// other's ticket is used.
func decideBetween(a, b *act) {
	if a.got.Verdict < b.got.Verdict {
		a, b = b, a
	}
	if !a.got.Admitted() || a.got.Reason != terminal.OK || b.got.Verdict != terminal.Deny || b.got.Reason != terminal.AlreadyUsed {
		a.fault("two at once: %v %s and %v %s", a.got.Verdict, a.got.Reason, b.got.Verdict, b.got.Reason)
	}
}

// patience is how long a lane is waited for, by a real clock.
const patience = time.Minute

var errMute = errors.New("the lane says nothing")

func await[T any](ctx context.Context, c <-chan T) (v T, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-c:
		return v, nil
	case <-timer.C:
		return v, errMute
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}
