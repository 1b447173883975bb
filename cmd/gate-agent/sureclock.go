package main

import (
	"sync"
	"time"
)

// A sureClock tells the time that surely has passed: the latest of the wall clock,
// what is on record, and how long this process runs since the latest of those when it
// started. A clock that is set back, or a board that boots in 1970, gains nothing.
type sureClock struct {
	now     func() time.Time     // the wall clock, save where it jumped
	latest  func() time.Time     // greatest instant on record; it goes back when staff accepts a clock
	elapsed func() time.Duration // on a clock that nobody sets

	mu     sync.Mutex
	record time.Time // latest, when it was read last
	base   time.Time // sure when elapsed was since
	since  time.Duration
}

func newSureClock(seen time.Time, now, latest func() time.Time, elapsed func() time.Duration) *sureClock {
	c := &sureClock{now: now, latest: latest, elapsed: elapsed, record: latest(), since: elapsed()}
	c.base = latestOf(seen, now(), c.record)
	return c
}

// read is the time, and whether staff has accepted an earlier one since it was read
// last.
func (c *sureClock) read() (at time.Time, accepted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	record, elapsed := c.latest(), c.elapsed()
	if accepted = record.Before(c.record); accepted {
		c.base, c.since = latestOf(c.now(), record), elapsed
	}
	c.record = record
	return latestOf(c.now(), record, c.base.Add(elapsed-c.since)), accepted
}

func latestOf(all ...time.Time) (t time.Time) {
	for _, a := range all {
		if a.After(t) {
			t = a
		}
	}
	return t
}
