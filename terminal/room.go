package terminal

import (
	"math"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A Count is what the history of an entitlement comes to in one zone. All but
// Entries are numbers of people.
type Count struct {
	Inside    uint32      // came in and did not go out
	Used      uint32      // entries that used something up
	UsedToday uint32      // of them, those of this day
	Away      uint32      // went out on this day and did not come back
	Entries   []time.Time // when all of the party had come in once more, ascending
}

// count goes through the history of an entitlement. Of those who are in doubt the
// worst is that they came in, and that they did not go out; otherwise it is the
// other way round. Who is going out now has not: it would earn them another entry.
func (p *Place) count(e whitelist.Entitlement, h History, at time.Time, worst bool) Count {
	var c Count
	party := e.Size()
	today := p.day(at)
	var in stay
	var entered uint32
	for _, s := range h.Passages {
		if s.Zone != p.zone.Name {
			continue
		}
		people, reentry := s.People, s.Reentry
		if s.Doubt && worst != (s.Direction == Entry) || s.Open && s.Direction == Exit {
			people = s.Passed
			reentry = min(reentry, people)
		}
		if people == 0 {
			continue
		}
		isToday := p.day(s.At) == today
		if s.Direction == Exit {
			left := in.leave(people)
			if isToday {
				c.Away += left // who never came in has nothing to come back to
			}
			continue
		}
		for rounds := (entered + people) / party; rounds > entered/party; rounds-- {
			c.Entries = append(c.Entries, s.At)
		}
		entered += people
		c.Used += people - reentry
		if isToday {
			c.UsedToday += people - reentry
			c.Away = minus(c.Away, reentry)
		}
		in.come(s.At, people, party)
	}
	c.Inside = in.people(at, p.zone.Forgets)
	slices.SortFunc(c.Entries, time.Time.Compare)
	return c
}

// A stay is the people who are inside, in the order in which they came.
type stay []struct {
	since  time.Time
	people uint32
}

// come adds people. When there are more than the party has, the first to come
// have left unseen.
func (s *stay) come(at time.Time, people, party uint32) {
	*s = append(*s, stay{{at, people}}...)
	var all uint32
	for _, g := range *s {
		all += g.people
	}
	if all > party {
		s.leave(all - party)
	}
}

// leave takes people away, those who came first, and returns how many there were.
func (s *stay) leave(people uint32) (left uint32) {
	for len(*s) > 0 && left < people {
		g := &(*s)[0]
		n := min(g.people, people-left)
		g.people, left = g.people-n, left+n
		if g.people == 0 {
			*s = (*s)[1:]
		}
	}
	return left
}

// people counts those whom the zone has not forgotten; it forgets nobody when
// forgets is 0.
func (s stay) people(at time.Time, forgets time.Duration) (n uint32) {
	for _, g := range s {
		if forgets == 0 || at.Sub(g.since) <= forgets {
			n += g.people
		}
	}
	return n
}

// room is how many people an entitlement lets in now, and how many of them use
// nothing up. Where there is no room the reason says why.
//
//	none        every entry is a use
//	after_exit  whoever went out today comes back; nobody else while the party is inside
//	always      those who came in today come back, as often as they like
func room(e whitelist.Entitlement, c Count) (people, reentry uint32, reason Reason) {
	party := e.Size()
	ask := party
	if e.Alone {
		ask = 1
	}
	unused := min(left(e.Uses, party, c.Used), left(e.UsesPerDay, party, c.UsedToday))

	switch e.ReEntry {
	case whitelist.ReEntryAfterExit:
		reentry = min(ask, c.Away)
		unused = min(unused, minus(party, c.Inside+reentry))
	case whitelist.ReEntryAlways:
		reentry = min(ask, c.UsedToday)
	}
	people = reentry + min(ask-reentry, unused)
	switch {
	case people > 0:
		return people, reentry, OK
	case e.ReEntry == whitelist.ReEntryAfterExit && c.Inside > 0:
		return 0, 0, ExitRequired
	default:
		return 0, 0, AlreadyUsed
	}
}

// left is how many people a number of uses still admits; 0 uses are unlimited.
func left(uses, party, used uint32) uint32 {
	if uses == 0 {
		return math.MaxUint32
	}
	return uint32(min(math.MaxUint32, max(0, int64(uses)*int64(party)-int64(used))))
}

// minus is a - b, and 0 where b is greater.
func minus(a, b uint32) uint32 { return a - min(a, b) }
