// Package claimer is a terminal's half of the claims of its venue: it claims an entry
// before the gate opens, and tells the log what its journal has.
//
// It promises: no tap waits for anything but the server, and no longer than it says;
// whatever the journal has of entries and exits gets into the log once, however often
// connection, server or program break off; a claim that came to no entry is given back.
package claimer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// Config is what a Claimer is told.
type Config struct {
	Path     string // of the copy of the log, an SQLite file that may be deleted
	Scope    string
	Terminal string
	Bucket   string // link.SubjectsOf(…).Bucket

	JetStream jetstream.JetStream

	// Connected says whether the server can be asked. It must not wait: the library's own
	// state lies behind a lock that it holds while it dials.
	Connected func() bool

	Journal *journal.Reader

	// Report is told what goes wrong beside taps, each of which the Claimer gets over
	// or tries again. It must not wait. The errors name no person.
	Report func(error)
}

// A Claimer implements terminal.Claims.
//
//	          ┌─ acknowledged ───────────────▶ confirmed ─ journal ─▶ settled
//	claimed ──┼─ taken ──────────────────────▶ decide again
//	          └─ no answer ─▶ by the zone's policy ─ journal: unconfirmed ─▶ told later
//
// A claim that was written and is in no journal is given back: settled with nobody.
type Claimer struct {
	Config
	store  *store
	bucket atomic.Pointer[claims.Bucket] // nil while there is none
	slow   atomic.Bool                   // the last claim had no answer, and nothing has had one since
	kick   chan struct{}                 // there is something to tell
	probe  chan struct{}                 // it is slow
	asking sync.WaitGroup

	mu   sync.Mutex
	held map[string]struct{} // claims of taps that go on
}

var _ terminal.Claims = (*Claimer)(nil)

// errApart says that nobody can be asked.
var errApart = errors.New("the venue's log cannot be asked: no connection")

// Open opens the copy, and makes it where there is none. Nothing is asked until Run.
func Open(c Config) (*Claimer, error) {
	if c.Path == "" || c.Scope == "" || c.Terminal == "" || c.Bucket == "" || c.JetStream == nil || c.Connected == nil || c.Journal == nil || c.Report == nil {
		return nil, errors.New("claims: a part is missing")
	}
	incarnation, err := c.Journal.Incarnation(context.Background())
	if err != nil {
		return nil, err
	}
	s, err := openStore(c.Path, c.Scope, claims.Writer{Terminal: c.Terminal, Incarnation: hex.EncodeToString(incarnation[:])})
	if err != nil {
		return nil, err
	}
	return &Claimer{Config: c, store: s, kick: make(chan struct{}, 1), probe: make(chan struct{}, 1), held: make(map[string]struct{})}, nil
}

// Close closes the copy. Run and all taps have ended.
func (c *Claimer) Close() error {
	c.asking.Wait()
	return c.store.close()
}

// apart reports whether nobody can be asked now.
func (c *Claimer) apart() bool {
	return c.slow.Load() || c.bucket.Load() == nil || !c.Connected()
}

// Log implements terminal.Claims.
func (c *Claimer) Log(ctx context.Context, entitlement string) (terminal.Log, error) {
	log, err := c.store.read(ctx, entitlement)
	log.Apart = log.Apart || c.apart()
	return log, err
}

// read is a log as a terminal takes it. Where a number cannot be read there may be more
// passages than are known, as when nobody can be asked.
func (s *store) read(ctx context.Context, entitlement string) (terminal.Log, error) {
	token := claims.Token(s.scope, entitlement)
	fail := func(err error) (terminal.Log, error) {
		return terminal.Log{}, fmt.Errorf("reading the copy of the venue's log: %w", err)
	}
	log, err := s.log(ctx, token)
	if err != nil {
		return fail(err)
	}
	h := claims.Fold(log)
	mine, err := s.reservations(ctx, token)
	if err != nil {
		return fail(err)
	}
	l := terminal.Log{Next: h.Next, Apart: len(h.Unsure) > 0}
	for _, p := range h.Passages {
		t := terminal.Passage{
			At: p.At, Zone: p.Zone, People: p.People, Reentry: p.Reentry, Passed: p.People, Gate: p.Gate, Terminal: p.Terminal,
		}
		if p.Exit {
			t.Direction = terminal.Exit
		}
		switch {
		case p.Writer == s.me:
			t.Reservation, t.Terminal = terminal.Reservation(max(mine[p.ID], p.Reservation)), ""
			if t.Reservation == 0 {
				continue // it is not in the journal yet, or never will be
			}
		case p.People == 0:
			continue
		case !p.Settled:
			t.Open, t.Passed = true, 0
		}
		l.Passages = append(l.Passages, t)
	}
	return l, nil
}

// Claim implements terminal.Claims. Without a connection it returns at once.
func (c *Claimer) Claim(ctx context.Context, d terminal.Decision, next uint64) error {
	c.mu.Lock()
	c.held[d.ClaimID] = struct{}{}
	c.mu.Unlock()
	b := c.bucket.Load()
	if b == nil || c.apart() {
		return errApart
	}
	answer := make(chan error, 1)
	// A connection that is stuck in a write keeps no promise about time.
	c.asking.Go(func() { answer <- c.take(ctx, b, d, next) })
	select {
	case err := <-answer:
		if err != nil && !errors.Is(err, terminal.ErrUsesChanged) {
			c.tire()
		}
		return err
	case <-ctx.Done():
		c.tire()
		return fmt.Errorf("the venue's log did not answer in time: %w", context.Cause(ctx))
	}
}

// tire makes taps ask nobody until somebody answers again.
func (c *Claimer) tire() {
	c.slow.Store(true)
	poke(c.probe)
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// take writes the entry, and finds out what is there when the number is taken.
func (c *Claimer) take(ctx context.Context, b *claims.Bucket, d terminal.Decision, n uint64) error {
	token := claims.Token(c.Scope, d.Entitlement)
	text, err := claims.Record{
		Kind: claims.Entry, Entitlement: d.Entitlement, Writer: c.store.me, ID: d.ClaimID,
		Gate: d.Gate, Zone: d.Zone, At: d.Instant, People: d.People, Reentry: d.Reentry,
	}.Encode()
	if err != nil {
		return err
	}
	ours, err := c.write(ctx, b, token, n, text)
	if err == nil && !ours {
		err = terminal.ErrUsesChanged
	}
	return err
}

// write writes a number of a log and keeps what it holds then. ours says that it is
// text: an acknowledgement may have been lost.
func (c *Claimer) write(ctx context.Context, b *claims.Bucket, token string, n uint64, text []byte) (ours bool, err error) {
	heard, err := c.store.revision(ctx)
	if err != nil {
		return false, err
	}
	revision, err := b.Create(ctx, token, n, text)
	switch {
	case errors.Is(err, claims.ErrTaken):
		there, err := b.Get(ctx, token, n)
		if err != nil {
			return false, err
		}
		ours = bytes.Equal(there, text)
		text = there
	case err != nil:
		return false, err
	case revision <= uint64(heard):
		c.bucket.CompareAndSwap(b, nil)
		return false, errors.New("the venue's log was made anew")
	default:
		ours = true
	}
	_, err = c.store.put(context.WithoutCancel(ctx), value{token, n, text, 0})
	return ours, err
}

// Done implements terminal.Claims.
func (c *Claimer) Done(claimID string) {
	c.mu.Lock()
	delete(c.held, claimID)
	c.mu.Unlock()
	poke(c.kick)
}

func (c *Claimer) holds(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, held := c.held[id]
	return held
}

// Through is the last event of the journal that the log has been told of: retention
// goes no further.
func (c *Claimer) Through(ctx context.Context) (uint64, error) {
	through, _, err := c.store.told(ctx)
	return through, err
}

// Status is how a Claimer stands to the venue.
type Status struct {
	Apart   bool   // nobody can be asked now
	Through uint64 // last event of the journal that the log has been told of
	Unread  int    // keys that cannot be read, or were written twice
	Loose   int    // claims that are not given back yet
}

// Status tells how it stands.
func (c *Claimer) Status(ctx context.Context) (s Status, err error) {
	s.Apart = c.apart()
	if s.Through, err = c.Through(ctx); err != nil {
		return s, err
	}
	loose, err := c.store.loose(ctx)
	if err != nil {
		return s, err
	}
	s.Loose = len(loose)
	s.Unread, err = c.store.unread(ctx)
	return s, err
}

// wait waits a while, or until a kick comes or ctx ends.
func wait(ctx context.Context, d time.Duration, kick <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-kick:
	case <-timer.C:
	}
}
