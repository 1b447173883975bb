package terminal_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// ruled is the hall under a rule.
func ruled(rule string) whitelist.Venue {
	v := hall
	v.Rules = rule
	return v
}

// passbacked is the hall, with something against handing a ticket back.
func passbacked(a whitelist.AntiPassback, forgets time.Duration) whitelist.Venue {
	v := hall
	v.Zones = []whitelist.Zone{{Name: "hall", AntiPassback: a, Forgets: forgets}, {Name: "lounge"}}
	return v
}

// An entry that staff had to look at is written later than its tap was: the
// history does not go up with time, and rules ask for the newest entry.
func TestRulesFindTheNewestEntryWhereverItIsWritten(t *testing.T) {
	since := func(clock string) whitelist.Venue {
		return ruled(`{"==": [{"entries_since": [{"buildTime": ["customtime", "` + clock + `"]}]}, 0]}`)
	}
	for clock, want := range map[string]terminal.Reason{"17:00": terminal.RulesDeny, "17:10": terminal.OK} {
		f := facts(t, whitelist.Entitlement{ID: "t"}, in(55*time.Minute, 1, 0), in(62*time.Minute, 1, 0)) // 17:05, then 16:58
		f.Place = place(t, since(clock), "gate-1")
		if r := terminal.Decide(f); r.Reason != want {
			t.Errorf("none since %s: %v %s, want %s", clock, r.Verdict, r.Reason, want)
		}
	}
}

// In the night when clocks are set back, and a day that begins in the hour which
// comes twice: one use a day is one, whoever counts it.
func TestDayOfUsesIsTheDayOfTheRules(t *testing.T) {
	v := hall
	v.TimeZone, v.DayStarts = "Europe/Berlin", 2*time.Hour+30*time.Minute
	now := time.Date(2026, 10, 25, 1, 10, 0, 0, time.UTC) // 2:10, for the second time; the day began at 2:30 for the first
	for _, c := range []struct {
		entered time.Time
		today   bool
	}{
		{time.Date(2026, 10, 25, 0, 29, 0, 0, time.UTC), false},
		{time.Date(2026, 10, 25, 0, 31, 0, 0, time.UTC), true},
		{time.Date(2026, 10, 25, 1, 5, 0, 0, time.UTC), true},
	} {
		for _, rule := range []string{"", `{"==": [{"var": "entries_today"}, 0]}`} {
			ticket, denies := whitelist.Entitlement{ID: "t", UsesPerDay: 1}, terminal.AlreadyUsed
			if rule != "" {
				ticket.UsesPerDay, denies = 0, terminal.RulesDeny
			}
			f := facts(t, ticket, terminal.Passage{At: c.entered, Zone: "hall", People: 1})
			v.Rules = rule
			f.Place, f.Instant, f.Clock, f.Floor = place(t, v, "gate-1"), now, now, now
			f.List.IssuedAt, f.List.NotAfter, f.List.RevocationAsOf = now.Add(-time.Hour), now.Add(time.Hour), now.Add(-time.Hour)
			want := terminal.OK
			if c.today {
				want = denies
			}
			if r := terminal.Decide(f); r.Reason != want {
				t.Errorf("in at %s, rule %q: %v %s, want %s", c.entered.Format("15:04"), rule, r.Verdict, r.Reason, want)
			}
		}
	}
}

// Somebody who left by a fire door and came in again is one person, and one exit
// takes them out.
func TestNoMoreAreInsideThanTheParty(t *testing.T) {
	one := whitelist.Entitlement{ID: "t"}
	left := []terminal.Passage{in(4*time.Hour, 1, 0), in(3*time.Hour, 1, 0), out(2*time.Hour, 1)}
	for name, v := range map[string]whitelist.Venue{
		"soft": passbacked(whitelist.AntiPassbackSoft, 0),
		"hard": passbacked(whitelist.AntiPassbackHard, 0),
		"rule": ruled(`{"==": [{"var": "entry_status"}, "absent"]}`),
	} {
		f := facts(t, one, left...)
		f.Place = place(t, v, "gate-1")
		if r := terminal.Decide(f); r.Verdict != terminal.Admit || r.Reason != terminal.OK {
			t.Errorf("%s: %v %s, warnings %v", name, r.Verdict, r.Reason, r.Warnings)
		}
		f = facts(t, one, left[:2]...)
		if f.Place = place(t, v, "gate-1"); terminal.Decide(f).Verdict == terminal.Admit {
			t.Errorf("%s: admitted who is inside", name)
		}
	}
	f := facts(t, one, left[:2]...)
	if f.Direction = terminal.Exit; terminal.Decide(f).People != 1 {
		t.Errorf("the exit opens for %d people", terminal.Decide(f).People)
	}
}

// The zone forgot the first of two before they left: it does not take the other
// one for outside.
func TestForgottenPersonWhoLeavesIsNotTheOther(t *testing.T) {
	f := facts(t, whitelist.Entitlement{ID: "t", Party: 2}, in(3*time.Hour, 1, 0), in(time.Hour, 1, 0), out(30*time.Minute, 1))
	f.Place = place(t, passbacked(whitelist.AntiPassbackHard, 2*time.Hour), "gate-1")
	if r := terminal.Decide(f); r.Verdict != terminal.Admit || r.People != 1 {
		t.Errorf("%v %s for %d people, want 1", r.Verdict, r.Reason, r.People)
	}
}

// Of two tickets the nearer is in doubt: the other one is good, and staff is not
// asked.
func TestDoubtDoesNotHideAGoodTicket(t *testing.T) {
	f := facts(t, whitelist.Entitlement{ID: "doubtful", Uses: 1, NotAfter: doors.Add(time.Hour)}, doubted(in(time.Hour, 1, 0), 0))
	f.Row.Entitlements = append(f.Row.Entitlements, whitelist.Entitlement{ID: "good", Uses: 1})
	f.Histories = append(f.Histories, terminal.History{})
	if r := terminal.Decide(f); r.Verdict != terminal.Admit || r.Entitlement != "good" || len(r.Doubts) != 0 {
		t.Errorf("%v %s by %s, unsettles %v", r.Verdict, r.Reason, r.Entitlement, r.Doubts)
	}
}

// An exit that nobody was seen to use lets nobody in again: while the gate is open
// it has not happened, and behind a stuck sensor it is for staff.
func TestExitEarnsNothingUntilSomebodyIsSeen(t *testing.T) {
	after := whitelist.Entitlement{ID: "t", Uses: 1, ReEntry: whitelist.ReEntryAfterExit}
	open := func(p terminal.Passage, passed uint32) terminal.Passage {
		p.Open, p.Passed = true, passed
		return p
	}
	for name, unsure := range map[string]func(terminal.Passage, uint32) terminal.Passage{"open": open, "in doubt": doubted} {
		unseen := func(reason terminal.Reason) []terminal.Reason {
			if name == "in doubt" {
				reason = terminal.Attention
			}
			return []terminal.Reason{reason, terminal.OK}
		}
		for seen, want := range unseen(terminal.ExitRequired) {
			r := terminal.Decide(facts(t, after, in(time.Hour, 1, 0), unsure(out(time.Minute, 1), uint32(seen))))
			if r.Reason != want {
				t.Errorf("re-entry, exit %s, %d seen: %v %s, want %s", name, seen, r.Verdict, r.Reason, want)
			}
		}
		for seen, want := range unseen(terminal.AlreadyInside) {
			f := facts(t, whitelist.Entitlement{ID: "t"}, in(time.Hour, 1, 0), unsure(out(time.Minute, 1), uint32(seen)))
			f.Place = place(t, passbacked(whitelist.AntiPassbackHard, 0), "gate-1")
			if r := terminal.Decide(f); r.Reason != want {
				t.Errorf("anti-passback, exit %s, %d seen: %v %s, want %s", name, seen, r.Verdict, r.Reason, want)
			}
		}
	}
}

// "Once a day" means the party: the fourth of four is no second entry.
func TestRestOfAPartyIsNoFurtherEntryToRules(t *testing.T) {
	v := ruled(`{"<": [{"var": "entries_today"}, 1]}`)
	for _, c := range []struct {
		name   string
		ticket whitelist.Entitlement
		inside uint32
		want   terminal.Reason
	}{
		{"the rest", whitelist.Entitlement{ID: "t", Party: 4}, 3, terminal.Party},
		{"a companion", whitelist.Entitlement{ID: "t", Party: 4, Alone: true}, 1, terminal.Party},
		{"all are in", whitelist.Entitlement{ID: "t", Party: 4}, 4, terminal.RulesDeny},
	} {
		f := facts(t, c.ticket, in(time.Hour, c.inside, 0))
		f.Place = place(t, v, "gate-1")
		if r := terminal.Decide(f); r.Reason != c.want {
			t.Errorf("%s: %v %s, want %s", c.name, r.Verdict, r.Reason, c.want)
		}
	}
}
