package main

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// What the running agent does to its journal beside the gate: it deletes what is
// not kept, and signs what is. No tap waits for more than one step of it.

const (
	leastKept = 24 * time.Hour // less is a slip of the pen
	prunes    = 24 * time.Hour
	again     = time.Hour // after a deletion that failed
)

func (c *config) checkRecord() error {
	keep, endless := c.Journal.Keep.Duration, c.Journal.KeepEndless.Duration
	switch {
	case keep != 0 && keep < leastKept:
		return fmt.Errorf(`journal.keep is %v, want 24h or more, such as "720h" for 30 days; without it everything is kept`, keep)
	case endless != 0 && (keep == 0 || endless < keep):
		return fmt.Errorf("journal.keep_endless is %v, want journal.keep and no less than it, %v", endless, keep)
	case c.Journal.Checkpoint.Duration != 0 && c.Journal.Checkpoint.Duration < time.Second:
		return fmt.Errorf(`journal.checkpoint is %v, want at least 1s, or "0s" for none`, c.Journal.Checkpoint.Duration)
	}
	return nil
}

// describeRecord says what is kept, and what is signed.
func (c *config) describeRecord() string {
	kept := "every event is kept"
	if keep := c.Journal.Keep.Duration; keep > 0 {
		kept = fmt.Sprintf("events are deleted after %v, what was used of a ticket %v after its end", keep, keep)
		if endless := c.Journal.KeepEndless.Duration; endless > 0 {
			kept += fmt.Sprintf(" or, where it has none, %v after somebody last passed", endless)
		}
	}
	switch {
	case c.Checkpoint.Key == "":
		return kept + "; no checkpoints: checkpoint.key names no key to sign them with"
	case c.Journal.Checkpoint.Duration == 0:
		return kept + "; checkpoints are signed when somebody asks for one"
	}
	return fmt.Sprintf("%s; a checkpoint is signed every %v", kept, c.Journal.Checkpoint.Duration)
}

// deleteOld deletes old events, now and every day, until ctx ends. Nobody of the
// staff does it, and its record names nobody. Its clock is that of the lane: one
// that somebody sets on by a year deletes nothing. Behind the event that most says
// nothing goes: a hub has yet to acknowledge it.
func (c *config) deleteOld(ctx context.Context, log *slog.Logger, record *journal.Journal, clock func() time.Time, most func() uint64) {
	if c.Journal.Keep.Duration == 0 {
		return
	}
	for {
		next, now := prunes, clock()
		cutoff := now.Add(-c.Journal.Keep.Duration)
		n, err := record.Prune(ctx, cutoff, most(), c.over(now), terminal.Staff{})
		if n > 0 {
			log.Info("old events deleted", "events", n, "before", cutoff)
		}
		if err != nil && ctx.Err() == nil {
			log.Error("old events not deleted", "error", err)
			next = again
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return
		}
	}
}

// over is what nobody needs to know any more. A token stays, so that its number is
// not given again, and so does whoever is inside a shelter.
func (c *config) over(now time.Time) journal.Over {
	keep, endless := c.Journal.Keep.Duration, c.Journal.KeepEndless.Duration
	return func(u journal.Used) bool {
		switch {
		case terminal.TokenOf(u.Entitlement) > 0 || c.Gate.Mode == terminal.Muster && u.Inside > 0:
			return false
		case u.Until.IsZero():
			return endless > 0 && u.Last.Before(now.Add(-endless))
		}
		return u.Until.Before(now.Add(-keep))
	}
}

// checkpoints signs the head of the journal; it is nil without a key.
func (c *config) checkpoints(record *journal.Journal, key crypto.Signer, clock func() time.Time) func(context.Context) ([]byte, error) {
	if key == nil {
		return nil
	}
	return func(ctx context.Context) ([]byte, error) {
		return record.Checkpoint(ctx, clock(), key, c.Terminal, c.Scope)
	}
}

// signEvery signs a checkpoint at each interval, until ctx ends. The log has it
// whole, so that a log which is kept elsewhere keeps it.
func signEvery(ctx context.Context, log *slog.Logger, interval time.Duration, sign func(context.Context) ([]byte, error)) {
	if sign == nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if msg, err := sign(ctx); err == nil {
			log.Info("checkpoint signed", "checkpoint", base64.StdEncoding.EncodeToString(msg))
		} else if !errors.Is(err, context.Canceled) {
			log.Error("checkpoint not signed", "error", err)
		}
	}
}
