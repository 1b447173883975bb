package main

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
)

func afternoonCommand() *cobra.Command {
	var a afternoon
	cmd := &cobra.Command{
		Use:   "afternoon [--people N] [--lanes N] [--seed N] [--json]",
		Short: "Let a crowd come in and out for an afternoon",
		Long: `Afternoon lets a crowd come through entry lanes and out through exit lanes of one
terminal, with a real signed list, a real journal and the real lanes. Gates,
cards and the clock are simulated, so that six hours pass in a minute or two.
People come with tickets for one and for many, with cards of their own or not, go
out and come back, try twice, come too early or to the wrong gate, pull the card
away, turn back, follow somebody. The simulator works out by itself what each
of them must be answered, counts who passes, and fails when the gate, the
journal or the count of people inside says anything else.

One lane in four, and at least one, is an exit.`,
		Example: "  gate-sim afternoon\n  gate-sim afternoon --people 2000 --lanes 3 --seed 7 --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&a.people, "people", 20000, "how many come, 1 to 20000 for each entry lane")
	cmd.Flags().IntVar(&a.lanes, "lanes", 4, "lanes, 2 to 64; one in four is an exit")
	cmd.Flags().Uint64Var(&a.seed, "seed", 1, "the same number, the same people with the same plans")
	cmd.Flags().BoolVar(&a.json, "json", false, "print one JSON object at the end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.lanes < 2 || a.lanes > 64 {
			return cli.UsageError(fmt.Sprintf("--lanes %d: want 2 to 64", a.lanes))
		}
		if most := 20000 * a.entries(); a.people < 1 || a.people > most {
			return cli.UsageError(fmt.Sprintf("--people %d: want 1 to %d", a.people, most))
		}
		a.out, a.say = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return a.run(cmd.Context())
	}
	return cmd
}

// An afternoon goes by in beats. The simulator plans a beat ahead, alone and from
// its own books; then every lane lets its people act, side by side, at one and
// the same time of the venue.
type afternoon struct {
	people, lanes int
	seed          uint64
	json          bool
	out, say      io.Writer
	world         *world.World                            // nil: a new one
	spoil         func(terminal.Journal) terminal.Journal // for tests; nil: the journal is as it is

	now    atomic.Int64 // of the venue, Unix seconds
	random *rand.Rand
	crowd  *crowd
	posts  []*post
	beats  int64

	waiting []*visit // at the lanes, in the order in which they came
	report  afternoonReport
}

const beat = 5 * time.Second

// How long people take at a lane, by the venue's clock.
const (
	takesTap  = 2 * time.Second
	takesWalk = time.Second // each
	takesTurn = 6 * time.Second
	takesLook = 10 * time.Second // by staff
)

// A post is a turnstile and when it is free again.
type post struct {
	*turnstile
	name string
	exit bool
	free time.Time
	acts []*act // of this beat
}

func (a *afternoon) exits() int       { return max(1, a.lanes/4) }
func (a *afternoon) entries() int     { return a.lanes - a.exits() }
func (a *afternoon) clock() time.Time { return time.Unix(a.now.Load(), 0).In(venueZone) }
func (a *afternoon) oneIn(n int) bool { return a.random.IntN(n) == 0 }

func (a *afternoon) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "gate-sim-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	a.report = newAfternoonReport()
	a.random = rand.New(rand.NewPCG(a.seed, 0))
	a.now.Store(doors.Unix())
	fmt.Fprintf(a.say, "Making a test authority, a signed list, and cards for %d people …\n", a.people)
	start := time.Now()
	if a.world == nil {
		if a.world, err = world.New(doors); err != nil {
			return err
		}
	}
	w := *a.world
	w.Clock, w.Manifest.Venue = a.clock, venue(a.entries(), a.exits())
	a.crowd = newCrowd(a.people, a.entries(), a.random)
	rows, err := a.crowd.equip(ctx, &w)
	if err != nil {
		return err
	}
	list, err := w.List(rows...)
	if err != nil {
		return err
	}
	site, err := w.Open(filepath.Join(dir, "state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if _, err := site.Store.Import(ctx, bytes.NewReader(list), doors, nil); err != nil {
		return err
	}
	a.report.making = time.Since(start)

	start = time.Now()
	if err := a.work(ctx, site); err != nil {
		return err
	}
	a.report.working = time.Since(start)
	if err := a.compare(ctx, site.Journal); err != nil {
		return err
	}
	for _, name := range []string{"journal.db", "journal.db-wal"} {
		if info, err := os.Stat(filepath.Join(dir, "state", name)); err == nil {
			a.report.bytes += info.Size()
		}
	}
	return a.close()
}

// work runs the lanes until everybody has come and gone.
func (a *afternoon) work(ctx context.Context, site *world.Site) (err error) {
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, a.lanes)
	started := 0
	defer func() {
		stop()
		for range started {
			err = errors.Join(err, <-ended)
		}
	}()
	for i := range a.lanes {
		p := &post{turnstile: newTurnstile(), name: entryName(i), free: doors}
		if p.exit = i >= a.entries(); p.exit {
			p.name = exitName(i - a.entries())
		}
		p.lane, _, err = site.Lane(p.field, func(c *terminal.Config, parts *terminal.Parts) {
			p.wire(parts)
			c.GateName = p.name
			// A machine that stalls shall not look like a gate that errs.
			c.Deadline = patience / 2
			if parts.Now = a.clock; p.exit {
				c.Direction = terminal.Exit
			}
			if a.spoil != nil {
				parts.Journal = a.spoil(parts.Journal)
			}
		})
		if err != nil {
			return err
		}
		a.posts = append(a.posts, p)
		started++
		go func() { ended <- p.lane.Run(running) }()
	}

	for range max(1, a.people/1000) { // guests, whom a supervisor lets in
		a.crowd.come(&visit{at: a.crowd.arrives(), bring: 1 + a.random.IntN(3)})
	}
	for more, at := true, doors; more; at, more = a.next(at) {
		a.plan(at)
		if err := a.play(ctx); err != nil {
			return fmt.Errorf("at %s: %w", at.Format("15:04:05"), err)
		}
		a.progress(at)
	}
	return nil
}

// next is the beat in which something happens again.
func (a *afternoon) next(at time.Time) (time.Time, bool) {
	at = at.Add(beat)
	if len(a.waiting) == 0 && a.crowd.visits.Len() > 0 {
		idle := a.crowd.visits[0].at.Sub(at) + beat - 1
		at = at.Add(max(0, idle).Truncate(beat))
	}
	return at, len(a.waiting)+a.crowd.visits.Len() > 0
}

// plan says what happens at each lane in the beat that begins at from. Lanes take
// whom they can in the order in which people came.
func (a *afternoon) plan(from time.Time) {
	a.beats++
	a.now.Store(from.Unix())
	for a.crowd.visits.Len() > 0 && !a.crowd.visits[0].at.After(from) {
		a.waiting = append(a.waiting, heap.Pop(&a.crowd.visits).(*visit))
	}
	var idle []*post
	for _, p := range a.posts {
		if p.acts = nil; p.free.Before(from) {
			p.free = from
		}
		idle = append(idle, p)
	}
	for len(idle) > 0 {
		p := slices.MinFunc(idle, func(p, q *post) int { return p.free.Compare(q.free) })
		v := a.pick(p, from.Add(beat))
		if v == nil {
			idle = slices.DeleteFunc(idle, func(q *post) bool { return q == p })
			continue
		}
		a.report.longest = max(a.report.longest, from.Sub(v.at))
		if v.rival != nil {
			a.collide(p, v)
		} else {
			a.meet(p, v, from)
		}
	}
}

// pick takes the next one out of the queue whom a lane can serve before until.
func (a *afternoon) pick(p *post, until time.Time) *visit {
	if !p.free.Before(until) {
		return nil
	}
	for i, v := range a.waiting {
		switch {
		case v.exit != p.exit, v.gate != "" && v.gate != p.name:
			continue
		case v.rival != nil && (len(p.acts) > 0 || a.second(p) == nil):
			continue
		case v.who != nil && v.who.family.beat == a.beats && v.who.family.at != p:
			continue
		}
		a.waiting = slices.Delete(a.waiting, i, i+1)
		return v
	}
	return nil
}

// second is another entry lane that has nothing to do yet in this beat.
func (a *afternoon) second(p *post) *post {
	for _, q := range a.posts {
		if q != p && !q.exit && len(q.acts) == 0 {
			return q
		}
	}
	return nil
}

// meet plans what somebody does at a lane, and writes down what comes of it if the
// gate does what it should.
func (a *afternoon) meet(p *post, v *visit, from time.Time) {
	if v.who == nil {
		want := answer{verdict: terminal.Admit, reason: terminal.Override, people: v.bring}
		p.add(&act{want: want, pass: v.bring}, takesTap)
		return
	}
	who := v.who
	who.family.beat, who.family.at = a.beats, p
	if v.exit && !slices.ContainsFunc(who.tickets, func(t *ticket) bool { return t.inside > 0 }) {
		return // they were not let in
	}
	if who.status != 0 && a.oneIn(100) {
		p.add(&act{who: who, exit: v.exit, want: refused(terminal.CardRemoved), pullAt: 1 + a.random.IntN(4)}, takesTap)
	}
	want := who.leaves
	if !v.exit {
		want = func() answer { return who.enters(p.name, from) }
	}
	t := &act{who: who, exit: v.exit, want: want(), confirm: true}
	switch {
	case t.want.staff && a.oneIn(5):
		t.want, t.confirm = answer{verdict: terminal.Deny, reason: terminal.Attention, staff: true}, false
	case t.want.verdict != terminal.Admit:
	case !v.exit && a.oneIn(200):
		p.add(t, takesTurn)
		v.at = from.Add(a.crowd.minutes(1, 5))
		a.crowd.come(v)
		return
	case v.exit:
		t.pass = min(v.bring, t.want.people)
		t.want.left(t.pass)
	default:
		t.pass = min(v.bring, t.want.people)
		t.want.entered(t.pass)
		t.followed = t.pass == t.want.people && a.oneIn(300)
	}
	takes := takesTap
	if t.want.staff {
		takes += takesLook
	}
	p.add(t, takes)
	if v.then != nil {
		v.then(t.want, from)
	}
}

// collide plans two who come at once with one ticket.
func (a *afternoon) collide(p *post, v *visit) {
	q := a.second(p)
	want := v.who.enters(p.name, v.at)
	first, second := &act{who: v.who, want: want, pass: 1}, &act{who: v.rival.who, want: want, pass: 1}
	first.rival, second.rival = second, first
	v.who.family.beat, v.who.family.at = a.beats, nil
	want.entered(1)
	p.add(first, takesTap)
	q.add(second, takesTap)
}

// add plans an act that takes so long, and a second for each who passes.
func (p *post) add(t *act, takes time.Duration) {
	p.acts = append(p.acts, t)
	p.free = p.free.Add(takes + time.Duration(t.pass)*takesWalk)
}

// play lets every lane have its beat.
func (a *afternoon) play(ctx context.Context) error {
	failed := make([]error, len(a.posts))
	var wait sync.WaitGroup
	for i, p := range a.posts {
		if len(p.acts) > 0 {
			wait.Go(func() {
				for _, t := range p.acts {
					if failed[i] = p.do(ctx, t); failed[i] != nil {
						return
					}
				}
			})
		}
	}
	wait.Wait()
	for _, p := range a.posts {
		for _, t := range p.acts {
			if t.rival != nil && !p.exit && t.got.Admitted() {
				decideBetween(t, t.rival)
			}
		}
	}
	for _, p := range a.posts {
		for _, t := range p.acts {
			a.report.add(p.name, a.clock(), t)
		}
	}
	return errors.Join(failed...)
}
