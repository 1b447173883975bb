package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/terminal/api"
)

// leaseFile is the lease of a scope, in its folder: as it came, sealed.
const leaseFile = "lease"

// What keeps a terminal without a scope key.
var (
	errNoLease    = errors.New("no lease has come yet")
	errLeaseEnded = errors.New("its lease has ended")
)

// errLeaseRefused: one came.
var errLeaseRefused = errors.New("lease not taken over")

func (c *config) leasePath() string { return filepath.Join(c.scopeFolder(c.Scope), leaseFile) }

// readLease reads the file of a lease for this terminal in a scope, that is not older
// than one before and has not ended, and opens it.
func (c *config) readLease(b []byte, scope string, at time.Time) (l lease.Lease, key cardid.ScopeKey, err error) {
	trust, err := c.roleTrust(sign1.RoleLease, scope, "scope_key.keys", c.ScopeKey.Keys)
	if err != nil {
		return l, key, err
	}
	if l, err = lease.Read(b, trust); err != nil {
		return l, key, err
	}
	state := c.memory.State()
	seen := state.Of(scope)
	if err := l.For(scope, c.Mode.String(), c.Terminal); err != nil {
		return l, key, err
	}
	switch {
	case l.IssuedAt.Before(seen.Lease):
		return l, key, fmt.Errorf("lease issued %s: one of %s was here before", written(l.IssuedAt), written(seen.Lease))
	case l.Ended(at):
		return l, key, fmt.Errorf("%w: on %s", errLeaseEnded, written(l.NotAfter))
	}
	delivery, err := c.openDeliveryKey()
	if err != nil {
		return l, key, err
	}
	key, err = l.Open(delivery)
	return l, key, err
}

// admits says whether a lease that has come may be taken over at an instant: whoever has
// signed it may do so then, as far as this terminal has heard.
func (c *config) admits(l lease.Lease, at time.Time) error {
	state := c.memory.State()
	return errors.Join(l.Valid(at), l.NotBefore(state.Of(l.Scope).Delegation))
}

// storedLease is the lease in force.
func (c *config) storedLease(at time.Time) (l lease.Lease, key cardid.ScopeKey, err error) {
	b, err := readFile(c.leasePath())
	if errors.Is(err, fs.ErrNotExist) {
		return l, key, errNoLease
	}
	if err != nil {
		return l, key, err
	}
	// Its role may have ended since, and its delegation have a newer one: it was valid
	// when it came.
	return c.readLease(b, c.Scope, at)
}

func written(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// A leaseKeeper keeps the lease of a running agent: takes over those that come, and
// ends the one whose time is over, whoever else waits for a network meanwhile.
//
//	none ──a lease comes──▶ held ──less than a third is left──▶ warned
//	  ▲                       │                                   │
//	  └────── not_after ──────┴───────────────────────────────────┘
type leaseKeeper struct {
	c    *config
	log  *slog.Logger
	list *listSwitch
	at   func() time.Time // that surely has passed

	asking sync.Mutex // of who looks for a newer lease: it comes before turn
	came   []byte     // what the source has, nil where that is not known
	missed string     // why rekey was in vain, as it was told last

	turn sync.Mutex // of who changes the lease

	mu     sync.Mutex  // of what status reads
	held   lease.Lease // zero: none
	warned bool
	said   string // why there is none
}

// status is what people are told of it.
func (k *leaseKeeper) status() *api.LeaseStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held.NotAfter.IsZero() {
		return &api.LeaseStatus{Detail: k.said}
	}
	left := k.held.NotAfter.Unix() - k.at().Unix()
	return &api.LeaseStatus{IssuedAt: &k.held.IssuedAt, NotAfter: &k.held.NotAfter, LeftS: left, EndsSoon: leaseShort(k.held.Terms, k.at())}
}

func (k *leaseKeeper) set(l lease.Lease, said string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.warned, k.said = l, false, said
}

// begin takes over the lease that is stored.
func (k *leaseKeeper) begin() error {
	k.turn.Lock()
	defer k.turn.Unlock()
	return k.takeStored()
}

func (k *leaseKeeper) takeStored() error {
	l, key, err := k.c.storedLease(k.at())
	if errors.Is(err, errLeaseEnded) {
		return k.end(err)
	}
	if err != nil {
		return k.without(err)
	}
	return k.hold(l, key)
}

// hold works with a lease from now on.
func (k *leaseKeeper) hold(l lease.Lease, key cardid.ScopeKey) error {
	if k.held.Check != l.Check || k.held.NotAfter.IsZero() {
		store, err := k.c.openList(key)
		if err != nil {
			return err
		}
		if err := k.list.put(store); err != nil {
			return err
		}
	}
	if k.said != "" {
		k.log.Info("scope key is there again")
	}
	k.set(l, "")
	k.log.Info("scope key leased", "scope", l.Scope, "issued_at", written(l.IssuedAt), "not_after", written(l.NotAfter))
	k.lookNow()
	return nil
}

// without says, once, why there is no scope key.
func (k *leaseKeeper) without(why error) error {
	err := k.list.drop(why)
	told := k.said
	if k.set(lease.Lease{}, why.Error()); told != k.said {
		k.log.Error("no scope key: every card is denied", "error", why, "next", "bring this terminal to its hub, or see gate-agent doctor")
	}
	return err
}

// end forgets a lease whose time is over, in memory and on the disk.
func (k *leaseKeeper) end(why error) error {
	err := os.Remove(k.c.leasePath())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else if err == nil {
		err = wholefile.SyncFolder(filepath.Dir(k.c.leasePath()))
	}
	return errors.Join(k.without(why), err)
}

// watch ends the lease when its time is over, until ctx ends.
func (k *leaseKeeper) watch(ctx context.Context) {
	for k.look(); pause(ctx, watchEvery); {
		k.look()
	}
}

// look ends the lease when its time is over, and warns when that comes near.
func (k *leaseKeeper) look() {
	k.turn.Lock()
	defer k.turn.Unlock()
	k.lookNow()
}

func (k *leaseKeeper) lookNow() {
	if k.held.NotAfter.IsZero() {
		return
	}
	at := k.at()
	if k.held.Ended(at) {
		if err := k.end(fmt.Errorf("%w: on %s", errLeaseEnded, written(k.held.NotAfter))); err != nil {
			k.log.Error("ended lease not removed", "error", err)
		}
		return
	}
	if short := leaseShort(k.held.Terms, at); short && !k.warned {
		k.warned = true
		k.log.Warn("scope key ends soon: the hub has not renewed it", "not_after", written(k.held.NotAfter), "left", k.held.NotAfter.Sub(at).Truncate(time.Second).String())
	}
}

// leaseShort is whether less than a third of a lease is left.
func leaseShort(t lease.Terms, at time.Time) bool {
	return 3*t.NotAfter.Sub(at) < t.NotAfter.Sub(t.IssuedAt)
}

// needs is what a newer lease is wanted for: now, or only now and then.
func (k *leaseKeeper) needs() (now bool) {
	k.turn.Lock()
	defer k.turn.Unlock()
	return k.held.NotAfter.IsZero() || leaseShort(k.held.Terms, k.at())
}

// take takes over a lease that came.
func (k *leaseKeeper) take(b []byte) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	k.lookNow() // before anything is said of what came
	at := k.at()
	l, key, err := k.c.readLease(b, k.c.Scope, at)
	if err != nil {
		return err
	}
	if l.Terms == k.held.Terms && l.Check == k.held.Check {
		return nil // the one in force
	}
	if err := k.c.admits(l, at); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.c.leasePath()), 0o700); err != nil {
		return err
	}
	if err := wholefile.Replace(k.c.leasePath(), b); err != nil {
		return err
	}
	if err := k.c.memory.Update(func(s *command.State) {
		s.See(seenOf(l, at))
	}); err != nil {
		return err
	}
	return k.hold(l, key)
}

// seenOf is what is remembered of a lease that was taken over at an instant. Of one that
// was issued in the future, by a hub whose clock is wrong, that instant is: or none that
// is issued rightly would be taken over until then.
func seenOf(l lease.Lease, at time.Time) command.Scope {
	issued := l.IssuedAt
	if most := at.Add(24 * time.Hour).Truncate(time.Second); issued.After(most) {
		issued = most
	}
	return command.Scope{Name: l.Scope, Delegation: l.Delegation(), Lease: issued}
}

// fetch looks for a newer lease at the source.
func (k *leaseKeeper) fetch(ctx context.Context, source *fetch.Source) error {
	k.asking.Lock()
	defer k.asking.Unlock()
	switch answer, err := source.Get(ctx, lease.File(k.c.Terminal), lease.MaxFile); {
	case errors.Is(err, fetch.ErrUnchanged):
		// It is taken over again: the clock may have been set since.
	case err != nil:
		return err
	default:
		answer.Keep()
		k.came = answer.Body
	}
	if err := k.take(k.came); err != nil {
		return fmt.Errorf("%w: %w", errLeaseRefused, err)
	}
	return nil
}

// rekey looks for the lease of another scope key, because a list has come that is sealed
// with it: hourly is too late then. The error is one of reaching the source.
func (k *leaseKeeper) rekey(ctx context.Context, source *fetch.Source) error {
	switch err := k.fetch(ctx, source); {
	case err == nil:
		k.missed = ""
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLeaseRefused):
		return fmt.Errorf("looking for the scope key that the list is sealed with: %w", err)
	case err.Error() != k.missed:
		k.missed = err.Error()
		k.log.Warn("no lease of the scope key that the list is sealed with", "error", err)
	}
	return nil
}

// recover takes over the lease that is stored, where none is held: what opens it, a
// token for instance, may be there by now, and the source may not.
func (k *leaseKeeper) recover() {
	k.turn.Lock()
	defer k.turn.Unlock()
	if !k.held.NotAfter.IsZero() {
		return
	}
	if err := k.takeStored(); err != nil {
		k.log.Error("stored lease not taken over", "error", err)
	}
}
