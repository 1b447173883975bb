package terminal

import (
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/whitelist"
)

// clockTolerance is how far the clock may stand behind what the terminal has
// already seen before it is distrusted: a correction by NTP is no attack.
const clockTolerance = time.Minute

// A HolderCheck says who compares the person with the card.
type HolderCheck string

// Holder checks. Whoever it is, the gate stays shut until they confirm.
const (
	CheckNone     HolderCheck = "none"
	CheckStaff    HolderCheck = "staff"
	CheckExternal HolderCheck = "external" // an integrator's face unit
)

// Facts are everything that a decision depends on.
type Facts struct {
	Instant   time.Time // the one instant of the tap, see instantOf
	Clock     time.Time // what the clock showed then
	Jumped    bool      // the clock was set while the lane ran
	Place     *Place    // nil: the list has no such gate
	Mode      Mode
	Direction Direction
	Counted   bool // a sensor will tell how many pass

	Holder  cardauth.Holder // nobody until the card has proved itself
	Vouched Staff           // who says whom they have before them, where there is no card
	Row     whitelist.Row   // the row of the holder's certificate

	// In mode Muster, where there may be no row: the card's pseudonym, and the
	// number that the person got before, or 0. Known says that they are counted by
	// the card already, whatever list there is now.
	CardID string
	Token  uint32
	Known  bool
	Again  bool // the same card came a moment ago

	// Histories has that of each entitlement of the row, in order; in mode Muster
	// that of the person alone.
	Histories []History

	List  whitelist.Manifest
	Floor time.Time // the latest time this terminal has ever recorded

	HolderCheck HolderCheck
	Attended    bool // staff or an integrator has confirmed the holder

	// Apart says that the venue's log cannot be asked: what its other gates did may
	// not be in the histories.
	Apart bool

	// Told is what they were told to look at, and Doubts the entries in doubt that
	// they decided on with it: their word is for nothing that came up since.
	Told   []Reason
	Doubts []Passage
}

// A Ruling is what Decide makes of the facts.
type Ruling struct {
	Verdict     Verdict
	Reason      Reason
	Entitlement string    // the one that fits, or the nearest that does not
	Until       time.Time // the end of the entitlement, zero when it has none
	Zone        string    // that people enter, or leave
	People      uint32    // who may pass, at least 1 when the verdict admits
	Reentry     uint32    // of them, those who use nothing up
	Seen        uint64    // last event of the entitlement's history
	Next        uint64    // number of a claim
	Used        Use       // where it was used, when that is why
	Warnings    []Reason
	Message     string    // of the entitlement, for staff
	Others      []Refusal // the row's other entitlements, when none fits
	Problem     error     // what cannot be judged, for the log

	// Doubts are reservations in doubt of which staff has said that nobody came
	// in for them, or that all went out: they are settled before this one is made.
	Doubts []Passage
}

// A Refusal is why an entitlement does not admit.
type Refusal struct {
	Entitlement string
	Reason      Reason
}

// Decide folds the facts into a ruling. It is a pure function: the same facts
// give the same ruling, and facts that are missing deny.
//
// The order is: is it a holder at all; whoever leaves may leave; the row's
// status; whether time and list can be relied on, as the list's policy says; the
// entitlements (see fit); the comparison of the person with the card.
func Decide(f Facts) Ruling { return judge(f, nil) }

func judge(f Facts, t *trail) Ruling {
	if f.Mode == Muster {
		return muster(f)
	}
	if t.check("holder", !f.Holder.IsZero() || f.Vouched.May(Supervisor) == nil || t.assumes(), "a card that has proved itself, or a supervisor") {
		return Ruling{Reason: AuthFailed}
	}
	if f.Direction == Exit {
		return leave(f, t)
	}
	if f.Place == nil {
		t.check("gate", false, "the list has no such gate")
		return Ruling{Reason: WrongGate, Problem: ErrUnknownGate}
	}
	if reason := ofStatus(f.Row.Status); t.check("status", reason == OK, "%v", f.Row.Status) {
		return Ruling{Reason: reason}
	}

	var warnings []Reason
	attend := false
	for _, c := range conditions(f.List, f.Instant, f.Clock, f.Floor, f.Jumped) {
		denied := c.action != whitelist.Warn && c.action != whitelist.Attend
		if t.check(string(c.reason), !denied, "the list's policy is %v", c.action) {
			return Ruling{Reason: c.reason}
		}
		warnings = append(warnings, c.reason)
		attend = attend || c.action == whitelist.Attend
	}

	r := fit(f, t)
	r.Warnings = append(warnings, r.Warnings...)
	if f.Apart && r.Verdict != Deny {
		away := f.Place.zone.Away
		if t.check("hub", away == whitelist.AwayAdmit || away == whitelist.AwayAttend, "cannot be asked; the zone's policy is %v", away) {
			return r.denied(HubAway)
		}
		r.Warnings = append(r.Warnings, HubAway)
		attend = attend || away == whitelist.AwayAttend
	}
	switch {
	case r.Verdict == Deny:
		return r
	case f.Attended && f.knew(r):
		r.Verdict = Admit
	case f.HolderCheck != CheckNone: // also an unknown or missing value
		r.Verdict, r.Reason = Attend, ManualCheck
	case attend || r.Verdict == Attend || f.Attended:
		r.Verdict, r.Reason = Attend, Attention
	}
	t.check("person", r.Verdict == Admit, "%s compares the person with the card", f.HolderCheck)
	return r
}

// knew reports whether whoever attended was told all that a ruling has to look at. That
// the hub is away may come up when they have answered: they had the person before them.
func (f Facts) knew(r Ruling) bool {
	for _, w := range r.Warnings {
		if w != HubAway && !slices.Contains(f.Told, w) {
			return false
		}
	}
	return !slices.ContainsFunc(r.Doubts, func(p Passage) bool {
		return !slices.ContainsFunc(f.Doubts, func(q Passage) bool { return p.Reservation == q.Reservation })
	})
}

// ofStatus is why a status denies, OK when it does not.
func ofStatus(s whitelist.Status) Reason {
	switch s {
	case whitelist.Active:
		return OK
	case whitelist.Blocked:
		return Blocked
	case whitelist.CertificateRevoked:
		return CertRevoked
	}
	return Revoked
}

// leave lets people out. Whoever has a card that proves itself may leave,
// whatever has become of their ticket, of the gate or of the list's age: a gate is
// no trap. The exit is that of the entitlement whose people are inside, else of
// the first.
func leave(f Facts, t *trail) Ruling {
	if f.Place == nil {
		f.Place = new(Place) // the venue itself, in UTC
	}
	if len(f.Row.Entitlements) == 0 || len(f.Histories) < len(f.Row.Entitlements) {
		return Ruling{Reason: NotListed}
	}
	chosen, people := 0, uint32(1)
	for i, e := range f.Row.Entitlements {
		inside := f.Place.count(e, f.Histories[i], f.Instant, true).Inside
		if inside > 0 {
			chosen = i
			if people = inside; e.Alone || !f.Counted {
				people = 1 // the rest may still be inside
			}
			break
		}
	}
	e := f.Row.Entitlements[chosen]
	t.check("exit", true, "%s: up to %d may leave", e.ID, people)
	return Ruling{
		Verdict: Admit, Reason: Leaving, Entitlement: e.ID, Until: e.NotAfter, Zone: f.Place.zone.Name, People: people,
		Seen: f.Histories[chosen].Last,
	}
}

// instantOf is the one instant that every check of a tap uses: what the clock
// shows, or the latest time that is certain to have passed where the clock is
// behind it. So a board that boots in 1970 finds no certificate that is not
// valid yet: that its clock is wrong is the list's policy to judge.
func instantOf(clock, floor time.Time, list whitelist.Manifest) time.Time {
	instant := clock
	for _, passed := range []time.Time{floor, list.IssuedAt} {
		if passed.After(instant) {
			instant = passed
		}
	}
	return instant
}

// A condition is something about time or list that the list's policy judges.
type condition struct {
	reason Reason
	action whitelist.Action
}

// conditions names what cannot be relied on at the instant.
func conditions(list whitelist.Manifest, instant, clock, floor time.Time, jumped bool) []condition {
	var c []condition
	policy := list.Policy
	behind := clock.Add(clockTolerance)
	if jumped || behind.Before(floor) || behind.Before(list.IssuedAt) {
		c = append(c, condition{ClockUntrusted, policy.UntrustedClock})
	}
	if instant.Unix() > list.NotAfter.Unix() { // the last second belongs to it
		c = append(c, condition{DataStale, policy.Expired})
	}
	if instant.Sub(list.RevocationAsOf) > policy.RevocationMaxAge {
		c = append(c, condition{DataStale, policy.StaleRevocation})
	}
	return c
}
