package terminal_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// elsewhere is a passage at another gate.
func elsewhere(p terminal.Passage) terminal.Passage {
	p.Gate, p.Terminal = "gate-2", "gate-2-left"
	return p
}

func numbered(r terminal.Reservation, p terminal.Passage) terminal.Passage {
	p.Reservation = r
	return p
}

func TestTheVenuesHistory(t *testing.T) {
	a, b, c := numbered(1, in(3*time.Hour, 1, 0)), elsewhere(out(2*time.Hour, 1)), numbered(2, in(time.Hour, 1, 1))
	inDoubt := numbered(1, doubted(in(3*time.Hour, 4, 0), 2))
	for name, tc := range map[string]struct {
		own, log, want []terminal.Passage
	}{
		"alone":                         {[]terminal.Passage{a, c}, nil, []terminal.Passage{a, c}},
		"only elsewhere":                {nil, []terminal.Passage{b}, []terminal.Passage{b}},
		"in the order of the log":       {[]terminal.Passage{a, c}, []terminal.Passage{a, b, c}, []terminal.Passage{a, b, c}},
		"what is not told yet is last":  {[]terminal.Passage{a, c}, []terminal.Passage{a, b}, []terminal.Passage{a, b, c}},
		"told late":                     {[]terminal.Passage{a, c}, []terminal.Passage{b, c, a}, []terminal.Passage{b, c, a}},
		"the journal has the truth":     {[]terminal.Passage{inDoubt}, []terminal.Passage{a}, []terminal.Passage{inDoubt}},
		"annulled, and not settled yet": {nil, []terminal.Passage{a, b}, []terminal.Passage{b}},
	} {
		h := terminal.History{Last: 7, Passages: tc.own}.Merge(terminal.Log{Next: 4, Passages: tc.log})
		if !slices.Equal(h.Passages, tc.want) || h.Last != 7 || h.Next != 4 {
			t.Errorf("%s: %+v\nwant %+v", name, h, tc.want)
		}
	}
}

func TestARefusalTellsWhereTheTicketWasUsed(t *testing.T) {
	once := whitelist.Entitlement{ID: "t", Uses: 1}
	back := whitelist.Entitlement{ID: "t", Uses: 1, ReEntry: whitelist.ReEntryAfterExit}
	here := in(time.Hour, 1, 0)
	here.Gate = "gate-1"
	for _, tc := range []struct {
		of      whitelist.Entitlement
		history []terminal.Passage
		reason  terminal.Reason
		want    terminal.Use
	}{
		{once, []terminal.Passage{here}, terminal.AlreadyUsed, terminal.Use{Gate: "gate-1", At: here.At}},
		{once, []terminal.Passage{elsewhere(here)}, terminal.AlreadyUsed, terminal.Use{Gate: "gate-2", Terminal: "gate-2-left", At: here.At}},
		{back, []terminal.Passage{elsewhere(here)}, terminal.ExitRequired, terminal.Use{Gate: "gate-2", Terminal: "gate-2-left", At: here.At}},
		{once, []terminal.Passage{here, at("lounge", elsewhere(in(time.Minute, 1, 0)))}, terminal.AlreadyUsed, terminal.Use{Gate: "gate-1", At: here.At}},
		{once, nil, terminal.OK, terminal.Use{}},
		{back, []terminal.Passage{here, elsewhere(out(time.Minute, 1))}, terminal.OK, terminal.Use{}},
	} {
		r := terminal.Decide(facts(t, tc.of, tc.history...))
		if r.Reason != tc.reason || r.Used != tc.want {
			t.Errorf("%+v: %s, used %+v, want %s %+v", tc.history, r.Reason, r.Used, tc.reason, tc.want)
		}
	}
}

// What a gate does that cannot ask the others: for every policy, and whatever else the
// ticket has.
func TestPoliciesApart(t *testing.T) {
	const admit, attend, deny = terminal.Admit, terminal.Attend, terminal.Deny
	once := whitelist.Entitlement{ID: "t", Uses: 1}
	back := whitelist.Entitlement{ID: "t", Uses: 1, ReEntry: whitelist.ReEntryAfterExit}
	inside := []terminal.Passage{in(time.Hour, 1, 0)}
	away := func(a whitelist.Away, p whitelist.AntiPassback) whitelist.Venue {
		v := hall
		v.Zones = []whitelist.Zone{{Name: "hall", Away: a, AntiPassback: p}, {Name: "lounge"}}
		return v
	}
	for _, tc := range []struct {
		away     whitelist.Away
		passback whitelist.AntiPassback
		of       whitelist.Entitlement
		history  []terminal.Passage
		verdict  terminal.Verdict
		reason   terminal.Reason
		warnings string
	}{
		{whitelist.AwayAdmit, 0, once, nil, admit, terminal.OK, "[hub_away]"},
		{whitelist.AwayAttend, 0, once, nil, attend, terminal.Attention, "[hub_away]"},
		{whitelist.AwayDeny, 0, once, nil, deny, terminal.HubAway, "[]"},
		{whitelist.AwayDeny + 1, 0, once, nil, deny, terminal.HubAway, "[]"},
		{whitelist.AwayAdmit, 0, once, inside, deny, terminal.AlreadyUsed, "[]"},
		{whitelist.AwayDeny, 0, once, inside, deny, terminal.AlreadyUsed, "[]"},
		{whitelist.AwayAdmit, 0, back, inside, attend, terminal.Attention, "[exit_required hub_away]"},
		{whitelist.AwayDeny, 0, back, inside, deny, terminal.ExitRequired, "[]"},
		{whitelist.AwayAdmit, whitelist.AntiPassbackHard, whitelist.Entitlement{ID: "t"}, inside, attend, terminal.Attention, "[already_inside hub_away]"},
		{whitelist.AwayAdmit, 0, whitelist.Entitlement{ID: "t", Status: whitelist.Blocked}, nil, deny, terminal.Blocked, "[]"},
	} {
		f := facts(t, tc.of, slices.Clone(tc.history)...)
		f.Place, f.Apart = place(t, away(tc.away, tc.passback), "gate-1"), true
		r := terminal.Decide(f)
		if r.Verdict != tc.verdict || r.Reason != tc.reason || fmt.Sprint(r.Warnings) != tc.warnings {
			t.Errorf("%v, %v, %+v: %v %s %v, want %v %s %s", tc.away, tc.of.ReEntry, tc.history, r.Verdict, r.Reason, r.Warnings, tc.verdict, tc.reason, tc.warnings)
		}
		if r.Verdict == attend {
			f.Attended, f.Told, f.Doubts = true, r.Warnings, r.Doubts
			if r := terminal.Decide(f); r.Verdict != admit {
				t.Errorf("%v: staff lets them in, and it is %v %s", tc.away, r.Verdict, r.Reason)
			}
		}
		f.Attended, f.Direction = false, terminal.Exit
		if r := terminal.Decide(f); r.Verdict != admit {
			t.Errorf("%v: nobody gets out: %s", tc.away, r.Reason)
		}
	}
}
