package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/whitelist"
)

// settings are what scope set changes of a scope, as a file has them.
// docs/hub.md describes every key.
type settings struct {
	Lifetime  duration `toml:"lifetime" json:"lifetime"`
	FirstUse  bool     `toml:"first_use" json:"first_use"`
	LeaseDays int      `toml:"lease_days" json:"lease_days"`

	Policy struct {
		Expired          action   `toml:"expired" json:"expired"`
		StaleRevocation  action   `toml:"stale_revocation" json:"stale_revocation"`
		UntrustedClock   action   `toml:"untrusted_clock" json:"untrusted_clock"`
		RevocationMaxAge duration `toml:"revocation_max_age" json:"revocation_max_age"`
	} `toml:"policy" json:"policy"`

	Venue struct {
		TimeZone  string     `toml:"time_zone,omitempty" json:"time_zone,omitempty"`
		DayStarts duration   `toml:"day_starts,omitempty" json:"day_starts"`
		Tolerance duration   `toml:"tolerance,omitempty" json:"tolerance"`
		From      *time.Time `toml:"from,omitempty" json:"from,omitempty"`
		To        *time.Time `toml:"to,omitempty" json:"to,omitempty"`
		Admission *time.Time `toml:"admission,omitempty" json:"admission,omitempty"`
		Postponed bool       `toml:"postponed,omitempty" json:"postponed"`
		Rules     string     `toml:"rules,omitempty" json:"rules,omitempty"`
		Zones     []zone     `toml:"zones,omitempty" json:"zones,omitempty"`
		Gates     []gate     `toml:"gates,omitempty" json:"gates,omitempty"`
		Products  []product  `toml:"products,omitempty" json:"products,omitempty"`
	} `toml:"venue,omitempty" json:"venue"`
}

type zone struct {
	Name         string       `toml:"name" json:"name"`
	AntiPassback antiPassback `toml:"anti_passback,omitempty" json:"anti_passback"`
	Forgets      duration     `toml:"forgets,omitempty" json:"forgets"`
	Away         away         `toml:"away,omitempty" json:"away"`
}

type gate struct {
	ID   uint32 `toml:"id" json:"id"`
	Name string `toml:"name" json:"name"`
	Zone string `toml:"zone,omitempty" json:"zone,omitempty"`
}

type product struct {
	ID        uint32 `toml:"id" json:"id"`
	Name      string `toml:"name" json:"name"`
	Postponed bool   `toml:"postponed,omitempty" json:"postponed,omitempty"`
}

// words of a small enumeration, from 0.
func fromWords[T ~uint8](text string, v *T, last T, word func(T) string) error {
	for w := T(0); w <= last; w++ {
		if word(w) == text {
			*v = w
			return nil
		}
	}
	var all []string
	for w := T(0); w <= last; w++ {
		all = append(all, word(w))
	}
	return fmt.Errorf("%q: want one of %q", text, all)
}

type action whitelist.Action

func (a action) MarshalText() ([]byte, error) { return []byte(whitelist.Action(a).String()), nil }
func (a *action) UnmarshalText(b []byte) error {
	return fromWords(string(b), (*whitelist.Action)(a), whitelist.Warn, whitelist.Action.String)
}

type antiPassback whitelist.AntiPassback

func (a antiPassback) MarshalText() ([]byte, error) {
	return []byte(whitelist.AntiPassback(a).String()), nil
}

func (a *antiPassback) UnmarshalText(b []byte) error {
	return fromWords(string(b), (*whitelist.AntiPassback)(a), whitelist.AntiPassbackHard, whitelist.AntiPassback.String)
}

type away whitelist.Away

func (a away) MarshalText() ([]byte, error) { return []byte(whitelist.Away(a).String()), nil }
func (a *away) UnmarshalText(b []byte) error {
	return fromWords(string(b), (*whitelist.Away)(a), whitelist.AwayDeny, whitelist.Away.String)
}

// usualSettings are those of a scope for which nobody said anything else: a list
// lasts a day, and staff looks when a gate has none that is younger.
func usualSettings() settings {
	var s settings
	s.Lifetime.Duration, s.LeaseDays = 24*time.Hour, 7
	s.Policy.Expired, s.Policy.StaleRevocation, s.Policy.UntrustedClock = action(whitelist.Attend), action(whitelist.Warn), action(whitelist.Deny)
	s.Policy.RevocationMaxAge.Duration = 72 * time.Hour
	return s
}

// settingsOf are those of a scope.
func settingsOf(s registry.Scope) settings {
	var out settings
	out.Lifetime.Duration, out.FirstUse, out.LeaseDays = s.Lifetime, s.FirstUse, s.LeaseDays
	p := s.Policy
	out.Policy.Expired, out.Policy.StaleRevocation, out.Policy.UntrustedClock = action(p.Expired), action(p.StaleRevocation), action(p.UntrustedClock)
	out.Policy.RevocationMaxAge.Duration = p.RevocationMaxAge
	v, w := s.Venue, &out.Venue
	w.TimeZone, w.Postponed, w.Rules = v.TimeZone, v.Postponed, v.Rules
	w.DayStarts.Duration, w.Tolerance.Duration = v.DayStarts, v.Tolerance
	w.From, w.To, w.Admission = someTime(v.From), someTime(v.To), someTime(v.Admission)
	for _, z := range v.Zones {
		w.Zones = append(w.Zones, zone{z.Name, antiPassback(z.AntiPassback), duration{z.Forgets}, away(z.Away)})
	}
	for _, g := range v.Gates {
		w.Gates = append(w.Gates, gate(g))
	}
	for _, p := range v.Products {
		w.Products = append(w.Products, product(p))
	}
	return out
}

// apply makes s what the settings say.
func (in settings) apply(s *registry.Scope) {
	s.Lifetime, s.FirstUse, s.LeaseDays = in.Lifetime.Duration, in.FirstUse, in.LeaseDays
	s.Policy = whitelist.Policy{
		Expired: whitelist.Action(in.Policy.Expired), StaleRevocation: whitelist.Action(in.Policy.StaleRevocation),
		UntrustedClock: whitelist.Action(in.Policy.UntrustedClock), RevocationMaxAge: in.Policy.RevocationMaxAge.Duration,
	}
	v := in.Venue
	s.Venue = whitelist.Venue{
		TimeZone: v.TimeZone, DayStarts: v.DayStarts.Duration, Tolerance: v.Tolerance.Duration,
		From: theTime(v.From), To: theTime(v.To), Admission: theTime(v.Admission), Postponed: v.Postponed, Rules: v.Rules,
	}
	for _, z := range v.Zones {
		s.Venue.Zones = append(s.Venue.Zones, whitelist.Zone{Name: z.Name, AntiPassback: whitelist.AntiPassback(z.AntiPassback), Forgets: z.Forgets.Duration, Away: whitelist.Away(z.Away)})
	}
	for _, g := range v.Gates {
		s.Venue.Gates = append(s.Venue.Gates, whitelist.Gate(g))
	}
	for _, p := range v.Products {
		s.Venue.Products = append(s.Venue.Products, whitelist.Product(p))
	}
}

func someTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func theTime(t *time.Time) time.Time { return cmp.Or(t, new(time.Time)).UTC() }

// readSettings reads a settings file over what holds without it.
func readSettings(text []byte, s *settings) error { return stricttoml.Decode(text, s) }
