package main

import (
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A manifestDiff is one thing that two manifests say differently.
type manifestDiff struct {
	Field string `json:"field"`          // such as "policy.expired", "gate"
	Name  string `json:"name,omitempty"` // which gate, zone or product
	Was   string `json:"was,omitempty"`  // missing: it came
	Is    string `json:"is,omitempty"`   // missing: it went
}

func (m manifestDiff) text() string {
	text := m.Was + " → " + m.Is
	switch {
	case m.Was == "":
		text = "came: " + m.Is
	case m.Is == "":
		text = "went: " + m.Was
	}
	if m.Name != "" {
		text = fmt.Sprintf("%q %s", m.Name, text)
	}
	return text
}

// diffManifests compares what people can read of two lists, all but what says how to
// come by the rows.
func diffManifests(a, b whitelist.Manifest) []manifestDiff {
	all := []manifestDiff{}
	for _, f := range []struct {
		name string
		of   func(whitelist.Manifest) any
	}{
		{"scope", func(m whitelist.Manifest) any { return m.Scope }},
		{"hierarchy", func(m whitelist.Manifest) any { return m.Hierarchy }},
		{"epoch", func(m whitelist.Manifest) any { return m.Epoch }},
		{"seq", func(m whitelist.Manifest) any { return m.Seq }},
		{"issued_at", func(m whitelist.Manifest) any { return m.IssuedAt }},
		{"not_after", func(m whitelist.Manifest) any { return m.NotAfter }},
		{"revocation_as_of", func(m whitelist.Manifest) any { return m.RevocationAsOf }},
		{"rows", func(m whitelist.Manifest) any { return m.Rows }},
		{"policy.expired", func(m whitelist.Manifest) any { return m.Policy.Expired }},
		{"policy.stale_revocation", func(m whitelist.Manifest) any { return m.Policy.StaleRevocation }},
		{"policy.untrusted_clock", func(m whitelist.Manifest) any { return m.Policy.UntrustedClock }},
		{"policy.revocation_max_age", func(m whitelist.Manifest) any { return m.Policy.RevocationMaxAge }},
		{"venue.time_zone", func(m whitelist.Manifest) any { return m.Venue.TimeZone }},
		{"venue.day_starts", func(m whitelist.Manifest) any { return m.Venue.DayStarts }},
		{"venue.tolerance", func(m whitelist.Manifest) any { return m.Venue.Tolerance }},
		{"venue.from", func(m whitelist.Manifest) any { return m.Venue.From }},
		{"venue.to", func(m whitelist.Manifest) any { return m.Venue.To }},
		{"venue.admission", func(m whitelist.Manifest) any { return m.Venue.Admission }},
		{"venue.postponed", func(m whitelist.Manifest) any { return m.Venue.Postponed }},
		{"venue.rules", func(m whitelist.Manifest) any { return m.Venue.Rules }},
	} {
		if was, is := shownValue(f.of(a)), shownValue(f.of(b)); was != is {
			all = append(all, manifestDiff{Field: f.name, Was: was, Is: is})
		}
	}
	all = append(all, diffNamed("zone", a.Venue.Zones, b.Venue.Zones, func(z whitelist.Zone) (string, string) {
		return z.Name, fmt.Sprintf("anti-passback %s, forgets after %s, hub away %s", z.AntiPassback, shownValue(z.Forgets), z.Away)
	})...)
	all = append(all, diffNamed("gate", a.Venue.Gates, b.Venue.Gates, func(g whitelist.Gate) (string, string) {
		return g.Name, fmt.Sprintf("id %d, into %q", g.ID, g.Zone)
	})...)
	return append(all, diffNamed("product", a.Venue.Products, b.Venue.Products, func(p whitelist.Product) (string, string) {
		return fmt.Sprint(p.ID), fmt.Sprintf("%q, postponed: %v", p.Name, p.Postponed)
	})...)
}

// shownValue is a value for people, never empty.
func shownValue(v any) string {
	text := fmt.Sprint(v)
	if t, is := v.(time.Time); is {
		text = t.UTC().Format(time.RFC3339)
		if t.IsZero() {
			text = ""
		}
	}
	if text == "" {
		return "-"
	}
	return text
}

// diffNamed compares what two lists have of one kind, each by its name.
func diffNamed[T any](field string, a, b []T, of func(T) (name, text string)) (all []manifestDiff) {
	was := make(map[string]string)
	for _, t := range a {
		name, text := of(t)
		was[name] = text
	}
	is := make(map[string]bool)
	for _, t := range b {
		name, text := of(t)
		is[name] = true
		if was[name] != text {
			all = append(all, manifestDiff{field, name, was[name], text})
		}
	}
	for _, t := range a {
		if name, text := of(t); !is[name] {
			all = append(all, manifestDiff{Field: field, Name: name, Was: text})
		}
	}
	return all
}
