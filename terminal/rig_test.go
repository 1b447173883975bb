package terminal_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// earth is one world for all tests of the package: keys take time.
var earth = sync.OnceValues(func() (*cast, error) {
	w, err := world.New(time.Now())
	if err != nil {
		return nil, err
	}
	c := &cast{World: w}
	c.people, c.rows, err = w.People()
	return c, err
})

// A cast is a world with its people.
type cast struct {
	*world.World
	people []world.Person
	rows   []whitelist.Listed
}

// card is the image of the first person with that name and method.
func (c *cast) card(t testing.TB, name string, m jpki.Method) *vcard.Image {
	t.Helper()
	for _, p := range c.people {
		if p.Name == name && p.Method == m {
			return p.Image
		}
	}
	t.Fatalf("nobody is called %q", name)
	return nil
}

const (
	slotA = "slot A"
	slotB = "slot B"
)

// A rig is a lane with everything real but the hardware.
type rig struct {
	*cast
	site      *world.Site
	field     *nfctest.Field
	gate      *gate.Simulator
	lane      *terminal.Lane
	stop      func() // tells the lane to end
	decisions chan terminal.Decision
	signer    *countingSigner // the terminal's key
}

// newRig starts a lane. The options may change its configuration and parts.
func newRig(t testing.TB, options ...func(*rig, *terminal.Config, *terminal.Parts)) *rig {
	t.Helper()
	return newRigIn(t, t.TempDir(), options...)
}

func newRigIn(t testing.TB, dir string, options ...func(*rig, *terminal.Config, *terminal.Parts)) *rig {
	t.Helper()
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{cast: c, field: nfctest.NewField(slotA, slotB), decisions: make(chan terminal.Decision, 4)}
	if r.site, err = c.Open(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.site.Close(); err != nil {
			t.Error(err)
		}
	})
	r.load(t, c.Manifest, c.rows...)

	r.signer = &countingSigner{Signer: c.TerminalKey}
	key, err := c.ExternalAuthKey(r.signer)
	if err != nil {
		t.Fatal(err)
	}
	lane, simulator, err := r.site.Lane(r.field, func(cfg *terminal.Config, p *terminal.Parts) {
		if p.Dialogue, err = jpki.NewDialogue(jpki.DefaultProfile(), key, nil); err != nil {
			t.Fatal(err)
		}
		p.Observe = func(d terminal.Decision) { r.decisions <- d }
		for _, o := range options {
			o(r, cfg, p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	r.gate, r.lane = simulator, lane
	r.run(t, lane)
	return r
}

// run runs a lane until the test ends.
func (r *rig) run(t testing.TB, lane *terminal.Lane) {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	ended := make(chan error, 1)
	go func() { ended <- lane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// load puts a list in force.
func (r *rig) load(t testing.TB, m whitelist.Manifest, rows ...whitelist.Listed) {
	t.Helper()
	var b bytes.Buffer
	if err := whitelist.Write(&b, r.ListKey, r.ScopeKey, m, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := r.site.Store.Import(t.Context(), &b, r.Now, nil); err != nil {
		t.Fatal(err)
	}
}

// methods restricts a rig to these.
func methods(m ...jpki.Method) func(*rig, *terminal.Config, *terminal.Parts) {
	return func(_ *rig, c *terminal.Config, _ *terminal.Parts) { c.Methods = m }
}

// put presents a card and returns the decision, with the card still there.
func (r *rig) put(t testing.TB, m nfctest.Medium) terminal.Decision {
	t.Helper()
	r.field.Insert(slotA, m)
	return r.decision(t)
}

// tap presents a card, waits for the decision and takes the card away.
func (r *rig) tap(t testing.TB, m nfctest.Medium) terminal.Decision {
	t.Helper()
	defer r.field.Remove(slotA)
	return r.put(t, m)
}

func (r *rig) decision(t testing.TB) terminal.Decision {
	t.Helper()
	select {
	case d := <-r.decisions:
		return d
	case <-time.After(time.Minute):
		t.Fatal("no decision")
		panic("unreachable")
	}
}

// card makes a card from an image.
func card(t testing.TB, img *vcard.Image, opt vcard.Options) *vcard.Card {
	t.Helper()
	c, err := vcard.New(img, opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bend makes a card whose answers a function bends.
func bend(m nfctest.Medium, f func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool)) nfctest.Medium {
	return &nfctest.Faulty{Medium: m, Bend: f}
}

// wantShut checks that the tap was denied for a reason, that the relay never
// moved, that nobody was charged an entry, and that the journal has the denial.
func (r *rig) wantShut(t testing.TB, d terminal.Decision, reason terminal.Reason) {
	t.Helper()
	if d.Verdict != terminal.Deny || d.Reason != reason {
		t.Errorf("%v %s (%v), want deny %s", d.Verdict, d.Reason, d.Cause, reason)
	}
	if n := r.gate.Opened(); n != 0 {
		t.Errorf("the gate opened %d times", n)
	}
	events := r.events(t)
	last := events[len(events)-1]
	if last.Kind != journal.KindDecision || last.Reason != reason {
		t.Errorf("the journal ends with %+v", last.Event)
	}
	for _, e := range events {
		if e.Kind == journal.KindCommit {
			t.Error("the journal has a committed entry")
		}
	}
	r.wantUses(t, 0)
}

// wantUses checks how often the listed people have entered, all together.
func (r *rig) wantUses(t testing.TB, want uint32) {
	t.Helper()
	var sum uint32
	for _, row := range r.rows {
		for _, e := range row.Row.Entitlements {
			h, err := r.site.Journal.History(t.Context(), e.ID)
			if err != nil {
				t.Fatal(err)
			}
			sum += h.Entered()
		}
	}
	if sum != want {
		t.Errorf("%d entries stand, want %d", sum, want)
	}
}

func (r *rig) events(t testing.TB) []journal.Entry {
	t.Helper()
	if _, err := r.site.Journal.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []journal.Entry
	for e, err := range r.site.Journal.List(t.Context(), journal.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// newCard makes a card of the trusted hierarchy, and its row.
func (r *rig) newCard(t testing.TB, entitlement string, opt perso.CardOptions) (*vcard.Image, whitelist.Listed) {
	t.Helper()
	img, err := r.Card(opt)
	if err != nil {
		t.Fatal(err)
	}
	row, err := r.Row(img, entitlement)
	if err != nil {
		t.Fatal(err)
	}
	return img, row
}

// A countingSigner counts what a key signs.
type countingSigner struct {
	crypto.Signer
	n atomic.Int64
}

func (s *countingSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.n.Add(1)
	return s.Signer.Sign(rand, digest, opts)
}

// A hookedGate does something before it opens or shuts, and may fail when it has
// opened. The hooks are set at any time.
type hookedGate struct {
	*gate.Simulator
	open, shut atomic.Pointer[func()]
	fails      atomic.Bool
}

// hooked gives a rig a gate with hooks.
func (g *hookedGate) hooked(r *rig, _ *terminal.Config, p *terminal.Parts) {
	g.Simulator, p.Gate = r.gate, g
}

func (g *hookedGate) Open(ctx context.Context, p *terminal.Permit, people uint32) error {
	if f := g.open.Load(); f != nil {
		(*f)()
	}
	err := g.Simulator.Open(ctx, p, people)
	if err == nil && g.fails.Load() {
		err = errors.New("input/output error")
	}
	return err
}

func (g *hookedGate) Shut() error {
	if f := g.shut.Load(); f != nil {
		(*f)()
	}
	return g.Simulator.Shut()
}

// A hookedJournal does something before it writes, and writes nothing when that
// fails. The hook is nil until the test sets it.
type hookedJournal struct {
	terminal.Journal
	before atomic.Pointer[func(kind journal.Kind, d terminal.Decision) error]
}

// hooked gives a rig a journal with hooks.
func (j *hookedJournal) hooked(_ *rig, _ *terminal.Config, p *terminal.Parts) {
	j.Journal, p.Journal = p.Journal, j
}

func (j *hookedJournal) set(before func(journal.Kind, terminal.Decision) error) {
	j.before.Store(&before)
}

// full sets whether the disk is.
func (j *hookedJournal) full(full bool) {
	j.set(func(journal.Kind, terminal.Decision) error {
		if full {
			return journal.ErrFull
		}
		return nil
	})
}

func (j *hookedJournal) ask(kind journal.Kind, d terminal.Decision) error {
	if f := j.before.Load(); f != nil {
		return (*f)(kind, d)
	}
	return nil
}

func (j *hookedJournal) Reserve(ctx context.Context, d terminal.Decision, seen uint64) (terminal.Reservation, error) {
	if err := j.ask(journal.KindReserve, d); err != nil {
		return 0, err
	}
	return j.Journal.Reserve(ctx, d, seen)
}

func (j *hookedJournal) Passed(ctx context.Context, r terminal.Reservation, people uint32) error {
	if err := j.ask(journal.KindPassed, terminal.Decision{}); err != nil {
		return err
	}
	return j.Journal.Passed(ctx, r, people)
}

func (j *hookedJournal) Commit(ctx context.Context, r terminal.Reservation, people uint32) error {
	if err := j.ask(journal.KindCommit, terminal.Decision{}); err != nil {
		return err
	}
	return j.Journal.Commit(ctx, r, people)
}

func (j *hookedJournal) Annul(ctx context.Context, r terminal.Reservation, why terminal.Reason) error {
	if err := j.ask(journal.KindAnnul, terminal.Decision{}); err != nil {
		return err
	}
	return j.Journal.Annul(ctx, r, why)
}

func (j *hookedJournal) Incident(ctx context.Context, i terminal.Incident) error {
	if err := j.ask(journal.KindIncident, terminal.Decision{}); err != nil {
		return err
	}
	return j.Journal.Incident(ctx, i)
}
