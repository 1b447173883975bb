package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A phase is a part of the day. Before the next one begins everybody is connected, and
// has told and heard everything.
type phase struct {
	name  string
	flaky bool // left out where nothing fails
	fresh int  // of a hundred tickets, how many are tried for the first time
	again int  // of a hundred tickets that were tried before, those that are tried again

	troubles bool                                   // that befall a wire while somebody taps
	begins   func(*venueRun)                        // what fails
	during   func(*venueRun, context.Context) error // in the middle of a beat, half-way
	recovers func(*venueRun, context.Context) error // after three quarters
}

var phases = [...]phase{
	{name: "everybody is connected", fresh: 20},
	{name: "connections are slow and break off", flaky: true, fresh: 30, again: 20, troubles: true},
	{name: "some gates are apart", flaky: true, fresh: 20, again: 20, begins: (*venueRun).part},
	{name: "the hub loses its power", flaky: true, fresh: 20, again: 20, during: (*venueRun).losePower, recovers: (*venueRun).restorePower},
	{name: "everybody is connected again", fresh: 100, again: 100},
}

// atOnce bounds how many tap in one beat: more of them than cores can serve within the
// time for a claim would show the machine's limits, not the venue's.
const atOnce = 10

// spend lets people come for a phase, and mends everything.
func (v *venueRun) spend(ctx context.Context, p *phase) error {
	if p.begins != nil {
		p.begins(v)
	}
	beats := v.plan(p)
	half, most := len(beats)/2, len(beats)*3/4
	for i, visitors := range beats {
		v.beat++
		var strike func(context.Context) error
		if i == half && p.during != nil {
			strike = func(ctx context.Context) error { return p.during(v, ctx) }
		}
		if err := v.play(ctx, visitors, strike); err != nil {
			return err
		}
		v.down = v.down || strike != nil
		if i == most && p.recovers != nil {
			if err := p.recovers(v, ctx); err != nil {
				return err
			}
		}
	}
	for _, g := range v.gates {
		g.apart = false
		g.wire.set(wireWhole)
	}
	return v.settle(ctx)
}

// plan says who tries what where, in beats.
func (v *venueRun) plan(p *phase) (beats [][]*visitor) {
	var tried, untried []*sharedTicket
	for _, t := range v.tickets {
		if t.tried {
			tried = append(tried, t)
		} else {
			untried = append(untried, t)
		}
	}
	v.random.Shuffle(len(tried), func(i, j int) { tried[i], tried[j] = tried[j], tried[i] })
	fresh := untried[:min(len(untried), (v.sold*p.fresh+99)/100)]
	groups := v.groups(fresh, p)
	if p.again < 100 {
		// Some of the new ones again, at other gates.
		groups = append(groups, v.groups(fresh[:len(fresh)/2], p)...)
	}
	groups = append(groups, v.groups(tried[:len(tried)*p.again/100], p)...)
	for _, group := range groups {
		last := len(beats) - 1
		if last < 0 || len(beats[last])+len(group) > min(atOnce, len(v.gates)) || clash(beats[last], group) {
			beats = append(beats, nil)
			last++
		}
		beats[last] = append(beats[last], group...)
	}
	return beats
}

// groups are visitors who try a ticket at once, at one gate each.
func (v *venueRun) groups(tickets []*sharedTicket, p *phase) (groups [][]*visitor) {
	for _, t := range tickets {
		t.tried = true
		var group []*visitor
		gates := v.random.Perm(len(v.gates))
		for i := range 1 + v.random.IntN(cardsEach) {
			w := &visitor{ticket: t, gate: v.gates[gates[i]], card: i, turns: v.oneIn(10)}
			if p.troubles && v.oneIn(20) {
				w.trouble = trouble(1 + v.random.IntN(int(troubles)-1))
			}
			group = append(group, w)
		}
		groups = append(groups, group)
	}
	return groups
}

// clash reports whether a gate or a ticket would be in a beat twice.
func clash(beat, group []*visitor) bool {
	return slices.ContainsFunc(group, func(w *visitor) bool {
		return slices.ContainsFunc(beat, func(o *visitor) bool { return o.gate == w.gate || o.ticket == w.ticket })
	})
}

// play lets visitors tap side by side; strike happens meanwhile.
func (v *venueRun) play(ctx context.Context, visitors []*visitor, strike func(context.Context) error) error {
	var wait sync.WaitGroup
	for _, w := range visitors {
		wait.Go(func() {
			w.gate.wire.strike(w.trouble)
			w.call = v.now()
			w.act = &act{who: w.ticket.cards[w.card], unjudged: true, pass: 1}
			if w.turns {
				w.act.pass = 0
			}
			w.err = w.gate.do(ctx, w.act)
		})
	}
	var struck error
	if strike != nil {
		struck = strike(ctx)
	}
	wait.Wait()
	failed := []error{struck}
	for _, w := range visitors {
		failed = append(failed, w.err)
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, w := range visitors {
		v.enter(w)
	}
	for _, w := range visitors {
		v.judge(w)
		v.report.add(w)
	}
	return nil
}

// part sets some gates apart: the connections of every second one end, the others' are
// silent.
func (v *venueRun) part() {
	for i, n := range v.random.Perm(len(v.gates))[:len(v.gates)*2/5] {
		g := v.gates[n]
		g.apart = true
		g.wire.set(wireCut)
		if i%2 == 1 {
			g.wire.set(wireSilent)
		}
	}
}

// losePower stops the hub while people tap: first nothing that it says reaches anybody.
func (v *venueRun) losePower(context.Context) error {
	for _, g := range v.gates {
		g.wire.set(wireCut)
	}
	return v.hub.losePower()
}

// restorePower starts the hub on the disk that it had.
func (v *venueRun) restorePower(ctx context.Context) error {
	address, err := v.hub.start(ctx)
	if err != nil {
		return fmt.Errorf("starting the hub again: %w", err)
	}
	for _, g := range v.gates {
		g.wire.leadTo(address)
		g.wire.set(wireWhole)
	}
	v.down = false
	return nil
}

// settleTime bounds how long everybody may take to tell and hear everything: a link
// that was down waits up to 15 s before it tries again.
const settleTime = 90 * time.Second

// settle waits until every gate is connected, the log has all of every journal, and
// every gate all of the log.
func (v *venueRun) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("not everything was told and heard in time"))
	defer cancel()
	for _, g := range v.gates {
		for {
			settled, err := g.abreast(ctx, v)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
			if settled {
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s: %w", g.name, context.Cause(ctx))
			}
		}
	}
	return nil
}
