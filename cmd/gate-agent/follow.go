package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// How lists come to a running agent by themselves.

// openUpdater opens what brings lists from the source. The store has made the
// state folder.
func (c *config) openUpdater(source *fetch.Source, store lists.Store, now func() time.Time, tell func(lists.Progress), wake <-chan struct{}) (*lists.Updater, error) {
	u, err := lists.Open(lists.Config{
		Source: source, From: c.sourceOf(), Store: store, State: c.path(c.State),
		Terminal: c.Terminal, Every: c.List.Every.Duration, Now: now, Tell: tell, Wake: wake,
	})
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return u, nil
}

// followLists brings lists until ctx ends, and at once when wake says so; source may be nil.
func (c *config) followLists(ctx context.Context, log *slog.Logger, source *fetch.Source, store lists.Store, now func() time.Time, wake <-chan struct{}) (follow func(), err error) {
	if source == nil {
		return func() {}, nil
	}
	u, err := c.openUpdater(source, store, now, nil, wake)
	if err != nil {
		return nil, err
	}
	return func() {
		u.Follow(ctx, tellRounds(log))
		if err := u.Close(); err != nil {
			log.Warn("source of lists not closed", "error", err)
		}
	}, nil
}

// tellRounds tells the operator what is new: a stick that nobody puts in is told
// once. Which list is in force tells watchList, whoever brought it.
func tellRounds(log *slog.Logger) func(lists.Round) {
	failed, alarmed := "", ""
	return func(r lists.Round) {
		if r.Alarm == nil {
			alarmed = ""
		} else if r.Alarm.Error() != alarmed {
			alarmed = r.Alarm.Error()
			log.Error("ALARM: files of the source lead to other rows than are signed", "epoch", r.Manifest.Epoch, "seq", r.Manifest.Seq, "error", r.Alarm)
		}
		if r.Came != "" && r.Detour != nil && r.Alarm == nil {
			log.Warn("snapshot taken in the place of deltas", "because", r.Detour)
		}
		switch {
		case r.Err == nil && failed != "":
			failed = ""
			log.Info("source of lists works again")
		case r.Err != nil && r.Err.Error() != failed:
			failed = r.Err.Error()
			said := "list not taken over"
			if r.Came != "" {
				said = "list taken over, and the round not recorded"
			}
			log.Warn(said, "error", r.Err, "refused", r.Refused(), "next", r.Next)
		}
		if r.Came != "" {
			log.Info("list brought", "by", string(r.Came), "epoch", r.Manifest.Epoch, "seq", r.Manifest.Seq, "deltas", r.Deltas, "bytes", r.Received)
		}
	}
}

// A lull is how long no lane has decided anything.
type lull struct {
	begun time.Time
	last  atomic.Int64 // nanoseconds after begun
}

func newLull() *lull { return &lull{begun: time.Now()} }

// end says that a lane has just decided.
func (l *lull) end() { l.last.Store(int64(time.Since(l.begun))) }

// length is how long it goes on already, by a clock that nobody sets.
func (l *lull) length() time.Duration {
	return time.Since(l.begun) - time.Duration(l.last.Load())
}

// When the list store is tidied up: after so long without a tap, looked at so often.
// Nobody knows whether people are about to come; that none came for a while is the
// best sign there is. Taps go on meanwhile, if slower.
const (
	idleAfter   = 2 * time.Minute
	lookForIdle = 15 * time.Second
)

// A merger is a list store that can be tidied up.
type merger interface {
	Merge(ctx context.Context, force bool) (merged bool, err error)
}

// mergeWhenIdle writes what deltas have left behind into one file when that is due
// and nobody comes, until ctx ends.
func mergeWhenIdle(ctx context.Context, log *slog.Logger, store merger, quiet *lull) {
	tick := time.NewTicker(lookForIdle)
	defer tick.Stop()
	for last := ""; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if quiet.length() < idleAfter {
			continue
		}
		merged, err := store.Merge(ctx, false)
		switch {
		case ctx.Err() != nil || errors.Is(err, listdb.ErrNoList) || errors.Is(err, errNoScopeKey):
		case err == nil:
			last = ""
			if merged {
				log.Info("list written anew, its deltas included")
			}
		case err.Error() != last:
			last = err.Error()
			log.Warn("list not written anew", "error", err)
		}
	}
}
