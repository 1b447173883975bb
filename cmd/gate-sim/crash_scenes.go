package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/terminal"
)

// A scene is what people do at a lane until the process is killed in the middle.
type scene struct {
	name  string
	card  string
	setup func(context.Context, *outside) error // nil: the lane is new
	play  func(*outside) error
}

// Cards of the crash world, and how many people each lets in.
const (
	oneCard    = "one"       // one person, once
	partyCard  = "party"     // three, once
	lookedCard = "attention" // one, whom staff looks at
	againCard  = "again"     // one, who may go out and come back
)

var sizes = map[string]int{oneCard: 1, partyCard: 3, lookedCard: 1, againCard: 1}

var scenes = []scene{
	{"one person", oneCard, nil, func(o *outside) error { return o.enter(1) }},
	{"one person turns back", oneCard, nil, func(o *outside) error { return o.enter(0) }},
	{"two of a party of three", partyCard, nil, func(o *outside) error { return o.enter(2) }},
	{"a whole party of three", partyCard, nil, func(o *outside) error { return o.enter(3) }},
	{"the rest of a party", partyCard, entered(1), func(o *outside) error { return o.enter(2) }},
	{"ticket used before", oneCard, entered(1), func(o *outside) error { _, err := o.tap(false); return err }},
	{"staff looks, lets in", lookedCard, nil, func(o *outside) error { return o.attended(true) }},
	{"staff looks, refuses", lookedCard, nil, func(o *outside) error { return o.attended(false) }},
	{"staff settles a doubt", oneCard, doubtful, func(o *outside) error { return o.attended(true) }},
	{"override", oneCard, nil, func(o *outside) error {
		if err := o.override(2); err != nil {
			return err
		}
		for range 2 { // guests: they have no ticket
			if err := o.sense(false, terminal.SensedPassage); err != nil {
				return err
			}
		}
		return o.settled(false)
	}},
	{"somebody leaves", againCard, entered(1), func(o *outside) error { return o.leave(1) }},
	{"somebody does not leave after all", againCard, entered(1), func(o *outside) error { return o.leave(0) }},
	{"somebody comes back", againCard, left, func(o *outside) error { return o.enter(1) }},
	{"fire alarm", oneCard, nil, func(o *outside) error {
		if _, err := o.tap(false); err != nil {
			return err
		}
		if err := o.burn(true); err != nil {
			return err
		}
		if err := o.closing(false); err != nil {
			return err
		}
		if err := o.burn(false); err != nil {
			return err
		}
		return o.enter(1)
	}},
	{"sensor sticks", oneCard, nil, func(o *outside) error {
		if _, err := o.tap(false); err != nil {
			return err
		}
		if err := o.sense(false, terminal.SensedStuck); err != nil {
			return err
		}
		return o.settled(false)
	}},
	{"somebody follows", oneCard, nil, func(o *outside) error {
		if err := o.enter(1); err != nil {
			return err
		}
		if err := o.sense(false, terminal.SensedPassage); err != nil {
			return err
		}
		_, err := o.expect(false, "incident")
		return err
	}},
}

// enter is a tap, and so many who pass.
func (o *outside) enter(people int) error {
	d, err := o.tap(false)
	if err == nil && d.Verdict != terminal.Admit {
		err = fmt.Errorf("%v %s", d.Verdict, d.Reason)
	}
	if err == nil {
		err = o.through(false, people, int(d.N))
	}
	return err
}

func (o *outside) leave(people int) error {
	d, err := o.tap(true)
	if err == nil && d.Verdict != terminal.Admit {
		err = fmt.Errorf("%v %s: whoever is inside may leave", d.Verdict, d.Reason)
	}
	if err == nil {
		err = o.through(true, people, int(d.N))
	}
	return err
}

// through is people who pass a gate that is open for so many.
func (o *outside) through(exit bool, people, admitted int) error {
	if err := o.walk(exit, people); err != nil {
		return err
	}
	if people < admitted {
		return o.giveUp(exit)
	}
	return o.settled(exit)
}

// attended is a tap that staff is asked about.
func (o *outside) attended(yes bool) error {
	if d, err := o.tap(false); err != nil {
		return err
	} else if d.Verdict != terminal.Attend {
		return fmt.Errorf("%v %s: staff is not asked", d.Verdict, d.Reason)
	}
	if _, err := o.expect(false, "asks"); err != nil {
		return err
	}
	d, err := o.press(yes)
	if err != nil || !yes {
		return err
	}
	if d.Verdict != terminal.Admit {
		return fmt.Errorf("%v %s although staff said yes", d.Verdict, d.Reason)
	}
	return o.through(false, 1, int(d.N))
}

// entered has so many inside before.
func entered(people int) func(context.Context, *outside) error {
	return func(ctx context.Context, o *outside) error {
		return o.before(ctx, func() error { return o.enter(people) })
	}
}

// left has somebody who came and went before.
func left(ctx context.Context, o *outside) error {
	return o.before(ctx, func() error {
		if err := o.enter(1); err != nil {
			return err
		}
		return o.leave(1)
	})
}

// doubtful has a cut before this one, with the gate open and nobody through.
func doubtful(ctx context.Context, o *outside) error {
	if err := o.start(ctx, false); err != nil {
		return err
	}
	if _, err := o.tap(false); err != nil {
		return err
	}
	if err := o.kill(); !errors.Is(err, errCut) {
		return err
	}
	return nil
}

// before is a day that went well.
func (o *outside) before(ctx context.Context, act func() error) error {
	if err := o.start(ctx, false); err != nil {
		return err
	}
	return errors.Join(act(), o.stop())
}
