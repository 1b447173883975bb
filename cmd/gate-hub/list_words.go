package main

import (
	"fmt"
	"reflect"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/whitelist"
)

// changedSettings names what two lists say differently of policy, venue and time.
func changedSettings(from, to whitelist.Manifest) []string {
	all := []string{}
	if from.Seq == 0 {
		return all // the first list changes nothing
	}
	changed := func(name string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			all = append(all, name)
		}
	}
	changed("lifetime", from.NotAfter.Sub(from.IssuedAt), to.NotAfter.Sub(to.IssuedAt))
	changed("revocation_as_of", from.RevocationAsOf.Unix(), to.RevocationAsOf.Unix())
	changed("policy", from.Policy, to.Policy)
	a, b := from.Venue, to.Venue
	changed("venue.time_zone", a.TimeZone, b.TimeZone)
	changed("venue.day_starts", a.DayStarts, b.DayStarts)
	changed("venue.tolerance", a.Tolerance, b.Tolerance)
	changed("venue.from", a.From.Unix(), b.From.Unix())
	changed("venue.to", a.To.Unix(), b.To.Unix())
	changed("venue.admission", a.Admission.Unix(), b.Admission.Unix())
	changed("venue.postponed", a.Postponed, b.Postponed)
	changed("venue.rules", a.Rules, b.Rules)
	changed("venue.zones", fmt.Sprint(a.Zones), fmt.Sprint(b.Zones))
	changed("venue.gates", fmt.Sprint(a.Gates), fmt.Sprint(b.Gates))
	changed("venue.products", fmt.Sprint(a.Products), fmt.Sprint(b.Products))
	return all
}

// warnEnd says that a list outlasts the role of the key that signed it: terminals
// that come late to it refuse it.
func warnEnd(p *publisher, scope, hierarchy string, m whitelist.Manifest) (string, error) {
	until, err := p.Signers.MaySign(sign1.RoleList, registry.Scope{Name: scope, Hierarchy: hierarchy}, p.key.Public(), m.IssuedAt)
	if err != nil || until.IsZero() || !until.Before(m.NotAfter) {
		return "", err
	}
	return fmt.Sprintf("The role of the list key ends on %s, before this list (%s): have the root keys sign a new delegation.",
		until.Format(time.RFC3339), m.NotAfter.Format(time.RFC3339)), nil
}
