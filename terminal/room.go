package terminal

import (
	"math"
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
	Entries   []time.Time // when people came in, together or alone
}

// count goes through a history. Of those who are in doubt the worst is that they
// came in, and that they did not go out; otherwise it is the other way round.
func (p *Place) count(h History, at time.Time, worst bool) Count {
	var c Count
	in := uint32(0) // Inside, were nobody forgotten
	today := p.day(at)
	for _, s := range h.Passages {
		if s.Zone != p.zone.Name {
			continue
		}
		people, reentry := s.People, s.Reentry
		if s.Doubt && worst != (s.Direction == Entry) {
			people = s.Passed
			reentry = min(reentry, people)
		}
		if people == 0 {
			continue
		}
		isToday := p.day(s.At) == today
		remembered := p.zone.Forgets == 0 || at.Sub(s.At) <= p.zone.Forgets
		if s.Direction == Exit {
			if isToday {
				c.Away += min(people, in) // who never came in has nothing to come back to
			}
			c.Inside, in = less(c.Inside, people), less(in, people)
			continue
		}
		c.Entries = append(c.Entries, s.At)
		c.Used += people - reentry
		in += people
		if isToday {
			c.UsedToday += people - reentry
			c.Away = less(c.Away, reentry)
		}
		if remembered {
			c.Inside += people
		}
	}
	return c
}

// room is how many people an entitlement lets in now, and how many of them use
// nothing up. Where there is no room the reason says why.
//
//	none        every entry is a use
//	after_exit  whoever went out today comes back; nobody else while the party is inside
//	always      those who came in today come back, as often as they like
func room(e whitelist.Entitlement, c Count) (people, reentry uint32, reason Reason) {
	party := max(1, e.Party)
	ask := party
	if e.Alone {
		ask = 1
	}
	unused := min(left(e.Uses, party, c.Used), left(e.UsesPerDay, party, c.UsedToday))

	switch e.ReEntry {
	case whitelist.ReEntryAfterExit:
		reentry = min(ask, c.Away)
		unused = min(unused, less(party, c.Inside+reentry))
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

// less is a - b, and 0 where b is greater.
func less(a, b uint32) uint32 { return a - min(a, b) }
