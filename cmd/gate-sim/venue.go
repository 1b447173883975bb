package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

func venueCommand() *cobra.Command {
	var v venueRun
	cmd := &cobra.Command{
		Use:   "venue [--gates N] [--tickets N] [--flaky] [--seed N] [--json]",
		Short: "Let people try the same tickets at many gates of one venue",
		Long: `Venue runs the terminals of many gates, and a hub, in this process: real lanes,
journals, claims and connections, with gates and cards that are simulated. Every
ticket lets one person in, and is tried at several gates, often at once. Some who
are let in turn back, so that the ticket is free again.

With --flaky connections are slow, break off and lose what was said; then some gates
are apart, so that each lets people in by itself; then the hub loses its power in the
middle of it all and comes back. In the end everybody is connected, and tries once
more. The simulator works out from who walked through what each gate may answer,
and which double entries the hub must find; what gates were told of claims is
checked for linearizability. It fails when anything differs.`,
		Example: "  gate-sim venue --gates 50 --tickets 1000 --flaky --seed 1 --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&v.size, "gates", 50, "how many gates, 4 to 200")
	cmd.Flags().IntVar(&v.sold, "tickets", 1000, "how many tickets, 10 to 10000")
	cmd.Flags().BoolVar(&v.flaky, "flaky", false, "let connections and the hub fail")
	cmd.Flags().Uint64Var(&v.seed, "seed", 1, "the same number, the same people with the same plans and troubles")
	cmd.Flags().BoolVar(&v.json, "json", false, "print one JSON object at the end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if v.size < 4 || v.size > 200 || v.sold < 10 || v.sold > 10000 {
			return cli.UsageError("--gates wants 4 to 200, and --tickets 10 to 10000")
		}
		v.out, v.say = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return v.run(cmd.Context())
	}
	return cmd
}

// A venueRun goes by in phases, and each in beats: in a beat some gates have a
// visitor each, side by side.
type venueRun struct {
	size, sold int
	flaky      bool
	seed       uint64
	json       bool
	out, say   io.Writer
	world      *world.World                          // nil: a new one
	spoil      func(terminal.Claims) terminal.Claims // for tests; nil: claims are as they are
	meddle     func(*venueRun) error                 // for tests; before everything is compared

	began   time.Time
	random  *mathrand.Rand
	hub     *venueHub
	gates   []*venueGate
	tickets []*sharedTicket
	byName  map[string]int

	phase, beat int
	down        bool // the hub has no power
	report      venueReport
}

const hallZone = "hall"

// now is nanoseconds since the venue opened.
func (v *venueRun) now() int64 { return int64(time.Since(v.began)) }

func (v *venueRun) oneIn(n int) bool { return v.random.IntN(n) == 0 }

func (v *venueRun) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "gate-sim-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	v.began, v.random = time.Now(), mathrand.New(mathrand.NewPCG(v.seed, 0))
	if err := v.work(ctx, dir); err != nil {
		return fmt.Errorf("seed %d: %w", v.seed, err)
	}
	v.report.took = time.Since(v.began)
	return v.close()
}

// work opens the venue, lets everybody come, and compares. Everything is closed
// before it returns.
func (v *venueRun) work(ctx context.Context, dir string) (err error) {
	defer func() {
		var closing sync.WaitGroup
		failed := make([]error, len(v.gates))
		for i, g := range v.gates {
			closing.Go(func() { failed[i] = g.close() })
		}
		closing.Wait()
		err = errors.Join(err, errors.Join(failed...))
		if v.hub != nil {
			err = errors.Join(err, v.hub.close())
		}
	}()
	fmt.Fprintf(v.say, "Making a hub, %d tickets and %d gates …\n", v.sold, v.size)
	if err := v.open(ctx, dir); err != nil {
		return err
	}
	for v.phase = range phases {
		p := &phases[v.phase]
		if p.flaky && !v.flaky {
			continue
		}
		fmt.Fprintf(v.say, "%4.0f s  %s\n", time.Since(v.began).Seconds(), p.name)
		if err := v.spend(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if v.meddle != nil {
		if err := v.meddle(v); err != nil {
			return err
		}
	}
	return v.compare(ctx)
}

// open makes everything.
func (v *venueRun) open(ctx context.Context, dir string) (err error) {
	if v.world == nil {
		if v.world, err = world.New(time.Now()); err != nil {
			return err
		}
	}
	w := *v.world
	v.world = &w
	w.Manifest.Venue = whitelist.Venue{TimeZone: "Asia/Tokyo", Zones: []whitelist.Zone{{Name: hallZone}}}
	for i := range v.size {
		w.Manifest.Venue.Gates = append(w.Manifest.Venue.Gates, whitelist.Gate{ID: uint32(i + 1), Name: entryName(i), Zone: hallZone})
	}
	rows, err := v.sell()
	if err != nil {
		return err
	}
	list, err := w.List(rows...)
	if err != nil {
		return err
	}
	hubDir := filepath.Join(dir, "hub")
	if err := os.MkdirAll(hubDir, 0o700); err != nil {
		return err
	}
	if v.hub, err = newVenueHub(ctx, hubDir, v.now, v.byName); err != nil {
		return err
	}
	address, err := v.hub.start(ctx)
	if err != nil {
		return err
	}
	v.gates = make([]*venueGate, v.size)
	failed := make([]error, v.size)
	slots := make(chan struct{}, 4) // disks and cores have no more
	var opening sync.WaitGroup
	for i := range v.size {
		opening.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			v.gates[i], failed[i] = v.newVenueGate(ctx, i, dir, list, address)
		})
	}
	opening.Wait()
	v.gates = slices.DeleteFunc(v.gates, func(g *venueGate) bool { return g == nil })
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return v.settle(ctx)
}

// cardsEach is how many people have a card for a ticket, and so at how many gates it
// can be tried at once.
const cardsEach = 3

// sell makes tickets, and the cards of those who have one.
func (v *venueRun) sell() (rows []whitelist.Listed, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048) // one is enough: keys take time
	if err != nil {
		return nil, err
	}
	like, err := v.world.Card(perso.CardOptions{AuthenticationKey: key, CardKey: key})
	if err != nil {
		return nil, err
	}
	v.byName = make(map[string]int)
	for n := range v.sold {
		t := &sharedTicket{number: n, name: fmt.Sprintf("ticket-%d", n+1)}
		v.tickets, v.byName[t.name] = append(v.tickets, t), n
		terms := &ticket{Entitlement: whitelist.Entitlement{ID: t.name, Uses: 1}}
		for i := range cardsEach {
			p := &person{tickets: []*ticket{terms}, status: whitelist.Active}
			row, err := p.register(v.world, like, n*cardsEach+i)
			if err != nil {
				return nil, err
			}
			t.cards, rows = append(t.cards, p), append(rows, row)
		}
	}
	return rows, nil
}
