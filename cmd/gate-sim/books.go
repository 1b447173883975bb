package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What a gate has to answer is worked out here a second time, from the rules of
// the venue as people are told them and from who walked through the gates. It
// shares no code with the agent's decision and never looks into its journal: so
// the two cannot be wrong together.

// The late ticket admits by the venue's rule only after lateFrom.
const (
	dayTicket  = 1
	lateTicket = 2
	lateFrom   = 16 * time.Hour // after midnight

	lateRule = `{"or": [
		{"inList": [{"var": "product"}, {"objectList": [{"lookup": ["product", "1", "Day"]}]}]},
		{"isAfter": [{"var": "now"}, {"buildTime": ["customtime", "16:00"]}]}
	]}`
)

// A ticket is what somebody bought, with the simulator's books on it, in people.
type ticket struct {
	whitelist.Entitlement
	used    int // entries that used something up
	inside  int
	away    int // went out and may come back
	entered int // all entries
}

// A person comes with a card, and others may come with them.
type person struct {
	tickets []*ticket
	alone   bool             // the card lets in nobody but its holder
	status  whitelist.Status // of the row; 0 is not on the list
	kind    vcard.Kind
	image   *vcard.Image
	family  *family
}

// A family is people who share tickets. Whoever presents one of its cards is
// through before the next one does.
type family struct {
	beat int64
	at   *post
}

// An answer is what a correct gate does for a tap.
type answer struct {
	verdict terminal.Verdict
	reason  terminal.Reason
	people  int // who may pass
	ticket  *ticket
	again   int  // of the people, those who come back
	staff   bool // it asks staff first
}

func refused(why terminal.Reason) answer { return answer{verdict: terminal.Deny, reason: why} }

// enters is the answer to somebody who wants in.
func (p *person) enters(gate string, at time.Time) answer {
	switch p.status {
	case whitelist.Active:
	case whitelist.Blocked:
		return refused(terminal.Blocked)
	case whitelist.Revoked:
		return refused(terminal.Revoked)
	case whitelist.CertificateRevoked:
		return refused(terminal.CertRevoked)
	default:
		return refused(terminal.NotListed)
	}
	// The ticket whose time it is goes before others, and of two the one that
	// ends first. When none is good, the first says why.
	byTime := slices.Clone(p.tickets)
	slices.SortStableFunc(byTime, func(a, b *ticket) int {
		return cmp.Or(cmp.Compare(a.off(at), b.off(at)), a.end().Compare(b.end()))
	})
	var first *answer
	for _, t := range byTime {
		a := t.admits(gate, at, p.alone)
		if a.verdict == terminal.Admit {
			return a
		}
		if first == nil {
			first = &a
		}
	}
	return *first
}

// off is how far away the time of a ticket is.
func (t *ticket) off(at time.Time) time.Duration {
	switch {
	case at.Before(t.NotBefore):
		return t.NotBefore.Sub(at)
	case at.After(t.end()):
		return at.Sub(t.end())
	}
	return 0
}

func (t *ticket) end() time.Time {
	if t.NotAfter.IsZero() {
		return time.Unix(1<<40, 0)
	}
	return t.NotAfter
}

// admits is the answer by one ticket.
func (t *ticket) admits(gate string, at time.Time, alone bool) answer {
	switch {
	case t.off(at) > 0:
		return refused(terminal.InvalidTime)
	case len(t.Gates) > 0 && !slices.Contains(t.Gates, gate):
		return refused(terminal.WrongGate)
	case t.Product == lateTicket && !at.After(midnight(at).Add(lateFrom)):
		return refused(terminal.RulesDeny)
	}
	party := max(1, int(t.Party))
	come := party
	if alone {
		come = 1
	}
	again, unused := 0, come
	if t.Uses > 0 {
		unused = int(t.Uses)*party - t.used
	}
	if t.ReEntry == whitelist.ReEntryAfterExit {
		again = min(come, t.away)
		unused = min(unused, party-t.inside-again)
	}
	people := again + max(0, min(come-again, unused))
	if people == 0 {
		if t.ReEntry == whitelist.ReEntryAfterExit && t.inside > 0 {
			return refused(terminal.ExitRequired)
		}
		return refused(terminal.AlreadyUsed)
	}
	a := answer{terminal.Admit, terminal.OK, people, t, again, t.Attention}
	if t.used%party != 0 && again < people {
		a.reason = terminal.Party
	}
	return a
}

// leaves is the answer to somebody who wants out: it is always yes.
func (p *person) leaves() answer {
	if p.status == 0 {
		return refused(terminal.NotListed)
	}
	a := answer{terminal.Admit, terminal.Leaving, 1, p.tickets[0], 0, false}
	for _, t := range p.tickets {
		if t.inside > 0 {
			if a.ticket = t; !p.alone {
				a.people = t.inside
			}
			break
		}
	}
	return a
}

// entered writes down that so many of those who were let in went in.
func (a answer) entered(people int) {
	again := min(a.again, people)
	a.ticket.entered += people
	a.ticket.used += people - again
	a.ticket.inside += people
	a.ticket.away -= again
}

// left writes down that so many went out.
func (a answer) left(people int) {
	known := min(people, a.ticket.inside)
	a.ticket.inside -= known
	a.ticket.away += known
}

func midnight(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, t.Location())
}
