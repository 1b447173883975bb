// Package terminal is one tap from card to gate.
//
// It promises: one instant for every check of a tap; no decision on anything
// a card merely said; no movement of the relay without a durable record made
// before it; none after the deadline; and that any doubt denies and says why.
// Nothing here reaches a network.
//
// The parts around it (reader, list, journal, gate) are interfaces declared
// here and wired by the agent.
package terminal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
)

// Config is what a lane is told.
type Config struct {
	Scope    string // list scope, part of every challenge
	Terminal string // name of the terminal, part of every challenge
	GateName string // as entitlements name it

	Mode      Mode          // "" is Venue
	Direction Direction     // of whoever passes
	PassTime  time.Duration // for the next person to pass, at a gate that counts

	// Methods are those that may be used, in order: a tap uses the first one
	// that the holder's row and the terminal have the keys for. What the
	// card answers never changes the method.
	Methods []jpki.Method

	// HolderCheck says, for each method, who compares person and card. A
	// method without an entry waits for staff.
	HolderCheck map[jpki.Method]HolderCheck

	Deadline           time.Duration // card detection to relay command
	HolderCheckTimeout time.Duration // how long the gate waits for staff

	// FirstUse lets method B prove a card whose key is not registered, where its
	// row has a birth date. What it does not prove is in docs/protocol.md.
	FirstUse bool

	Anchors            []*x509.Certificate    // for method A without a registered key, and for first use
	SurfaceAuthorities []cardauth.CVAuthority // for first use
}

// Defaults of Config.
const (
	DefaultDeadline           = 3 * time.Second
	DefaultHolderCheckTimeout = 30 * time.Second
	DefaultPassTime           = 5 * time.Second
)

// Parts are what a lane works with.
type Parts struct {
	Reader   Reader
	Dialogue *jpki.Dialogue
	List     List
	Journal  Journal
	Gate     Gate
	Checker  HolderChecker // nil: nobody can confirm, attended taps stay shut
	Claims   Claims        // nil: the gate is alone
	OnDuty   func() Staff  // whose confirmation it is; nil: not known
	Rand     io.Reader

	// Observe is told of every decision, after the gate has acted on it. It
	// must not wait. At a gate that counts, an admission is told again when it
	// is settled.
	Observe func(Decision)

	// Incidents is told what happens without a card. It must not wait.
	Incidents func(Incident)

	// Now is the wall clock, for the one instant of a tap.
	Now func() time.Time

	// Elapsed is how long the machine has been up, or since any fixed moment, on a
	// clock that nobody sets. With nil a lane does not notice that Now was set.
	Elapsed func() time.Duration

	// After tells when the time to pass is over, as time.After does.
	After func(time.Duration) <-chan time.Time
}

// A Lane is one reader and one gate.
type Lane struct {
	Config
	Parts

	door  door
	halts halts
	begun chan struct{} // closed when the lane serves people
	turn  chan struct{} // holds one while somebody is served
	ended chan struct{} // closed when nobody is any more

	// Of whoever is served.
	seen <-chan Sensed
	done func()

	expected  atomic.Pointer[Expectation]
	unwritten atomic.Bool // out of order, and the journal does not say so
	recent    recent

	places places
	lamp   lamp
	clock  clock
}

// NewLane checks that nothing is missing. What were missed at a tap would be
// missed with a person at the gate.
func NewLane(c Config, p Parts) (*Lane, error) {
	switch {
	case c.Scope == "" || c.Terminal == "" || c.GateName == "":
		return nil, errors.New("lane: scope, terminal and gate need names")
	case len(c.Methods) == 0:
		return nil, errors.New("lane: no method is configured")
	case p.Reader == nil || p.Dialogue == nil || p.List == nil || p.Journal == nil || p.Gate == nil ||
		p.Rand == nil || p.Observe == nil || p.Incidents == nil || p.Now == nil || p.After == nil:
		return nil, errors.New("lane: a part is missing; only Checker, Claims, OnDuty and Elapsed may be")
	}
	for _, m := range c.Methods {
		switch m {
		case jpki.TapUse:
		case jpki.ExternalAuth:
			if !p.Dialogue.CanExternalAuth() {
				return nil, fmt.Errorf("lane: method %q needs the terminal's key", m)
			}
		default:
			return nil, fmt.Errorf("lane: unknown method %q", m)
		}
	}
	switch c.Mode {
	case "":
		c.Mode = Venue
	case Venue, Counter, Muster:
	default:
		return nil, fmt.Errorf("lane: unknown mode %q", c.Mode)
	}
	if c.FirstUse {
		switch {
		case !p.Dialogue.CanFirstUse():
			return nil, errors.New("lane: the card profile has no first use")
		case len(c.Anchors) == 0 || len(c.SurfaceAuthorities) == 0:
			return nil, errors.New("lane: first use needs trust anchors and card-surface authorities")
		}
	}
	if c.Deadline <= 0 || c.HolderCheckTimeout <= 0 || c.PassTime <= 0 {
		return nil, errors.New("lane: deadlines must be positive")
	}
	return &Lane{Config: c, Parts: p, begun: make(chan struct{}), turn: make(chan struct{}, 1), ended: make(chan struct{})}, nil
}

// Run serves taps until ctx ends, and returns nil then. It runs once. Any other return is a
// reader that cannot work any more. The relay is at rest when it returns.
func (l *Lane) Run(ctx context.Context) error {
	l.halts.begin(ctx)
	close(l.begun)
	l.look(ctx)
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // to the last who passes
	var watch sync.WaitGroup
	watch.Go(func() { l.watch(watching) })
	err := l.run(ctx)
	l.turn <- struct{}{} // whoever staff let in has passed
	close(l.ended)
	stop()
	watch.Wait()
	return errors.Join(err, l.Gate.Shut())
}

func (l *Lane) run(ctx context.Context) error {
	for {
		calm, err := l.halts.wait(ctx)
		if err != nil {
			return nil
		}
		card, err := l.Reader.Next(calm)
		if calm.Err() != nil {
			if err == nil {
				err = card.Release() // nobody is told: it was not read
			}
			continue
		}
		if bad, ok := errors.AsType[*nfc.CardError](err); ok {
			l.refuse(calm, bad)
			continue
		}
		if err != nil {
			l.light(ShowOutOfOrder)
			return fmt.Errorf("waiting for a card: %w", err)
		}
		l.turn <- struct{}{}
		l.serve(calm, card, time.Now())
		<-l.turn
	}
}

// refuse denies a card that could not even be connected to.
func (l *Lane) refuse(ctx context.Context, bad *nfc.CardError) {
	l.publish(ctx, Decision{Instant: l.read().at, Gate: l.GateName, Direction: l.Direction, Reason: ReasonOf(bad), Cause: bad, Elapsed: time.Since(bad.Detected)})
}

// signals says what the lamps show for a verdict.
var signals = [...]Signal{Deny: ShowDeny, Attend: ShowAttend, Admit: ShowAdmit}

// publish acts on a decision: lamps first, because a person waits.
func (l *Lane) publish(ctx context.Context, d Decision) {
	if l.halts.get() == 0 { // else the lamps say something more urgent
		l.light(signals[d.Verdict])
	}
	l.report(ctx, d)
}

// report records a decision that did not open the gate, and tells whoever
// watches.
func (l *Lane) report(ctx context.Context, d Decision) {
	if !d.Admitted() { // an admission was recorded before the gate opened
		start := time.Now()
		if err := l.Journal.Record(context.WithoutCancel(ctx), d); err != nil {
			d.Cause = errors.Join(d.Cause, fmt.Errorf("recording: %w", err))
		}
		d.Stages.Journal += time.Since(start)
	}
	l.Observe(d)
}
