package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// The process that is killed: an entry lane and an exit lane on one journal. Cards
// are its own; the gates are not. Relay lines, people and sensors are with the
// process that kills it, at the other end of standard input and output.

// An order is what somebody does at a lane, or the leave to go on.
type order struct {
	Exit bool   `json:"exit,omitempty"`
	Do   string `json:"do"`
	Card string `json:"card,omitempty"`
	N    uint32 `json:"n,omitempty"`
	On   bool   `json:"on,omitempty"`
}

// A sign is what a lane does that somebody outside can see, and the points where
// it waits for leave to go on.
type sign struct {
	Exit    bool             `json:"exit,omitempty"`
	What    string           `json:"what"`
	Point   string           `json:"point,omitempty"`
	On      bool             `json:"on,omitempty"`
	N       uint32           `json:"n,omitempty"`
	Verdict terminal.Verdict `json:"verdict"`
	Reason  terminal.Reason  `json:"reason,omitempty"`
	Settled bool             `json:"settled,omitempty"`
	Cause   string           `json:"cause,omitempty"`
}

// A crashWorld is what both processes know, as a file.
type crashWorld struct {
	ScopeSecret []byte            `json:"scope_secret"`
	ListKey     []byte            `json:"list_key"`
	Cards       map[string][]byte `json:"cards"`
}

const crashWorldFile = "world.json"

func crashLaneCommand() *cobra.Command {
	var points bool
	cmd := &cobra.Command{Use: "crash-lane DIR", Hidden: true, Args: cli.Args(cobra.ExactArgs(1))}
	cmd.Flags().BoolVar(&points, "points", false, "wait for leave at every point")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return crashLane(cmd.Context(), a[0], points, nil, cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return cmd
}

// A remote is the other process.
type remote struct {
	points bool

	mu    sync.Mutex
	out   *json.Encoder
	asked uint32
	leave map[uint32]chan struct{}
}

func (r *remote) say(s sign) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(s) // nobody hears it who is not there
}

// point says where a lane is, and waits there for leave to go on.
func (r *remote) point(exit bool, name string) {
	if !r.points {
		return
	}
	c := make(chan struct{})
	r.mu.Lock()
	r.asked++
	n := r.asked
	r.leave[n] = c
	r.mu.Unlock()
	r.say(sign{Exit: exit, What: "point", Point: name, N: n})
	<-c
}

func (r *remote) goOn(n uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.leave[n])
	delete(r.leave, n)
}

// A wiredGate is a gate whose hardware is at the other end.
type wiredGate struct {
	*remote
	exit   bool
	seen   chan terminal.Sensed
	answer chan bool
	over   chan time.Time
}

func (g *wiredGate) Open(ctx context.Context, p *terminal.Permit, people uint32) error {
	g.point(g.exit, "before relay")
	if err := p.Spend(); err != nil {
		return err
	}
	g.say(sign{Exit: g.exit, What: "relay", On: true, N: people})
	g.point(g.exit, "relay moved")
	return nil
}

func (g *wiredGate) Shut() error {
	g.say(sign{Exit: g.exit, What: "relay"})
	g.point(g.exit, "relay at rest")
	return nil
}

func (g *wiredGate) Counts() bool                   { return true }
func (g *wiredGate) Sensed() <-chan terminal.Sensed { return g.seen }
func (g *wiredGate) Show(terminal.Signal)           {}

// Check implements terminal.HolderChecker.
func (g *wiredGate) Check(ctx context.Context, d terminal.Decision) (bool, error) {
	g.say(sign{Exit: g.exit, What: "asks", N: d.People, Reason: d.Reason})
	select {
	case yes := <-g.answer:
		g.point(g.exit, "staff has answered")
		return yes, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (g *wiredGate) after(time.Duration) <-chan time.Time {
	g.say(sign{Exit: g.exit, What: "waits"})
	return g.over
}

// A steppedJournal has a point before and after everything that is written.
type steppedJournal struct {
	terminal.Journal
	*remote
	exit bool
}

func (j steppedJournal) step(what string, write func() error) error {
	j.point(j.exit, "before "+what)
	err := write()
	j.point(j.exit, "after "+what)
	return err
}

func (j steppedJournal) Record(ctx context.Context, d terminal.Decision) error {
	return j.step(d.Verdict.String(), func() error { return j.Journal.Record(ctx, d) })
}

func (j steppedJournal) Reserve(ctx context.Context, d terminal.Decision, seen uint64) (r terminal.Reservation, err error) {
	err = j.step("reserve", func() error { r, err = j.Journal.Reserve(ctx, d, seen); return err })
	return r, err
}

func (j steppedJournal) Passed(ctx context.Context, r terminal.Reservation, people uint32) error {
	return j.step(fmt.Sprintf("passed %d", people), func() error { return j.Journal.Passed(ctx, r, people) })
}

func (j steppedJournal) Commit(ctx context.Context, r terminal.Reservation, people uint32) error {
	return j.step("commit", func() error { return j.Journal.Commit(ctx, r, people) })
}

func (j steppedJournal) Annul(ctx context.Context, r terminal.Reservation, why terminal.Reason) error {
	return j.step("annul", func() error { return j.Journal.Annul(ctx, r, why) })
}

func (j steppedJournal) Doubt(ctx context.Context, r terminal.Reservation, why terminal.Reason) error {
	return j.step("doubt", func() error { return j.Journal.Doubt(ctx, r, why) })
}

func (j steppedJournal) Incident(ctx context.Context, i terminal.Incident) error {
	return j.step(strings.TrimSpace(fmt.Sprintf("%s %s", i.Reason, i.State)), func() error { return j.Journal.Incident(ctx, i) })
}

// crashLane serves two lanes until its input ends. Spoil, when not nil, breaks the
// journal, for tests.
func crashLane(ctx context.Context, dir string, points bool, spoil func(terminal.Journal) terminal.Journal, in io.Reader, out io.Writer) (err error) {
	w, cards, err := readCrashWorld(dir)
	if err != nil {
		return err
	}
	site, err := w.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	dialogue, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
	if err != nil {
		return err
	}
	r := &remote{points: points, out: json.NewEncoder(out), leave: map[uint32]chan struct{}{}}
	// What runs ends before the journal is closed.
	running, stop := context.WithCancel(ctx)
	var run sync.WaitGroup
	defer run.Wait()
	defer stop()
	written := terminal.Journal(site.Journal)
	if spoil != nil {
		written = spoil(written)
	}
	var (
		lanes  [2]*terminal.Lane
		fields [2]*nfctest.Field
		gates  [2]*wiredGate
		errs   [2]error // of the lanes, once they have ended
	)
	for i := range lanes {
		exit := i == 1
		g := &wiredGate{r, exit, make(chan terminal.Sensed, 256), make(chan bool, 1), make(chan time.Time)}
		gates[i], fields[i] = g, nfctest.NewField(onlySlot)
		c := terminal.Config{
			Scope: world.Scope, Terminal: world.Terminal, GateName: entryName(0), Methods: []jpki.Method{jpki.TapUse},
			HolderCheck: map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckNone},
			Deadline:    patience, HolderCheckTimeout: patience, PassTime: time.Second,
		}
		if exit {
			c.GateName, c.Direction = exitName(0), terminal.Exit
		}
		lanes[i], err = terminal.NewLane(c, terminal.Parts{
			Reader: fields[i], Dialogue: dialogue, List: site.Store, Journal: steppedJournal{written, r, exit}, Gate: g, Checker: g,
			Rand: rand.Reader, Now: time.Now, After: g.after,
			Observe:   func(d terminal.Decision) { r.say(decided(exit, d)) },
			Incidents: func(i terminal.Incident) { r.say(sign{Exit: exit, What: "incident", Reason: i.Reason}) },
		})
		if err != nil {
			return err
		}
		run.Go(func() { errs[i] = lanes[i].Run(running) })
	}
	for dec := json.NewDecoder(in); ; {
		var o order
		if err := dec.Decode(&o); err != nil {
			stop()
			run.Wait()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, errs[0], errs[1])
		}
		i := 0
		if o.Exit {
			i = 1
		}
		switch o.Do {
		case "go":
			r.goOn(o.N)
		case "tap":
			card, err := vcard.New(cards[o.Card], vcard.Options{})
			if err != nil {
				return err
			}
			fields[i].Insert(onlySlot, card)
		case "remove":
			fields[i].Remove(onlySlot)
		case "sense":
			gates[i].seen <- terminal.Sensed(o.N)
		case "press":
			gates[i].answer <- o.On
		case "over":
			run.Go(func() {
				select {
				case gates[i].over <- time.Time{}:
				case <-running.Done():
				}
			})
		case "override":
			run.Go(func() { // what comes of it is observed
				_, _ = lanes[i].Override(running, terminal.Staff{Name: "supervisor", Role: terminal.Supervisor}, "guests", o.N)
			})
		}
	}
}

func decided(exit bool, d terminal.Decision) sign {
	s := sign{Exit: exit, What: "decision", Verdict: d.Verdict, Reason: d.Reason, N: d.People, Settled: d.Settled}
	if d.Settled {
		s.N = d.Passed
	}
	if d.Cause != nil {
		s.Cause = d.Cause.Error()
	}
	return s
}

func readCrashWorld(dir string) (*world.World, map[string]*vcard.Image, error) {
	b, err := os.ReadFile(filepath.Join(dir, crashWorldFile))
	if err != nil {
		return nil, nil, err
	}
	var f crashWorld
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&f); err != nil {
		return nil, nil, err
	}
	w := &world.World{ScopeSecret: f.ScopeSecret, ListKey: ed25519.PrivateKey(f.ListKey), Manifest: whitelist.Manifest{Scope: world.Scope}}
	if w.ScopeKey, err = cardid.NewScopeKey(f.ScopeSecret); err != nil {
		return nil, nil, err
	}
	cards := map[string]*vcard.Image{}
	for name, b := range f.Cards {
		if cards[name], err = vcard.ParseImage(b); err != nil {
			return nil, nil, err
		}
	}
	return w, cards, nil
}
