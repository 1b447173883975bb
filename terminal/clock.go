package terminal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A clock remembers when the wall clock could last be relied on, and so notices
// that it was set while the lane runs.
//
//	right ──set by more than a minute──▶ jumped     the time goes on from before it was set
//	  ▲                                    │
//	  └──set back, or accepted by staff────┘
//
// A clock that stands behind what is recorded when it is first read is not right
// from the beginning: when it gets there it has been put right, and that is no jump.
type clock struct {
	mu      sync.Mutex
	known   bool
	behind  bool          // it was, and has not been put right yet
	wall    time.Time     // what it showed
	elapsed time.Duration // and how long the machine had been up
}

// A reading is what a clock shows, and what of it can be relied on.
type reading struct {
	shown  time.Time
	at     time.Time // shown or, where the clock was set, the time that goes on from before
	jumped bool
}

// read reads the clock of the lane.
func (l *Lane) read() reading {
	shown := l.Now()
	if l.Elapsed == nil {
		return reading{shown: shown, at: shown}
	}
	elapsed, floor := l.Elapsed(), l.Journal.Latest()
	c := &l.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	behind := shown.Add(clockTolerance).Before(floor)
	if !c.known || c.behind && !behind {
		c.known, c.behind, c.wall, c.elapsed = true, behind, shown, elapsed
	}
	at := c.wall.Add(elapsed - c.elapsed)
	if shown.Sub(at).Abs() <= clockTolerance {
		return reading{shown: shown, at: shown}
	}
	return reading{shown: shown, at: at, jumped: true}
}

// Time is what the clock shows or, where it was set while the lane runs, the time
// that goes on from before.
func (l *Lane) Time() time.Time { return l.read().at }

// Clock is what the clock shows, and whether it can be relied on.
func (l *Lane) Clock() (shown time.Time, trusted bool) {
	now, list := l.read(), whitelist.Manifest{}
	if view, err := l.List.Current(); err == nil {
		list = view.Manifest()
		view.Release()
	}
	return now.shown, !slices.ContainsFunc(conditions(list, now.at, now.shown, l.Journal.Latest(), now.jumped),
		func(c condition) bool { return c.reason == ClockUntrusted })
}

// AcceptClock says that the clock is right as it is, although it was set, or
// stands behind what is recorded: everything before counts as earlier. It takes
// a supervisor. The other lanes of the same journal are told by ClockAccepted.
func (l *Lane) AcceptClock(ctx context.Context, by Staff, note string) error {
	if err := by.May(Supervisor); err != nil {
		return err
	}
	if note == "" {
		return ErrNote
	}
	if err := l.Journal.AcceptClock(context.WithoutCancel(ctx), l.Now(), by, note); err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	l.ClockAccepted(ctx)
	return nil
}

// ClockAccepted takes the clock as it is: it was accepted at this lane or another
// one, and the journal has it.
func (l *Lane) ClockAccepted(ctx context.Context) {
	if l.Elapsed != nil {
		l.clock.mu.Lock()
		l.clock.known, l.clock.behind, l.clock.wall, l.clock.elapsed = true, false, l.Now(), l.Elapsed()
		l.clock.mu.Unlock()
	}
	l.look(ctx)
}
