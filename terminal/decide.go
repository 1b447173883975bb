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
	Instant time.Time // the one instant of the tap, see instantOf
	Clock   time.Time // what the clock showed then
	Gate    string

	Holder cardauth.Holder // nobody until the card has proved itself
	Row    whitelist.Row   // the row of the holder's certificate

	// Uses has, for each entitlement of the row in order, the entries that
	// already stand.
	Uses []uint32

	List  whitelist.Manifest
	Floor time.Time // the latest time this terminal has ever recorded

	HolderCheck HolderCheck
	Attended    bool // staff or an integrator has confirmed the holder
}

// A Ruling is what Decide makes of the facts.
type Ruling struct {
	Verdict     Verdict
	Reason      Reason
	Entitlement string // the one that fits, or the first that does not
	Uses        uint32 // entries of it that stood
	Warnings    []Reason
}

// Decide folds the facts into a ruling. It is a pure function: the same facts
// give the same ruling, and facts that are missing deny.
//
// The order is: is it a holder at all; the row's status; whether time and
// list can be relied on, as the list's policy says; the entitlements; the
// comparison of the person with the card.
func Decide(f Facts) Ruling {
	if f.Holder.IsZero() {
		return Ruling{Reason: AuthFailed}
	}
	switch f.Row.Status {
	case whitelist.Active:
	case whitelist.Blocked:
		return Ruling{Reason: Blocked}
	case whitelist.CertificateRevoked:
		return Ruling{Reason: CertRevoked}
	default:
		return Ruling{Reason: Revoked}
	}

	var r Ruling
	attend := false
	for _, c := range conditions(f) {
		switch c.action {
		case whitelist.Warn:
			r.Warnings = append(r.Warnings, c.reason)
		case whitelist.Attend:
			r.Warnings = append(r.Warnings, c.reason)
			attend = true
		default:
			return Ruling{Reason: c.reason}
		}
	}

	entitled := fit(f)
	r.Reason, r.Entitlement, r.Uses = entitled.Reason, entitled.Entitlement, entitled.Uses
	switch {
	case entitled.Reason != OK:
		return r
	case f.Attended || !attend && f.HolderCheck == CheckNone:
		r.Verdict = Admit
	case f.HolderCheck != CheckNone: // also an unknown or missing value
		r.Verdict, r.Reason = Attend, ManualCheck
	default:
		r.Verdict, r.Reason = Attend, Attention
	}
	return r
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
func conditions(f Facts) []condition {
	var c []condition
	policy := f.List.Policy
	behind := f.Clock.Add(clockTolerance)
	if behind.Before(f.Floor) || behind.Before(f.List.IssuedAt) {
		c = append(c, condition{ClockUntrusted, policy.UntrustedClock})
	}
	if f.Instant.Unix() > f.List.NotAfter.Unix() { // the last second belongs to it
		c = append(c, condition{DataStale, policy.Expired})
	}
	if f.Instant.Sub(f.List.RevocationAsOf) > policy.RevocationMaxAge {
		c = append(c, condition{DataStale, policy.StaleRevocation})
	}
	return c
}

// fit returns the first entitlement that lets the holder through this gate
// now, else the reason why the first one does not.
func fit(f Facts) Ruling {
	first := Ruling{Reason: NotListed}
	for i, e := range f.Row.Entitlements {
		r := Ruling{Reason: OK, Entitlement: e.ID}
		if i < len(f.Uses) {
			r.Uses = f.Uses[i]
		}
		switch {
		case !e.NotBefore.IsZero() && f.Instant.Before(e.NotBefore),
			!e.NotAfter.IsZero() && f.Instant.Unix() > e.NotAfter.Unix(): // that second included
			r.Reason = InvalidTime
		case len(e.Gates) > 0 && !slices.Contains(e.Gates, f.Gate):
			r.Reason = WrongGate
		case i >= len(f.Uses), e.Uses > 0 && r.Uses >= e.Uses:
			r.Reason = AlreadyUsed
		}
		if r.Reason == OK {
			return r
		}
		if i == 0 {
			first = r
		}
	}
	return first
}
