package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// prepare fetches and verifies all that another scope needs, into a folder of its own:
// its lease and its list, under a delegation of the root for that scope. Nothing of the
// scope of now is touched. seen is what there is to remember of the other one.
func (c *config) prepare(ctx context.Context, scope string, at time.Time) (seen command.Scope, err error) {
	switch {
	case !c.ScopeKey.Lease || len(c.Root.Keys) == 0:
		return seen, errors.New("this terminal cannot change its scope: that takes scope_key.lease and root.keys")
	case !strings.Contains(c.List.Source, scopeMark):
		return seen, fmt.Errorf("this terminal cannot change its scope: list.source has no %s", scopeMark)
	}
	failed := func(err error) (command.Scope, error) {
		return command.Scope{}, fmt.Errorf("preparing scope %q: %w", scope, err)
	}
	source, err := c.openSourceFor(scope)
	if err != nil {
		return failed(err)
	}
	defer source.Close()
	answer, err := source.Get(ctx, lease.File(c.Terminal), lease.MaxFile)
	if err != nil {
		return failed(err)
	}
	l, key, err := c.readLease(answer.Body, scope, at)
	if err == nil {
		err = c.admits(l, at)
	}
	if err != nil {
		return failed(err)
	}
	trust, err := c.trust()
	if err != nil {
		return failed(err)
	}
	folder := c.scopeFolder(scope)
	store, err := listdb.Open(listdb.Config{Dir: folder, Scope: scope, Hierarchy: c.Mode.String(), Trust: trust, ScopeKey: key})
	if err != nil {
		return failed(err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := c.bring(ctx, scope, store, at); err != nil {
		return failed(err)
	}
	if err := c.fits(store, at); err != nil {
		return failed(err)
	}
	if err := wholefile.Replace(filepath.Join(folder, leaseFile), answer.Body); err != nil {
		return failed(err)
	}
	return seenOf(l, at), nil
}

// A preparation is one that is under way. It may have a whole list to fetch: that holds
// up neither the end of the lease nor a wipe.
type preparation struct {
	number uint64 // of the command
	cancel context.CancelFunc
	done   chan struct{}
	seen   command.Scope
	err    error
}

// preparedWithin is how long a look at the commands waits for one.
const preparedWithin = 10 * time.Second

var errPreparing = errors.New("the new scope's lease and list are being fetched")

// prepare prepares the change of scope of a command. The error is errPreparing until that
// is done.
func (o *operator) prepare(ctx context.Context, cmd command.Command) (command.Scope, error) {
	if o.coming == nil || o.coming.number != cmd.Number {
		o.giveUp()
		within, cancel := context.WithCancel(ctx)
		p := &preparation{number: cmd.Number, cancel: cancel, done: make(chan struct{})}
		go func() {
			defer close(p.done)
			p.seen, p.err = o.c.prepare(within, cmd.NewScope, o.at())
		}()
		o.coming = p
	}
	wait := time.NewTimer(preparedWithin)
	defer wait.Stop()
	select {
	case <-o.coming.done:
		p := o.coming
		o.giveUp()
		return p.seen, p.err
	case <-wait.C:
		return command.Scope{}, errPreparing
	case <-ctx.Done():
		return command.Scope{}, context.Cause(ctx)
	}
}

// giveUp ends a preparation, and waits for its end.
func (o *operator) giveUp() {
	if p := o.coming; p != nil {
		p.cancel()
		<-p.done
		o.coming = nil
	}
}

// roundsFolder is what rounds leave behind in the folder of a scope that is prepared.
const roundsFolder = "sync"

// bring brings the list of a scope into its store.
func (c *config) bring(ctx context.Context, scope string, store *listdb.Store, at time.Time) (err error) {
	source, err := c.openSourceFor(scope)
	if err != nil {
		return err
	}
	// What the rounds leave behind is of this scope alone.
	state := filepath.Join(c.scopeFolder(scope), roundsFolder)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	u, err := lists.Open(lists.Config{
		Source: source, From: c.sourceFor(scope), Store: store, State: state,
		Terminal: c.Terminal, Every: c.List.Every.Duration, Now: func() time.Time { return at },
	})
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, u.Close()); err == nil { // else the next try goes on from there
			err = os.RemoveAll(state)
		}
	}()
	return u.Round(ctx).Err
}

// fits says whether the list in a store can be in force at this terminal's gates.
func (c *config) fits(store *listdb.Store, at time.Time) error {
	view, err := store.Current()
	if err != nil {
		return err
	}
	defer view.Release()
	m := view.Manifest()
	if at.Unix() > m.NotAfter.Unix() {
		return fmt.Errorf("its list has expired, on %s", written(m.NotAfter))
	}
	for _, l := range c.lanes() {
		if _, err := terminal.NewPlace(m.Venue, l.Gate.Name); err != nil {
			return err
		}
	}
	return nil
}
