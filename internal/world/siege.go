package world

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/adversary"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Siege is adversaries on their way to a gate of the world, and the rows of the
// people whose cards they abuse.
type Siege struct {
	Attempts []*adversary.Attempt
	Rows     []whitelist.Listed
	Deadline time.Duration // of a tap
	Cast     *adversary.Cast
}

// NewSiege makes the cards of the adversaries, which takes some seconds.
func (w *World) NewSiege(deadline time.Duration, adversaries ...adversary.Adversary) (*Siege, error) {
	set := adversary.Setting{
		Now: w.Now, Deadline: deadline, Scope: Scope, Terminal: Terminal,
		Authority: w.Authority, Foreign: w.Foreign, TerminalCertificates: w.TerminalCertificates,
	}
	rand.Read(set.Challenge[:])
	heard := sha256.Sum256(set.Challenge[:])
	var err error
	if set.Authentication, err = rsa.SignPKCS1v15(nil, w.TerminalKey, crypto.SHA256, heard[:]); err != nil {
		return nil, err
	}
	s := &Siege{Deadline: deadline}
	if s.Cast, err = adversary.NewCast(set); err != nil {
		return nil, err
	}
	for _, a := range adversaries {
		t, err := a.Attempt(s.Cast)
		if err != nil {
			return nil, err
		}
		s.Attempts = append(s.Attempts, t)
	}
	return s, s.register(w)
}

// register makes the rows.
func (s *Siege) register(w *World) error {
	birth := adversary.BirthDate.Format("20060102")
	add := func(img *vcard.Image, change func(*whitelist.Row)) error {
		listed, err := w.Row(img, fmt.Sprintf("ticket-%d", len(s.Rows)+1))
		if err != nil {
			return err
		}
		change(&listed.Row)
		s.Rows = append(s.Rows, listed)
		return nil
	}
	withoutKeys := func(r *whitelist.Row) { *r = whitelist.Row{Status: r.Status, Entitlements: r.Entitlements} }
	err := errors.Join(
		add(s.Cast.Victim, func(r *whitelist.Row) { r.BirthDate = birth }),
		add(s.Cast.Unregistered, withoutKeys),
		add(s.Cast.Accomplice, func(r *whitelist.Row) { r.Status = whitelist.Revoked }),
	)
	for _, img := range s.Cast.Newcomers {
		err = errors.Join(err, add(img, func(r *whitelist.Row) { withoutKeys(r); r.BirthDate = birth }))
	}
	for _, der := range s.Cast.Misissued {
		head, headErr := cardauth.ParseHead(der)
		err = errors.Join(err, headErr)
		s.Rows = append(s.Rows, whitelist.Listed{Head: head.Bytes(), Row: whitelist.Row{
			Status: whitelist.Active, Entitlements: []whitelist.Entitlement{{ID: fmt.Sprintf("ticket-%d", len(s.Rows)+1)}},
		}})
	}
	return err
}

// A Post is a slot where a lane reads and adversaries present their cards.
type Post interface {
	Reader() (terminal.Reader, error)
	Present(ctx context.Context, card vcard.Device) (remove func() error, err error)

	// Lag is how long it may take until the reader sees a card that is there.
	Lag() time.Duration
}

// InProcess is a post without a PC/SC stack.
func InProcess() Post { return inProcess{nfctest.NewField(onlySlot)} }

type inProcess struct{ field *nfctest.Field }

const onlySlot = "virtual slot"

func (p inProcess) Reader() (terminal.Reader, error) { return p.field, nil }
func (p inProcess) Lag() time.Duration               { return 0 }

func (p inProcess) Present(_ context.Context, card vcard.Device) (func() error, error) {
	p.field.Insert(onlySlot, card)
	return func() error { p.field.Remove(onlySlot); return nil }, nil
}

// An Outcome is what came of an attempt.
type Outcome struct {
	*adversary.Attempt
	Decision terminal.Decision
	Took     time.Duration // from when the card was presented until the lamp changed
	Late     bool          // the lamp changed after deadline and grace, or not at all
	Harm     []string      // what the adversary got although the gate stayed shut
}

// Admitted reports whether the gate opened.
func (o Outcome) Admitted() bool { return o.Decision.Admitted() }

// Expected reports whether the gate stayed shut for the reason that it should.
func (o Outcome) Expected() bool {
	return o.Decision.Verdict == terminal.Deny && string(o.Decision.Reason) == o.Reason
}

// Fault says what is wrong with the outcome, "" when nothing is.
func (o Outcome) Fault() string {
	switch {
	case o.Admitted():
		return "admitted"
	case !o.Expected():
		return fmt.Sprintf("%v %s, not deny %s (%v)", o.Decision.Verdict, o.Decision.Reason, o.Reason, o.Decision.Cause)
	case o.Late:
		return fmt.Sprintf("answered after %v", max(o.Took, o.Decision.Elapsed).Round(time.Millisecond))
	case len(o.Harm) > 0:
		return fmt.Sprint(o.Harm)
	case !o.Told():
		return "found out before it told its lie"
	}
	return ""
}

// methods are those that gates under siege speak: the one that is attacked, and
// the other, so that something is there to fall back to.
var methods = map[string][]jpki.Method{
	adversary.TapUse:       {jpki.TapUse, jpki.ExternalAuth},
	adversary.ExternalAuth: {jpki.ExternalAuth, jpki.TapUse},
	adversary.FirstUse:     {jpki.TapUse, jpki.ExternalAuth},
}

// Besiege lets every attempt of the siege come to a gate, many at once, and tells
// observe of each outcome as it comes. Post makes the posts: as many for each
// method as there are lanes. The site must hold a list with the rows of the siege.
// It fails when a gate opened, an entry was charged or the journal is not whole,
// which no attempt alone can tell.
func (s *Site) Besiege(ctx context.Context, siege *Siege, lanes int, post func() Post, observe func(Outcome)) error {
	queues := make(map[string]chan *adversary.Attempt)
	for _, t := range siege.Attempts {
		if queues[t.Method] == nil {
			queues[t.Method] = make(chan *adversary.Attempt, len(siege.Attempts))
		}
		queues[t.Method] <- t
	}
	var guards []*guard
	for method, queue := range queues {
		close(queue)
		for range min(lanes, len(queue)) {
			g, err := s.guard(method, queue, siege.Deadline, post())
			if err != nil {
				return err
			}
			guards = append(guards, g)
		}
	}
	// Lanes run until the last attempt has had its answer.
	running, stop := context.WithCancel(ctx)
	var (
		standing, working sync.WaitGroup
		mu                sync.Mutex
		errs              []error
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	for _, g := range guards {
		standing.Go(func() { fail(g.lane.Run(running)) })
		working.Go(func() {
			fail(g.work(ctx, siege.Deadline, func(o Outcome) {
				mu.Lock()
				defer mu.Unlock()
				observe(o)
			}))
		})
	}
	working.Wait()
	stop()
	standing.Wait()
	for _, g := range guards {
		if n := g.gate.Opened(); n > 0 {
			errs = append(errs, fmt.Errorf("a gate opened %d times", n))
		}
	}
	return errors.Join(append(errs, s.unharmed(ctx, siege))...)
}

// unharmed checks that nobody was charged an entry, and that the journal is whole.
func (s *Site) unharmed(ctx context.Context, siege *Siege) error {
	for _, row := range siege.Rows {
		for _, e := range row.Row.Entitlements {
			h, err := s.Journal.History(ctx, e.ID)
			if err != nil {
				return err
			}
			if n := h.Entered(); n > 0 {
				return fmt.Errorf("%d entries stand for %s", n, e.ID)
			}
		}
	}
	_, err := s.Journal.Verify(ctx)
	return err
}

// A guard is a lane with its gate, and the adversaries that come to it.
type guard struct {
	queue     <-chan *adversary.Attempt
	post      Post
	lane      *terminal.Lane
	gate      *watchedGate
	decisions chan terminal.Decision
}

func (s *Site) guard(method string, queue <-chan *adversary.Attempt, deadline time.Duration, post Post) (*guard, error) {
	g := &guard{queue: queue, post: post, decisions: make(chan terminal.Decision, 4)}
	reader, err := g.post.Reader()
	if err != nil {
		return nil, err
	}
	g.lane, _, err = s.Lane(reader, func(c *terminal.Config, p *terminal.Parts) {
		c.Methods, c.FirstUse, c.Deadline = methods[method], method == adversary.FirstUse, deadline
		g.gate = &watchedGate{Simulator: gate.NewSimulator(nil)}
		p.Gate, p.Checker = g.gate, g.gate.Simulator
		p.Observe = func(d terminal.Decision) { g.decisions <- d }
	})
	return g, err
}

// A watchedGate notes when its lamp first says something to a person. It keeps
// its own time: an agent that hangs does not measure itself.
type watchedGate struct {
	*gate.Simulator
	mu  sync.Mutex
	lit time.Time // since watch
}

func (g *watchedGate) Show(s terminal.Signal) {
	g.mu.Lock()
	if g.lit.IsZero() && s != terminal.ShowReady {
		g.lit = time.Now()
	}
	g.mu.Unlock()
	g.Simulator.Show(s)
}

// watch begins anew, and returns how long it took until the lamp changed.
func (g *watchedGate) watch() (took func() time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	start := time.Now()
	g.lit = time.Time{}
	return func() time.Duration {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.lit.IsZero() {
			return time.Since(start)
		}
		return g.lit.Sub(start)
	}
}

// work presents one adversary after the other.
func (g *guard) work(ctx context.Context, deadline time.Duration, observe func(Outcome)) error {
	for t := range g.queue {
		o, err := g.meet(ctx, deadline, t)
		if err != nil {
			return fmt.Errorf("adversary %s: %w", t.Name, err)
		}
		observe(o)
	}
	return nil
}

// patience is how much longer than its deadline a gate is waited for.
const patience = 5 * time.Second

func (g *guard) meet(ctx context.Context, deadline time.Duration, t *adversary.Attempt) (o Outcome, err error) {
	o.Attempt = t
	took := g.gate.watch()
	remove, err := g.post.Present(ctx, t)
	if err != nil {
		return o, err
	}
	select {
	case o.Decision = <-g.decisions:
		o.Took = took()
		o.Late = o.Decision.Elapsed > deadline+terminal.Grace || o.Took > deadline+terminal.Grace+g.post.Lag()
	case <-time.After(deadline + patience):
		o.Took, o.Late = took(), true
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err = errors.Join(err, remove()); err == nil {
		o.Harm = t.Harm()
	}
	return o, err
}
