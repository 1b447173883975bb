package journal

import (
	"context"
	"fmt"
	"time"
)

// A Zone is how many people went into one and out of it.
type Zone struct {
	Name    string
	Entered uint64
	Left    uint64
	// Doubtful are those of reservations that are open or in doubt, beyond the
	// people who were seen: nobody knows whether they passed.
	Doubtful uint64
}

// Inside is how many people are known to be in the zone.
func (z Zone) Inside() uint64 { return z.Entered - min(z.Entered, z.Left) }

// Occupancy counts the people in each zone whose passages began at an instant
// or later, such as the begin of the day: who left without a card, or before,
// is then no longer counted. The zero time counts all. It reads the passages
// since then through an index, and no event.
func (r *Reader) Occupancy(ctx context.Context, since time.Time) ([]Zone, error) {
	const doing = "counting people"
	if r.version < schemaVersion {
		return nil, fail(r.path, doing, ErrOlder)
	}
	var zones []Zone
	err := each(ctx, r.db, occupancySince, func(scan scanner) error {
		var z Zone
		if err := scan(&z.Name, &z.Entered, &z.Left, &z.Doubtful); err != nil {
			return err
		}
		zones = append(zones, z)
		return nil
	}, millis(since))
	if err != nil {
		return nil, fail(r.path, doing, err)
	}
	return zones, nil
}

const occupancySince = `SELECT zone,
		sum(CASE WHEN direction = 0 AND state <> 3 THEN passed ELSE 0 END),
		sum(CASE WHEN direction = 1 AND state <> 3 THEN passed ELSE 0 END),
		sum(CASE WHEN state IN (1, 4) THEN people - passed ELSE 0 END)
	FROM passages WHERE at >= ? GROUP BY zone ORDER BY zone`

// maxSteps bounds what Rate answers: a day of seconds fits.
const maxSteps = 100_000

// Rate counts the people who entered, in steps from since until before until;
// the last step may be shorter. It counts committed entries at the instant of
// their tap, through an index, and reads no event.
func (r *Reader) Rate(ctx context.Context, since, until time.Time, step time.Duration) ([]uint64, error) {
	const doing = "counting entries"
	if r.version < schemaVersion {
		return nil, fail(r.path, doing, ErrOlder)
	}
	from, to, width := since.UnixMilli(), until.UnixMilli(), step.Milliseconds()
	if width <= 0 || to < from || (to-from)/width >= maxSteps {
		return nil, fail(r.path, doing, fmt.Errorf("%s to %s in steps of %s: want steps of 1 ms or more, %d at most",
			since.Format(time.RFC3339), until.Format(time.RFC3339), step, maxSteps))
	}
	people := make([]uint64, (to-from+width-1)/width)
	err := each(ctx, r.db, rateOf, func(scan scanner) error {
		var i int
		var n uint64
		if err := scan(&i, &n); err != nil {
			return err
		}
		people[i] = n
		return nil
	}, from, to, width)
	if err != nil {
		return nil, fail(r.path, doing, err)
	}
	return people, nil
}

const rateOf = `SELECT (at - ?1) / ?3, sum(people) FROM passages
	WHERE at >= ?1 AND at < ?2 AND state = 2 AND direction = 0 GROUP BY 1`

// millis is an instant of the index; the zero time is before all of them.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1 << 62
	}
	return t.UnixMilli()
}
