package rules

import (
	"sort"
	"time"
)

// A day is named by a date, which is midnight UTC of it, and goes from where its
// local clocks show DayStarts to where those of the next day do: 24 hours, or
// about 23 or 25 where clocks are changed.

// Day returns the date of the day that t is on.
func (f *Facts) Day(t time.Time) (date time.Time) {
	y, m, d := t.In(f.location()).Date()
	date = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	if t.Before(f.starts(date)) {
		date = date.AddDate(0, 0, -1)
	}
	return date
}

func (f *Facts) starts(date time.Time) time.Time {
	return local(date.Add(f.DayStarts), f.location())
}

// today returns when clocks show h on the day of now. Where a day starts at
// 06:00, 02:00 is the one at its end.
func (f *Facts) today(h time.Duration) time.Time {
	date := f.Day(f.Now)
	if h < f.DayStarts {
		date = date.AddDate(0, 0, 1)
	}
	return local(date.Add(h), f.location())
}

// days counts the days on which entries are.
func (f *Facts) days(entries []time.Time) (n int64) {
	for ; len(entries) > 0; n++ {
		next := f.starts(f.Day(entries[0]).AddDate(0, 0, 1))
		entries = entries[max(1, firstFrom(entries, next)):]
	}
	return n
}

// firstFrom returns the index of the first entry at t or later.
func firstFrom(entries []time.Time, t time.Time) int {
	return sort.Search(len(entries), func(i int) bool { return !entries[i].Before(t) })
}

func (f *Facts) location() *time.Location {
	if f.Location == nil {
		return time.UTC
	}
	return f.Location
}

// local returns when clocks of loc show what those of UTC show at wall. What they
// show twice, when they are set back, is the first. What they skip, when they are
// set forward, is counted as if they had not been: half past two is half an hour
// after the change. time.Date says of neither which it returns.
func local(wall time.Time, loc *time.Location) time.Time {
	// Every zone is less than a day from UTC: a day away is on either side of the
	// moment, and of the one change that may be near it.
	offset := func(t time.Time) time.Duration {
		_, seconds := t.In(loc).Zone()
		return time.Duration(seconds) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	first, second := wall.Add(-before), wall.Add(-after)
	if offset(first) != before && offset(second) == after {
		return second
	}
	return first
}
