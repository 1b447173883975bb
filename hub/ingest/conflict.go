package ingest

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// DoubleEntry is the kind of a conflict in which more people came in by a ticket
// than it is for: at gates that did not know of each other.
const DoubleEntry = "double_entry"

// A Conflict is an entry that uses more than its ticket had left, and the entry
// before it that used it up.
type Conflict struct {
	Kind        string
	Entitlement string
	Zone        string
	People      uint32 // who came in beyond what the ticket is for
	InDoubt     bool   // of one of both nobody can tell whether they came in
	Entry       Passage
	Earlier     Passage
}

// A Passage is one entry.
type Passage struct {
	Terminal string
	Gate     string
	Seq      uint64 // of its reserve event
	At       time.Time
	People   uint32
}

// Tickets is what conflicts are judged by.
type Tickets interface {
	// Terms are the uses of a ticket, and who may come again; !ok when there is none
	// of that name.
	Terms(ctx context.Context, entitlement string) (e whitelist.Entitlement, ok bool, err error)
	// Day is the day of the venue that an instant is on, as a number.
	Day(at time.Time) int64
}

// Conflicts are the entries of a scope, from since on, that use more than their
// tickets had left. Whichever half of the events came first, they are the same:
// for each ticket and zone passages count in the order of their instants, then of
// terminal and number. unjudged is how many tickets were used more than once and
// are on no list of Tickets.
func (s *Store) Conflicts(ctx context.Context, scope string, since time.Time, tickets Tickets) (all []Conflict, unjudged int, err error) {
	rows, err := s.query(ctx, `SELECT p.entitlement, p.zone, p.at, p.way, p.state, p.people, p.passed, p.gate, p.seq, j.terminal
		FROM passages p JOIN journals j ON j.id = p.journal
		WHERE p.scope = ?1 AND p.state <> 3 AND p.entitlement IN (
			SELECT entitlement FROM passages WHERE scope = ?1 AND way = 0 AND state <> 3 AND entitlement <> '' GROUP BY entitlement, zone HAVING count(*) > 1)
		ORDER BY p.entitlement, p.zone, p.at, j.terminal, j.incarnation, p.seq`, scope)
	var f *fold
	finish := func() error {
		if f == nil {
			return nil
		}
		found, ok, err := f.conflicts(ctx, tickets)
		if err != nil {
			return fmt.Errorf("ticket %q: %w", f.entitlement, err)
		}
		if !ok {
			unjudged++
		}
		for _, c := range found {
			if !c.Entry.At.Before(since) {
				all = append(all, c)
			}
		}
		return nil
	}
	err = each(rows, err, func() error {
		var entitlement, zone string
		var p step
		var at, seq int64
		if err := rows.Scan(&entitlement, &zone, &at, &p.way, &p.state, &p.People, &p.passed, &p.Gate, &seq, &p.Terminal); err != nil {
			return err
		}
		if strings.HasPrefix(entitlement, whitelist.PersonPrefix) || strings.HasPrefix(entitlement, whitelist.TokenPrefix) {
			return nil // counted people, not tickets
		}
		p.At, p.Seq = fromMillis(at), uint64(seq)
		if f == nil || f.entitlement != entitlement || f.zone != zone {
			if err := finish(); err != nil {
				return err
			}
			f = &fold{entitlement: entitlement, zone: zone}
		}
		f.steps = append(f.steps, p)
		return nil
	})
	if err == nil {
		err = finish()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("looking for conflicts: %w", err)
	}
	return all, unjudged, nil
}

// A fold is the passages of one ticket in one zone, in order.
type fold struct {
	entitlement, zone string
	steps             []step
}

type step struct {
	Passage
	way, state int64
	passed     uint32
}

// conflicts counts as a gate does that has seen everything (docs/venue.md): of those
// who are in doubt the worst is that they came in, and that they did not go out.
func (f *fold) conflicts(ctx context.Context, tickets Tickets) (found []Conflict, ok bool, err error) {
	e, ok, err := tickets.Terms(ctx, f.entitlement)
	if err != nil || !ok {
		return nil, ok, err
	}
	var (
		party                 = e.Size()
		day                   = int64(math.MinInt64)
		inside, away          uint32
		used, today           uint64 // people who used something up
		earlier, earlierToday step
	)
	for _, s := range f.steps {
		people := s.People
		if d := tickets.Day(s.At); d != day {
			day, today, away, earlierToday = d, 0, 0, step{}
		}
		if s.way == exit {
			if s.state != committed {
				people = s.passed
			}
			left := min(people, inside)
			inside, away = inside-left, away+left
			continue
		}
		var free uint32
		switch e.ReEntry {
		case whitelist.ReEntryAfterExit:
			free = min(people, away)
		case whitelist.ReEntryAlways:
			free = uint32(min(uint64(people), today))
		}
		away -= min(free, away)
		inside = uint32(min(uint64(party), uint64(inside)+uint64(people)))
		uses := people - free
		if uses == 0 {
			continue
		}
		over, before := beyond(e.Uses, party, used, uses), earlier
		if o := beyond(e.UsesPerDay, party, today, uses); o > over {
			over, before = o, earlierToday
		}
		if over > 0 && before.People > 0 {
			found = append(found, Conflict{
				Kind: DoubleEntry, Entitlement: f.entitlement, Zone: f.zone, People: over,
				InDoubt: s.state != committed || before.state != committed, Entry: s.Passage, Earlier: before.Passage,
			})
		}
		used, today, earlier, earlierToday = used+uint64(uses), today+uint64(uses), s, s
	}
	return found, true, nil
}

// beyond is how many of the people who use something up do so beyond a number of
// uses; 0 uses are unlimited.
func beyond(uses, party uint32, used uint64, more uint32) uint32 {
	all := uint64(uses) * uint64(party)
	if uses == 0 || used+uint64(more) <= all {
		return 0
	}
	return uint32(min(uint64(more), used+uint64(more)-all))
}
