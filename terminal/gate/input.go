package gate

import (
	"context"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// An input is a contact without its bouncing. Edges only wake it up: what
// counts is the level, which it reads at least every poll, because there are
// GPIO chips whose edges never arrive (a PL061 under QEMU).
type input struct {
	pin      gpio.PinIn
	active   gpio.Level
	pull     gpio.Pull
	debounce time.Duration // a level counts when it has lasted so long

	changed func(active bool)

	// stuck, when not nil, is told when the contact has been active, or has not
	// come to rest, for stuckAfter, and when that is over.
	stuck      func(bool)
	stuckAfter time.Duration
}

// poll is also how long the end of run may take.
const poll = 20 * time.Millisecond

// start makes the pin an input, and returns how it is. That is where run
// begins: changed is told of changes only.
func (in *input) start() (active bool, err error) {
	if err := in.pin.In(in.pull, gpio.BothEdges); err != nil {
		return false, err
	}
	return in.read(), nil
}

func (in *input) read() bool { return in.pin.Read() == in.active }

// run watches the pin, which start found in a state, until ctx ends.
func (in *input) run(ctx context.Context, state bool) {
	now := time.Now()
	raw, since := state, now                     // since when state is what it is
	last, restless := now.Add(-in.debounce), now // the last edge; the first of those in a row
	quiet, told := true, false                   // no edge for the debounce time; stuck was told
	for ctx.Err() == nil {
		edge := in.wait(quiet, now.Sub(last))
		now = time.Now()
		if level := in.read(); edge || level != raw {
			if quiet {
				restless = now
			}
			raw, last = level, now
		}
		quiet = now.Sub(last) >= in.debounce
		if quiet && raw != state {
			state, since = raw, now
			in.changed(state)
		}
		if in.stuck == nil {
			continue
		}
		switch {
		case told && quiet && !state:
			told = false
			in.stuck(told)
		case !told && (state && now.Sub(since) >= in.stuckAfter || !quiet && now.Sub(restless) >= in.stuckAfter):
			told = true
			in.stuck(told)
		}
	}
}

// wait returns at an edge, and in any case in time to see that the level has
// lasted. It reports whether there was an edge.
func (in *input) wait(quiet bool, lasted time.Duration) bool {
	atMost := poll
	if !quiet {
		atMost = min(poll, in.debounce-lasted)
	}
	began := time.Now()
	if in.pin.WaitForEdge(atMost) {
		return true
	}
	time.Sleep(atMost - time.Since(began)) // a pin that cannot wait returns at once
	return false
}
