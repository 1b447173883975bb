package claimer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

const (
	answerTime = 5 * time.Second        // of a server to whom no tap waits
	pollTime   = 200 * time.Millisecond // between two looks into the journal
	checkTime  = 10 * time.Second       // between two questions whether the stream is still the same
	probeTime  = time.Second            // of an answer that ends a wait for nothing
	retryTime  = 10 * time.Second       // at most, after something failed
)

// Run hears what other gates write, and tells the log what the journal has, until ctx
// ends. What fails is reported and tried again.
func (c *Claimer) Run(ctx context.Context) {
	changed := c.JetStream.Conn().StatusChanged()
	defer c.JetStream.Conn().RemoveStatusListener(changed)
	for failed := 0; ctx.Err() == nil; {
		if c.JetStream.Conn().Status() != nats.CONNECTED {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		worked, err := c.session(ctx, changed)
		if failed++; worked {
			failed = 0
		}
		if err != nil && ctx.Err() == nil {
			c.Report(fmt.Errorf("claims: %w", err))
			wait(ctx, backoff(failed), nil)
		}
	}
}

// backoff is how long to wait after so many failures: full jitter, doubled each time.
func backoff(failed int) time.Duration {
	return rand.N(min(retryTime, 100*time.Millisecond<<min(failed, 10)))
}

// errLost ends what goes on over a connection: what it asked has no answer any more, and
// what it heard is not all.
var errLost = errors.New("the connection is lost")

// session works with one stream, over one connection, until either is another one, or it
// fails. worked says that the stream was there.
func (c *Claimer) session(ctx context.Context, changed <-chan nats.Status) (worked bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer c.bucket.Store(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		cancel(nil) // what waits for it ends
		if errors.Is(context.Cause(ctx), errLost) {
			err = nil
		}
	}()
	wg.Go(func() { cancel(c.watchConnection(ctx, changed)) })
	opening, done := context.WithTimeout(ctx, answerTime)
	defer done()
	b, err := claims.Open(opening, c.JetStream, c.Bucket)
	if err != nil {
		return false, err
	}
	revision, err := c.store.attach(ctx, b.Created())
	if err != nil {
		return false, fmt.Errorf("the copy of the venue's log: %w", err)
	}
	watcher, err := b.Watch(ctx, revision+1)
	if err != nil {
		return false, err
	}
	c.slow.Store(false)
	c.bucket.Store(b)
	for _, part := range []func(context.Context) error{
		func(ctx context.Context) error { return c.hear(ctx, watcher) },
		func(ctx context.Context) error { return c.check(ctx, b) },
		func(ctx context.Context) error { return c.follow(ctx, b) },
	} {
		wg.Go(func() { cancel(part(ctx)) })
	}
	<-ctx.Done()
	// It asks the server, for which nobody waits: without a connection it takes its time.
	c.asking.Go(func() { _ = watcher.Stop() })
	return true, context.Cause(ctx)
}

// watchConnection ends when the connection does.
func (c *Claimer) watchConnection(ctx context.Context, changed <-chan nats.Status) error {
	for c.JetStream.Conn().Status() == nats.CONNECTED { // and may have been lost in between
		select {
		case <-ctx.Done():
			return nil
		case s := <-changed:
			if s != nats.CONNECTED {
				return errLost
			}
		}
	}
	return errLost
}

// hear keeps what is written.
func (c *Claimer) hear(ctx context.Context, w jetstream.KeyWatcher) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-w.Updates():
			heard := []jetstream.KeyValueEntry{e}
			for open && len(w.Updates()) > 0 && len(heard) < 256 { // one write for all that wait
				e, open = <-w.Updates()
				heard = append(heard, e)
			}
			if !open {
				return errors.New("the watch ended")
			}
			if err := c.keep(ctx, heard); err != nil {
				return fmt.Errorf("the copy of the venue's log: %w", err)
			}
		}
	}
}

// keep puts what was heard into the copy, and reports what should not be.
func (c *Claimer) keep(ctx context.Context, heard []jetstream.KeyValueEntry) error {
	var values []value
	for _, e := range heard {
		if e == nil { // all that there was before
			continue
		}
		token, n, err := claims.ParseKey(e.Key())
		if err == nil {
			values = append(values, value{token, n, e.Value(), e.Revision()})
			var r claims.Record
			if r, err = claims.Parse(c.Scope, token, e.Value()); err == nil && r.Writer == c.store.me {
				defer poke(c.kick)
			}
		}
		if err != nil {
			c.Report(fmt.Errorf("claims: %s: %w", e.Key(), err))
		}
	}
	again, err := c.store.put(ctx, values...)
	for _, v := range again {
		c.Report(fmt.Errorf("claims: %s: %w: the server does not keep its promise", claims.Key(v.token, v.n), errTwice))
	}
	return err
}

// check asks from time to time whether the stream is still the same, and when taps have
// had no answer, until there is one.
func (c *Claimer) check(ctx context.Context, b *claims.Bucket) error {
	for ctx.Err() == nil {
		pause := checkTime
		if c.slow.Load() {
			pause = probeTime
		}
		wait(ctx, pause, c.probe)
		asked, cancel := context.WithTimeout(ctx, probeTime)
		same, err := b.Same(asked)
		cancel()
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return err
		case err != nil: // the connection tells by itself
			continue
		case !same || c.bucket.Load() == nil:
			return errors.New("the venue's log was made anew")
		}
		c.slow.Store(false)
	}
	return nil
}

// follow tells the log what the journal has, and gives back loose claims.
func (c *Claimer) follow(ctx context.Context, b *claims.Bucket) error {
	for failed := 0; ctx.Err() == nil; {
		err := c.round(ctx, b)
		if failed++; err == nil {
			failed = 0
			wait(ctx, pollTime, c.kick)
		} else if ctx.Err() == nil {
			c.Report(fmt.Errorf("claims: %w", err))
			wait(ctx, backoff(failed), nil)
		}
	}
	return nil
}

// round goes once through what is new. A claim is loose when no tap held it before the
// journal was read to its end, and it is not there.
func (c *Claimer) round(ctx context.Context, b *claims.Bucket) error {
	loose, err := c.store.loose(ctx)
	if err != nil {
		return err
	}
	var free []claim
	for _, l := range loose {
		if !c.holds(l.id) {
			free = append(free, l)
		}
	}
	if err := c.tellJournal(ctx, b); err != nil {
		return err
	}
	for _, l := range free {
		owned, err := c.store.owned(ctx, l)
		if err == nil && !owned {
			err = c.settle(ctx, b, l.token, l.id, 0, journal.Standing{Settled: true})
		}
		if err != nil {
			return fmt.Errorf("giving back a claim: %w", err)
		}
	}
	return nil
}

// tellJournal tells of every event that the log has not been told of.
func (c *Claimer) tellJournal(ctx context.Context, b *claims.Bucket) error {
	through, foreign, err := c.store.told(ctx)
	if err != nil {
		return err
	}
	began := through // what breaks off is told again from here, and written once all the same
	for e, err := range c.Journal.List(ctx, journal.Filter{After: through}) {
		if err == nil {
			foreign, err = c.event(ctx, b, e.Event, foreign)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("telling the venue's log of the journal: %w", err), c.tell(ctx, began, through, foreign))
		}
		if through = e.Seq; through-began >= 256 {
			if err := c.tell(ctx, began, through, foreign); err != nil {
				return err
			}
			began = through
		}
	}
	return c.tell(ctx, began, through, foreign)
}

func (c *Claimer) tell(ctx context.Context, began, through uint64, foreign bool) error {
	if began == through {
		return nil
	}
	return c.store.tell(ctx, through, foreign)
}

// event tells of one event. A terminal that came from another scope has events that are
// nothing to this one.
func (c *Claimer) event(ctx context.Context, b *claims.Bucket, e journal.Event, foreign bool) (bool, error) {
	switch e.Kind {
	case journal.KindStart:
		return e.Scope != c.Scope, nil
	case journal.KindReserve:
		if foreign || e.Entitlement == "" || strings.HasPrefix(e.Entitlement, whitelist.PersonPrefix) || strings.HasPrefix(e.Entitlement, whitelist.TokenPrefix) {
			return foreign, nil
		}
		return foreign, c.reserved(ctx, b, e)
	case journal.KindCommit, journal.KindAnnul, journal.KindDoubt:
		token, id, known, err := c.store.called(ctx, e.Reservation)
		if err != nil || !known {
			return foreign, err
		}
		now, err := c.Journal.Standing(ctx, terminal.Reservation(e.Reservation))
		if errors.Is(err, journal.ErrSettled) { // deleted since
			return foreign, nil
		}
		if err == nil && now.Settled {
			err = c.settle(ctx, b, token, id, e.Reservation, now)
		}
		return foreign, err
	}
	return foreign, nil
}

// reserved tells of an entry that was not claimed in time, and of an exit.
func (c *Claimer) reserved(ctx context.Context, b *claims.Bucket, e journal.Event) error {
	token, id := claims.Token(c.Scope, e.Entitlement), e.ClaimID
	if id == "" {
		id = fmt.Sprint("r", e.Seq)
	}
	r := claims.Record{
		Kind: claims.Entry, Entitlement: e.Entitlement, Writer: c.store.me, ID: id, Gate: e.Gate, Zone: e.Zone, At: e.At.Time,
		People: max(1, e.People), Reentry: min(e.Reentry, max(1, e.People)), Late: true, Reservation: e.Seq,
	}
	if e.Direction == terminal.Exit.String() {
		r.Kind = claims.Exit
	}
	err := c.appendTo(ctx, b, token, func(log []claims.Numbered) (claims.Record, bool) {
		for _, l := range log {
			if l.Record.Kind != claims.Settle && l.Record.Writer == r.Writer && l.Record.ID == id {
				return r, false
			}
		}
		return r, true
	})
	if err != nil {
		return err
	}
	return c.store.own(ctx, e.Seq, token, id)
}

// settle says what came of a passage, unless the log says so.
func (c *Claimer) settle(ctx context.Context, b *claims.Bucket, token, id string, reservation uint64, now journal.Standing) error {
	return c.appendTo(ctx, b, token, func(log []claims.Numbered) (r claims.Record, needed bool) {
		for _, l := range log {
			switch {
			case l.Record.Writer != c.store.me || l.Record.ID != id:
			case l.Record.Kind == claims.Settle:
				needed = l.Record.People != now.People || l.Record.Doubt != now.Doubt
			default:
				needed = true
				r = claims.Record{
					Kind: claims.Settle, Entitlement: l.Record.Entitlement, Writer: c.store.me, ID: id, At: time.Now(),
					People: now.People, Doubt: now.Doubt, Of: l.N, Reservation: reservation,
				}
			}
		}
		return r, needed && r.Of != 0
	})
}

// appendTo writes a record at the first free number, as long as it is needed by all that
// is before it: so it is written once, whatever breaks off in between.
func (c *Claimer) appendTo(ctx context.Context, b *claims.Bucket, token string, need func([]claims.Numbered) (claims.Record, bool)) error {
	for {
		log, err := c.store.log(ctx, token)
		if err != nil {
			return err
		}
		r, needed := need(log)
		if !needed {
			return nil
		}
		text, err := r.Encode()
		if err != nil { // nobody could read it, now or later
			c.Report(fmt.Errorf("claims: reservation %d cannot be told: %w", r.Reservation, err))
			return nil
		}
		asked, cancel := context.WithTimeout(ctx, answerTime)
		_, err = c.write(asked, b, token, claims.Fold(log).Next, text)
		cancel()
		if err != nil {
			return err
		}
	}
}
