package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// An aftermath is what came of a cut: who was inside then, and what people were
// answered until everybody was where they should be.
type aftermath struct {
	inside int
	said   []string
	faults []string
}

func (a *aftermath) say(format string, args ...any) {
	a.said = append(a.said, fmt.Sprintf(format, args...))
}

func (a *aftermath) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// enough is more taps than anybody needs.
const enough = 6

// recover starts the process again and lets the same people try, with staff who
// can see who stands outside. It holds that
//
//	everybody with a ticket gets in, and nobody was charged for an entry that was none;
//	nobody gets in beyond them: with everybody inside, the card opens nothing more;
//	whoever is inside can leave;
//	an entry that nobody can tell of is asked about, and staff alone decides it;
//	the chain holds, and the relay is at rest before the first tap and after the last.
func (o *outside) recover(ctx context.Context) (a aftermath, err error) {
	a.inside = o.inside
	if o.open != [2]bool{} {
		a.fault("a relay does not fall to rest")
	}
	if err := o.start(ctx, false); err != nil {
		return a, err
	}
	err = o.quench(&a)
	if err == nil {
		err = o.tryAll(ctx, &a)
	}
	if o.open != [2]bool{} {
		a.fault("a relay is not at rest")
	}
	if err = errors.Join(err, o.stop()); err != nil {
		return a, err
	}
	r, err := journal.OpenReader(filepath.Join(o.dir, "journal.db"))
	if err != nil {
		return a, err
	}
	if _, err := r.Verify(ctx); err != nil {
		a.fault("%v", err)
	}
	return a, r.Close()
}

// quench has the alarm, if it is still on, go on for a while and end.
func (o *outside) quench(a *aftermath) error {
	if !o.alarm {
		return nil
	}
	a.say("the alarm ends")
	for _, on := range []bool{true, false} {
		if err := o.burn(on); err != nil {
			return err
		}
		if _, err := o.expect(false, "incident"); err != nil {
			return err
		}
	}
	return nil
}

func (o *outside) tryAll(ctx context.Context, a *aftermath) error {
	if o.card == againCard && o.inside > 0 {
		if err := o.fence(a); err != nil {
			return err
		}
		d, err := o.tap(true)
		if err != nil {
			return err
		}
		if d.Verdict != terminal.Admit {
			a.fault("%v %s to somebody who wants out", d.Verdict, d.Reason)
			return nil
		}
		a.say("leaves")
		if err := o.through(true, 1, int(d.N)); err != nil {
			return err
		}
	}
	for range enough {
		done, err := o.try(a)
		if done || err != nil {
			return err
		}
	}
	a.fault("no end after %d taps", enough)
	return nil
}

// fence hands the card to a friend outside, while its holder is inside.
func (o *outside) fence(a *aftermath) error {
	d, err := o.tap(false)
	if err != nil {
		return err
	}
	switch d.Verdict {
	case terminal.Admit:
		a.fault("a friend is let in with the card of somebody who is inside")
		return o.giveUp(false)
	case terminal.Attend:
		a.say("a friend: staff refuses")
		if _, err := o.expect(false, "asks"); err != nil {
			return err
		}
		_, err = o.press(false)
	default:
		a.say("a friend: %s", d.Reason)
	}
	return err
}

// try is one more tap, by whoever is outside. It is the last one when everybody is
// inside and the gate stays shut.
func (o *outside) try(a *aftermath) (done bool, err error) {
	left := o.size - o.inside
	d, err := o.tap(false)
	if err != nil {
		return false, err
	}
	switch {
	case d.Verdict == terminal.Deny && left == 0:
		a.say("%s", d.Reason)
		return true, nil
	case d.Verdict == terminal.Deny:
		a.fault("%s, and %d of the ticket never got in", d.Reason, left)
		return true, nil
	case d.Verdict == terminal.Admit && left == 0:
		a.fault("one more is let in: %s for %d", d.Reason, d.N)
		return true, o.giveUp(false)
	case d.Verdict == terminal.Admit:
		return false, o.letIn(a, "let in", left, int(d.N))
	}
	ask, err := o.expect(false, "asks")
	if err != nil {
		return false, err
	}
	// Staff says yes when those outside are those whom the gate would let in.
	if int(ask.N) == left {
		d, err := o.press(true)
		if err == nil && d.Verdict != terminal.Admit {
			a.fault("%v %s although staff said yes", d.Verdict, d.Reason)
			return true, nil
		}
		if err != nil {
			return false, err
		}
		return false, o.letIn(a, "staff lets in", left, int(d.N))
	}
	if int(ask.N) < left {
		a.fault("the gate lets in %d of the %d outside", ask.N, left)
	}
	if _, err := o.press(false); err != nil {
		return false, err
	}
	if left == 0 {
		a.say("staff refuses")
		return true, nil
	}
	// The gate knows less of them than staff: the ticket stays as it is.
	if err := o.override(left); err != nil {
		return false, err
	}
	a.say("supervisor lets in %d", left)
	return false, o.through(false, left, left)
}

func (o *outside) letIn(a *aftermath, how string, left, admitted int) error {
	if a.say("%s %d", how, min(left, admitted)); admitted > left {
		a.fault("the gate is open for %d, and %d are outside", admitted, left)
	}
	return o.through(false, min(left, admitted), admitted)
}

func (a aftermath) String() string { return strings.Join(a.said, ", ") }
