package terminal

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/rules"
)

// fit finds the entitlement of the row that lets the holder in through this gate
// now: the nearest in time that fits. When none does, the reason is that of the
// nearest, and Others has those of the rest.
func fit(f Facts, t *trail) Ruling {
	var refused []Ruling
	var doubtful *Ruling // would admit, and there is something for staff to look at
	for _, i := range nearest(f) {
		if i >= len(f.Histories) {
			return Ruling{Reason: AlreadyUsed}
		}
		switch r := admit(f, i, t); {
		case r.Verdict == Deny:
			refused = append(refused, r)
		case len(r.Warnings) == 0:
			return r
		case doubtful == nil:
			doubtful = &r
		}
	}
	if doubtful != nil {
		return *doubtful
	}
	if len(refused) == 0 {
		return Ruling{Reason: NotListed}
	}
	r := refused[0]
	for _, other := range refused[1:] {
		r.Others = append(r.Others, Refusal{other.Entitlement, other.Reason})
	}
	return r
}

// nearest orders the row's entitlements: those whose time it is before others,
// by how far away theirs is; and of two the one whose time ends first, so that a
// ticket for today is used before a pass for the year.
func nearest(f Facts) []int {
	order := make([]int, len(f.Row.Entitlements))
	for i := range order {
		order[i] = i
	}
	away := func(i int) (gap, end int64) {
		from, to := f.window(f.Row.Entitlements[i])
		now := f.Instant.Unix()
		switch {
		case !from.IsZero() && now < from.Unix():
			gap = from.Unix() - now
		case !to.IsZero() && now > to.Unix():
			gap = now - to.Unix()
		}
		if end = 1<<62 - 1; !to.IsZero() {
			end = to.Unix()
		}
		return gap, end
	}
	slices.SortStableFunc(order, func(a, b int) int {
		gapA, endA := away(a)
		gapB, endB := away(b)
		return cmp.Or(cmp.Compare(gapA, gapB), cmp.Compare(endA, endB))
	})
	return order
}

// window is when an entitlement is valid, widened by the venue's tolerance;
// both seconds are included, and zero is open.
func (f Facts) window(e whitelist.Entitlement) (from, to time.Time) {
	from, to = e.NotBefore, e.NotAfter
	if !from.IsZero() {
		from = from.Add(-f.Place.venue.Tolerance)
	}
	if !to.IsZero() {
		to = to.Add(f.Place.venue.Tolerance)
	}
	return from, to
}

// admit is the ruling on one entitlement. The order of the checks is that of
// pretix's documentation (check-in algorithms): status, time, place, rules, what
// was used before.
func admit(f Facts, i int, t *trail) Ruling {
	e, h, p := f.Row.Entitlements[i], f.Histories[i], f.Place
	r := Ruling{Entitlement: e.ID, Until: e.NotAfter, Zone: p.zone.Name, Seen: h.Last, Next: h.Next, Message: e.Message}
	t.entitlement(e.ID)

	status := OK
	if e.Status != 0 {
		status = ofStatus(e.Status)
	}
	if t.check("status", status == OK, "%v", max(e.Status, whitelist.Active)) {
		return r.denied(status)
	}
	postponed := p.venue.Postponed || p.products[e.Product].Postponed
	if t.check("postponed", !postponed, "the event is postponed: %t", postponed) {
		return r.denied(InvalidTime)
	}
	from, to := f.window(e)
	inTime := (from.IsZero() || f.Instant.Unix() >= from.Unix()) && (to.IsZero() || f.Instant.Unix() <= to.Unix())
	if t.check("time", inTime, "valid %s to %s, tolerance included; now %s", p.stamp(from), p.stamp(to), p.stamp(f.Instant)) {
		return r.denied(InvalidTime)
	}
	here := len(e.Gates) == 0 && len(e.Zones) == 0 ||
		slices.Contains(e.Gates, p.gate.Name) || p.zone.Name != "" && slices.Contains(e.Zones, p.zone.Name)
	if t.check("place", here, "gate %s, zone %q; opens gates %q, zones %q", p.gate.Name, p.zone.Name, e.Gates, e.Zones) {
		return r.denied(WrongGate)
	}

	c := p.count(e, h, f.Instant, true)
	facts := p.ruleFacts(e, c, f.Instant)
	pass, err := p.rules.Evaluate(facts)
	if t.rules(p.rules, facts, pass, err) {
		r.Problem = err
		return r.denied(RulesDeny)
	}

	people, reentry, reason := enters(e, c, p.zone)
	t.check("uses", people > 0, "used %d, today %d, inside %d, away %d; allowed %s", c.Used, c.UsedToday, c.Inside, c.Away, terms(e))
	r.Verdict = Admit
	if reason != OK {
		r.Used = h.used(p.zone.Name)
	}
	if people == 0 && f.Apart && p.zone.Away < whitelist.AwayDeny && (reason == ExitRequired || reason == AlreadyInside) {
		// They may have left by a gate that cannot be asked: staff looks.
		c.Inside, c.Away = 0, c.Away+c.Inside
		people, reentry, _ = enters(e, c, p.zone)
		t.check("apart", people > 0, "if all have left by another gate; then %d may enter", people)
	}
	if people == 0 {
		for _, s := range h.Passages {
			if s.Doubt && s.Zone == p.zone.Name {
				r.Doubts = append(r.Doubts, s)
			}
		}
		if len(r.Doubts) == 0 {
			return r.denied(reason)
		}
		// Perhaps nobody came in, or everybody went out: staff asks.
		people, reentry, _ = enters(e, p.count(e, h, f.Instant, false), p.zone)
		if t.check("doubt", people > 0, "nobody can tell who passed; at best %d may enter", people) {
			return r.denied(reason)
		}
	}
	r.People, r.Reentry, r.Reason = people, reentry, OK
	if party := e.Size(); c.Used > 0 && reentry < people && c.Used%party != 0 {
		r.Reason = Party
	}
	if reason != OK { // staff is to look, and is told what at
		r.Verdict, r.Warnings = Attend, append(r.Warnings, reason)
	}
	if e.Attention {
		r.Verdict = Attend
	}
	t.check("attention", !e.Attention, "staff is to look: %t", e.Attention)
	return r
}

// denied is r, without what it would have let in.
func (r Ruling) denied(reason Reason) Ruling {
	r.Verdict, r.Reason, r.People, r.Reentry, r.Doubts = Deny, reason, 0, 0, nil
	return r
}

// enters is room, and what the zone makes of people who are inside already. People
// and a reason other than OK say that staff is to look.
func enters(e whitelist.Entitlement, c Count, zone whitelist.Zone) (people, reentry uint32, reason Reason) {
	if people, reentry, reason = room(e, c); people == 0 || zone.AntiPassback == whitelist.AntiPassbackOff {
		return people, reentry, reason
	}
	outside := minus(e.Size(), c.Inside)
	switch {
	case outside >= people:
		return people, reentry, reason
	case zone.AntiPassback == whitelist.AntiPassbackSoft:
		return people, reentry, AlreadyInside
	case outside == 0:
		return 0, 0, AlreadyInside
	}
	return outside, min(reentry, outside), reason
}

// ruleFacts is what the rules of the venue are told.
func (p *Place) ruleFacts(e whitelist.Entitlement, c Count, at time.Time) rules.Facts {
	return rules.Facts{
		Now: at, Location: p.location, DayStarts: p.venue.DayStarts,
		Product: e.Product, Variation: e.Variation, Gate: p.gate.ID,
		Inside: c.Inside >= e.Size(), Entries: c.Entries,
		From: p.venue.From, To: p.venue.To, Admission: p.venue.Admission,
	}
}

// A stamp is a time as people at the venue read it.
type stamp struct {
	t  time.Time
	in *time.Location
}

func (p *Place) stamp(t time.Time) stamp { return stamp{t, p.location} }

func (s stamp) String() string {
	if s.t.IsZero() {
		return "open"
	}
	return s.t.In(s.in).Format("2006-01-02 15:04:05")
}

// terms say how often and how many people an entitlement lets in.
type terms whitelist.Entitlement

func (e terms) String() string {
	text := "any number of uses"
	if e.Uses > 0 {
		text = fmt.Sprintf("%d in all", e.Uses)
	}
	if e.UsesPerDay > 0 {
		text += fmt.Sprintf(", %d a day", e.UsesPerDay)
	}
	if e.Party > 1 {
		text += fmt.Sprintf(", of %d people", e.Party)
	}
	return text + ", re-entry " + e.ReEntry.String()
}
