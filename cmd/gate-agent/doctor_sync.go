package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/sync/lists"
)

const (
	roleEndsSoon = 7 * 24 * time.Hour // people with root keys have to come together first
	alarmIsNews  = 24 * time.Hour
)

// source finds out whether lists come by themselves. It asks nobody.
func (s *site) source() finding {
	source, err := s.c.openSource()
	switch {
	case err != nil:
		return bad("see docs/configuration.md, list.source", "%v", err)
	case source == nil:
		return fine("none: lists come by gate-agent list import")
	}
	source.Close()
	rounds, err := lists.ReadStatus(s.c.path(s.c.State))
	switch {
	case errors.Is(err, lists.ErrNoStatus):
		return warn("run gate-agent sync now, or start the agent", "%v", err)
	case err != nil:
		return unknown(err, "run this as the agent's user")
	}
	return s.judge(rounds)
}

// enrolment finds out whether a hub knows this terminal, as far as its certificate
// says. It asks nobody.
func (s *site) enrolment() finding {
	said := s.c.describeHub(s.now)
	if !s.c.Hub.Connect {
		return fine("%s", said)
	}
	if s.c.enrolled == nil {
		return warn("run gate-agent enrol with a token from gate-hub terminal token", "%s", said)
	}
	leaf := s.c.enrolled.Certificate
	key, err := s.c.openIdentity()
	if err == nil {
		err = enrol.Fits(leaf, key.Public())
	}
	switch {
	case err != nil:
		return bad("see the check keys; of another key: gate-hub terminal swap, and gate-agent enrol with its token", "%s; %v", said, err)
	case s.now.After(leaf.NotAfter):
		return bad("see whether network and hub are there, then run gate-agent enrol --renew", "%s", said)
	case s.now.After(enrol.RenewAt(leaf).Add(2 * renewSpread)):
		return warn("see whether network and hub are there, and why the agent does not renew it, then run gate-agent enrol --renew", "%s; it was to be renewed on %s", said, localTime(enrol.RenewAt(leaf)))
	}
	return fine("%s", said)
}

// judge says what is worst of what the rounds have come to.
func (s *site) judge(r lists.Status) finding {
	ago := func(t time.Time) time.Duration { return s.now.Sub(t).Truncate(time.Second) }
	contact := "the source was never reached"
	if !r.LastContact.IsZero() {
		contact = fmt.Sprintf("last contact %s, %v ago", localTime(r.LastContact), ago(r.LastContact))
	}
	left := r.RoleEnds.Sub(s.now).Truncate(time.Minute)
	f := r.Failure
	fails := f != nil && f.Until.IsZero()
	// What the agent may take its time for, and a round or two.
	quiet := 2 * (max(s.c.List.Every.Duration, lists.MaxBackoff) + s.c.List.Every.Duration)
	switch {
	case fails && f.Refused:
		return bad("ask whoever publishes the list; when it says that something is not valid now, set the clock", "%s; its list is refused since %s: %s", contact, localTime(f.Since), f.Error)
	case !r.RoleEnds.IsZero() && left < 0:
		return bad("the root keys have to sign a new delegation for the hub", "%s; the key of its list might sign until %s: no new list will be taken", contact, localTime(r.RoleEnds))
	case r.Alarm != nil && ago(r.Alarm.At) < alarmIsNews:
		return warn("look at the hub and at what is between: whoever publishes the list wants to know", "%s; ALARM at %s, list %d/%d: %s", contact, localTime(r.Alarm.At), r.Alarm.Epoch, r.Alarm.Seq, r.Alarm.Error)
	case fails:
		return warn("see whether network, hub or stick are there, then run gate-agent sync now", "%s; fails since %s, %d times: %s", contact, localTime(f.Since), f.Times, f.Error)
	case ago(r.LastRound) > quiet:
		return warn("start the agent, or run gate-agent sync now", "%s; nobody looked for %v", contact, ago(r.LastRound))
	case !r.RoleEnds.IsZero() && left < roleEndsSoon:
		return warn("the root keys have to sign a new delegation for the hub", "%s; the key of its list may sign for %v more", contact, left)
	}
	return fine("%s", contact)
}
