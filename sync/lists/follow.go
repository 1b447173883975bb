package lists

import (
	"context"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

// MaxBackoff is how long rounds pause at most after failures, unless a server asks
// for more or the interval is longer.
const MaxBackoff = 5 * time.Minute

// Follow makes a round at once, and then at the terminal's instant of each
// interval until ctx ends. It reports every round but the one that was broken off.
//
// The instant is fetch.Phase of the terminal's name: those of a fleet are spread
// over the interval, and stay so. After a failure rounds are left out: for a random
// time of up to the interval, twice that after each further one, up to MaxBackoff,
// and no less than a server asks for (Retry-After). So a hub that is broken is
// never asked more often than one that works. Two failures do not count: that of a
// source on this machine, where nothing is overrun; and a list that is refused, to
// ask for which again costs a hub what an unchanged one does.
func (u *Updater) Follow(ctx context.Context, report func(Round)) {
	failures := 0
	next := func(r Round) time.Time {
		from := time.Now()
		if u.hurts(r) {
			from = from.Add(max(u.backoff().Next(failures, u.cfg.Rand), fetch.RetryAfter(r.Err)))
			failures++
		} else {
			failures = 0
		}
		return fetch.Slot(from, u.cfg.Every, fetch.Phase(u.cfg.Terminal, u.cfg.Every))
	}
	for {
		r := u.round(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if r.Next.IsZero() { // another process held the lock, or nobody could
			r.Next = next(r)
		}
		report(r)
		if !u.wait(ctx, r.Next, failures == 0) {
			return
		}
	}
}

// wait waits for the next round, or until somebody who knows of a new list asks for one:
// not while a hub is in trouble. It says whether there is a next one.
func (u *Updater) wait(ctx context.Context, next time.Time, well bool) bool {
	wake := u.cfg.Wake
	if !well {
		wake = nil
	}
	wait := time.NewTimer(time.Until(next))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// hurts reports whether the next round would ask a hub in trouble again.
func (u *Updater) hurts(r Round) bool {
	return r.Err != nil && !r.Refused() && !strings.HasPrefix(u.cfg.From, "file:")
}

func (u *Updater) backoff() fetch.Backoff {
	return fetch.Backoff{Base: u.cfg.Every, Cap: max(MaxBackoff, u.cfg.Every)}
}
