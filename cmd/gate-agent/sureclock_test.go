package main

import (
	"testing"
	"time"
)

// Time goes on, whatever is done to the clock; only staff, in the journal, sets it back.
func TestClockThatIsSetBackGainsNoTime(t *testing.T) {
	noon := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	wall, record, up := noon, noon.Add(-time.Hour), time.Duration(0)
	boot := func(seen time.Time) *sureClock {
		return newSureClock(seen, func() time.Time { return wall }, func() time.Time { return record }, func() time.Duration { return up })
	}
	c := boot(time.Time{})
	at := func(want time.Time, what string) {
		t.Helper()
		if got, _ := c.read(); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	at(noon, "started")
	wall, up = time.Unix(0, 0), time.Hour
	at(noon.Add(time.Hour), "set back")
	wall = noon.Add(3 * time.Hour)
	at(noon.Add(3*time.Hour), "set right")

	wall = time.Unix(0, 0)
	c = boot(noon.Add(2 * time.Hour))
	at(noon.Add(2*time.Hour), "boots in 1970")
	up += 30 * 24 * time.Hour
	at(noon.Add(2*time.Hour+30*24*time.Hour), "runs for a month in 1970")

	record = noon.Add(365 * 24 * time.Hour) // by a clock that was ahead
	at(record, "ahead")
	wall = noon.Add(5 * time.Hour)
	record = wall // a supervisor has looked, and accepted it
	if got, accepted := c.read(); !accepted || !got.Equal(wall) {
		t.Errorf("accepted: %s, %t", got, accepted)
	}
	up += time.Minute
	at(wall.Add(time.Minute), "goes on from there")
}
