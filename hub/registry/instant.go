package registry

import (
	"errors"
	"fmt"
	"time"
)

// localTimes are how people and spreadsheets write a time of the venue.
var localTimes = []string{
	"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006/1/2 15:04:05", "2006/1/2 15:04",
}

// instant reads RFC 3339, or a local time of the venue's zone.
func (in *ticketFile) instant(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		if t.Nanosecond() != 0 {
			return time.Time{}, errors.New("write whole seconds")
		}
		return t.UTC(), nil
	}
	for _, layout := range localTimes {
		wall, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if wall.Nanosecond() != 0 {
			return time.Time{}, errors.New("write whole seconds")
		}
		if in.scope.Venue.TimeZone == "" {
			return time.Time{}, errors.New("a local time, and the venue has no time zone: write an offset, as in 2027-01-02T15:04:05+09:00")
		}
		return local(wall, in.zone)
	}
	return time.Time{}, errors.New("write a time as in 2027-01-02T15:04:05+09:00, or 2027-01-02 15:04 by the venue's clock")
}

// local is when clocks of a zone show what wall shows in UTC. When clocks change
// a time is missing, or comes twice.
func local(wall time.Time, zone *time.Location) (time.Time, error) {
	var found []time.Time
	_, offset := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone).Zone()
	// An offset in force within a day of it, of which there are one or two.
	offsets := []int{offset}
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		if _, o := wall.Add(near).In(zone).Zone(); o != offset {
			offsets = append(offsets, o)
		}
	}
	for _, o := range offsets {
		t := wall.Add(-time.Duration(o) * time.Second)
		if _, at := t.In(zone).Zone(); at == o && (len(found) == 0 || !found[0].Equal(t)) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return time.Time{}, fmt.Errorf("no clock in %s shows this time: they change there", zone)
	case 1:
		return found[0], nil
	}
	return time.Time{}, fmt.Errorf("clocks in %s show this time twice: write an offset, as in %s", zone, found[0].In(zone).Format(time.RFC3339))
}
