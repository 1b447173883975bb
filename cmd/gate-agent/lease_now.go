package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// leaseNow fetches the lease of a terminal that has none in force, for a round by hand.
// It does nothing where one is, and where the scope key is in a file.
func (c *config) leaseNow(ctx context.Context, source *fetch.Source) (err error) {
	if !c.ScopeKey.Lease {
		return nil
	}
	_, _, err = c.storedLease(latestOf(time.Now(), c.memory.State().Seen))
	if !errors.Is(err, errNoLease) && !errors.Is(err, errLeaseEnded) {
		return err
	}
	if _, err := c.openDeliveryKey(); errors.Is(err, fs.ErrNotExist) {
		return cli.ConfigError{Err: fmt.Errorf("%w: there is no delivery key yet: run gate-agent key delivery", errNoScopeKey)}
	} else if err != nil {
		return err
	}
	if err := c.makeState(); err != nil {
		return cli.ConfigError{Err: fmt.Errorf("state: %w", err)}
	}
	// What a running agent has in memory it would write over what is written here: the
	// journal's lock says that none runs. And the journal knows the time.
	record, err := c.openJournal(time.Now)
	if errors.Is(err, journal.ErrInUse) {
		return cli.ConfigError{Err: fmt.Errorf("%w: the running agent fetches it from list.source; its log says what keeps it from that", errNoScopeKey)}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	if c.memory, err = command.OpenMemory(c.path(c.State)); err != nil {
		return err
	}
	at := latestOf(time.Now(), c.memory.State().Seen, record.Latest())
	answer, err := source.Get(ctx, lease.File(c.Terminal), lease.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the source has no lease for terminal %q yet: has the hub its delivery key (gate-hub terminal add --delivery)? %w", errNoScopeKey, c.Terminal, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoScopeKey, err)
	}
	list := newListSwitch()
	defer func() { err = errors.Join(err, list.Close()) }()
	k := leaseKeeper{c: c, log: slog.New(slog.DiscardHandler), list: list, at: func() time.Time { return at }}
	if err := k.take(answer.Body); err != nil {
		return cli.RefusedError{Err: fmt.Errorf("%w: %w", errLeaseRefused, err)}
	}
	return nil
}
