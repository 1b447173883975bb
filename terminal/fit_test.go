package terminal_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// The hall of these tests: an evening in Tokyo, with a lounge inside the hall.
var (
	tokyo = time.FixedZone("JST", 9*60*60)
	doors = time.Date(2026, 11, 23, 18, 0, 0, 0, tokyo)
	hall  = whitelist.Venue{
		TimeZone: "Asia/Tokyo", DayStarts: 5 * time.Hour,
		Zones: []whitelist.Zone{{Name: "hall"}, {Name: "lounge"}},
		Gates: []whitelist.Gate{
			{ID: 1, Name: "gate-1", Zone: "hall"}, {ID: 2, Name: "gate-2", Zone: "hall"},
			{ID: 3, Name: "lounge-door", Zone: "lounge"}, {ID: 4, Name: "street"},
		},
		Products: []whitelist.Product{{ID: 1, Name: "day"}, {ID: 2, Name: "later", Postponed: true}},
	}
)

// in and out are passages of the hall, some time before the doors.
func in(before time.Duration, people, reentry uint32) terminal.Passage {
	return terminal.Passage{At: doors.Add(-before), Zone: "hall", People: people, Reentry: reentry}
}

func out(before time.Duration, people uint32) terminal.Passage {
	return terminal.Passage{At: doors.Add(-before), Zone: "hall", Direction: terminal.Exit, People: people}
}

func doubted(p terminal.Passage, passed uint32) terminal.Passage {
	p.Doubt, p.Passed = true, passed
	return p
}

func at(zone string, p terminal.Passage) terminal.Passage {
	p.Zone = zone
	return p
}

// facts are those of somebody at the doors of gate-1 with one entitlement.
func facts(t testing.TB, e whitelist.Entitlement, history ...terminal.Passage) terminal.Facts {
	t.Helper()
	for i := range history {
		history[i].Reservation = terminal.Reservation(i + 1)
	}
	return terminal.Facts{
		Instant: doors, Clock: doors, Floor: doors, Place: place(t, hall, "gate-1"), Counted: true,
		Holder:    aHolder(t),
		Row:       whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{e}},
		Histories: []terminal.History{{Last: uint64(len(history)), Passages: history}},
		List: whitelist.Manifest{
			IssuedAt: doors.Add(-time.Hour), NotAfter: doors.Add(48 * time.Hour), RevocationAsOf: doors.Add(-time.Hour),
			Policy: whitelist.Policy{RevocationMaxAge: 24 * time.Hour},
		},
		HolderCheck: terminal.CheckNone,
	}
}

func TestEntitlements(t *testing.T) {
	const none, afterExit, always = whitelist.ReEntryNone, whitelist.ReEntryAfterExit, whitelist.ReEntryAlways
	const h = time.Hour
	type history = []terminal.Passage
	one := whitelist.Entitlement{ID: "t", Uses: 1}
	with := func(change func(*whitelist.Entitlement)) whitelist.Entitlement {
		e := one
		change(&e)
		return e
	}
	reenters := func(r whitelist.ReEntry, uses, perDay uint32) whitelist.Entitlement {
		return whitelist.Entitlement{ID: "t", ReEntry: r, Uses: uses, UsesPerDay: perDay}
	}
	party := func(r whitelist.ReEntry, n uint32) whitelist.Entitlement {
		return whitelist.Entitlement{ID: "t", ReEntry: r, Uses: 1, Party: n}
	}
	companion := func(n uint32) whitelist.Entitlement {
		return whitelist.Entitlement{ID: "t", Uses: 1, Party: n, Alone: true}
	}

	for _, c := range []struct {
		name    string
		ticket  whitelist.Entitlement
		history history
		reason  terminal.Reason
		people  uint32
		reentry uint32
	}{
		// Uses.
		{"first entry", one, nil, terminal.OK, 1, 0},
		{"second entry", one, history{in(h, 1, 0)}, terminal.AlreadyUsed, 0, 0},
		{"second entry after an exit", one, history{in(2*h, 1, 0), out(h, 1)}, terminal.AlreadyUsed, 0, 0},
		{"only an exit so far", one, history{out(h, 1)}, terminal.OK, 1, 0},
		{"another zone is counted apart", one, history{at("lounge", in(h, 1, 0))}, terminal.OK, 1, 0},
		{"three uses, two used", reenters(none, 3, 0), history{in(3*h, 1, 0), in(2*h, 1, 0)}, terminal.OK, 1, 0},
		{"three uses, used up", reenters(none, 3, 0), history{in(3*h, 1, 0), in(2*h, 1, 0), in(h, 1, 0)}, terminal.AlreadyUsed, 0, 0},
		{"one a day, used today", reenters(none, 0, 1), history{in(h, 1, 0)}, terminal.AlreadyUsed, 0, 0},
		{"one a day, used yesterday", reenters(none, 0, 1), history{in(24*h, 1, 0)}, terminal.OK, 1, 0},
		{"the night belongs to the day before: 4:00 was yesterday", reenters(none, 0, 1), history{in(14*h, 1, 0)}, terminal.OK, 1, 0},
		{"the day begins at 5:00", reenters(none, 0, 1), history{in(13*h, 1, 0)}, terminal.AlreadyUsed, 0, 0},
		{"one a day, three in all, all used", reenters(none, 3, 1), history{in(72*h, 1, 0), in(48*h, 1, 0), in(24*h, 1, 0)}, terminal.AlreadyUsed, 0, 0},
		{"no limit", reenters(none, 0, 0), history{in(2*h, 1, 0), in(h, 1, 0)}, terminal.OK, 1, 0},

		// Re-entry.
		{"back after an exit", reenters(afterExit, 1, 0), history{in(2*h, 1, 0), out(h, 1)}, terminal.OK, 1, 1},
		{"in again without an exit", reenters(afterExit, 1, 0), history{in(h, 1, 0)}, terminal.ExitRequired, 0, 0},
		{"in again without an exit, uses left", reenters(afterExit, 5, 0), history{in(h, 1, 0)}, terminal.ExitRequired, 0, 0},
		{"out, back, and in again", reenters(afterExit, 1, 0), history{in(3*h, 1, 0), out(2*h, 1), in(h, 1, 1)}, terminal.ExitRequired, 0, 0},
		{"out, back, out, and back", reenters(afterExit, 1, 0), history{in(4*h, 1, 0), out(3*h, 1), in(2*h, 1, 1), out(h, 1)}, terminal.OK, 1, 1},
		{"a re-entry uses nothing up", reenters(afterExit, 2, 0), history{in(3*h, 1, 0), out(2*h, 1), in(h, 1, 1), out(h/2, 1)}, terminal.OK, 1, 1},
		{"back on the next day", reenters(afterExit, 1, 0), history{in(25*h, 1, 0), out(24*h, 1)}, terminal.AlreadyUsed, 0, 0},
		{"the next day takes a use", reenters(afterExit, 2, 0), history{in(25*h, 1, 0), out(24*h, 1)}, terminal.OK, 1, 0},
		{"out past midnight, back past midnight", reenters(afterExit, 1, 0), history{in(11*h, 1, 0), out(10*h, 1)}, terminal.OK, 1, 1},
		{"an exit without an entry earns nothing", reenters(afterExit, 1, 0), history{out(3*h, 1), in(2*h, 1, 0)}, terminal.ExitRequired, 0, 0},
		{"always: in again", reenters(always, 1, 0), history{in(h, 1, 0)}, terminal.OK, 1, 1},
		{"always: the next day", reenters(always, 1, 0), history{in(24*h, 1, 0)}, terminal.AlreadyUsed, 0, 0},

		// Parties.
		{"all of a party", party(none, 4), nil, terminal.OK, 4, 0},
		{"the rest of a party", party(none, 4), history{in(h, 3, 0)}, terminal.Party, 1, 0},
		{"all of a party are in", party(none, 4), history{in(h, 3, 0), in(h/2, 1, 0)}, terminal.AlreadyUsed, 0, 0},
		{"a companion", companion(4), nil, terminal.OK, 1, 0},
		{"a companion after the buyer and one more", companion(4), history{in(h, 2, 0)}, terminal.Party, 1, 0},
		{"a fifth of four", companion(4), history{in(h, 4, 0)}, terminal.AlreadyUsed, 0, 0},
		{"the buyer after two companions", party(none, 4), history{in(h, 1, 0), in(h, 1, 0)}, terminal.Party, 2, 0},
		{"two of a party went out", party(afterExit, 4), history{in(2*h, 4, 0), out(h, 2)}, terminal.OK, 2, 2},
		{"one of a party went out, one had not come yet", party(afterExit, 4), history{in(2*h, 3, 0), out(h, 1)}, terminal.Party, 2, 1},
		{"nobody of a party went out", party(afterExit, 4), history{in(2*h, 4, 0)}, terminal.ExitRequired, 0, 0},

		// The ticket itself.
		{"blocked", with(func(e *whitelist.Entitlement) { e.Status = whitelist.Blocked }), nil, terminal.Blocked, 0, 0},
		{"revoked", with(func(e *whitelist.Entitlement) { e.Status = whitelist.Revoked }), nil, terminal.Revoked, 0, 0},
		{"active", with(func(e *whitelist.Entitlement) { e.Status = whitelist.Active }), nil, terminal.OK, 1, 0},
		{"its event is postponed", with(func(e *whitelist.Entitlement) { e.Product = 2 }), nil, terminal.InvalidTime, 0, 0},
		{"another product", with(func(e *whitelist.Entitlement) { e.Product = 1 }), nil, terminal.OK, 1, 0},
		{"this gate", with(func(e *whitelist.Entitlement) { e.Gates = []string{"gate-1"} }), nil, terminal.OK, 1, 0},
		{"another gate", with(func(e *whitelist.Entitlement) { e.Gates = []string{"gate-2"} }), nil, terminal.WrongGate, 0, 0},
		{"this zone", with(func(e *whitelist.Entitlement) { e.Zones = []string{"hall"} }), nil, terminal.OK, 1, 0},
		{"another zone", with(func(e *whitelist.Entitlement) { e.Zones = []string{"lounge"} }), nil, terminal.WrongGate, 0, 0},
		{"another gate, but this zone", with(func(e *whitelist.Entitlement) { e.Gates, e.Zones = []string{"lounge-door"}, []string{"hall"} }), nil, terminal.OK, 1, 0},
		{"wrong time comes before wrong gate", with(func(e *whitelist.Entitlement) {
			e.NotAfter, e.Gates = doors.Add(-h), []string{"gate-2"}
		}), nil, terminal.InvalidTime, 0, 0},
		{"wrong gate comes before used", with(func(e *whitelist.Entitlement) { e.Gates = []string{"gate-2"} }), history{in(h, 1, 0)}, terminal.WrongGate, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := terminal.Decide(facts(t, c.ticket, c.history...))
			if r.Reason != c.reason || r.People != c.people || r.Reentry != c.reentry || (r.Verdict == terminal.Admit) != (c.people > 0) {
				t.Errorf("%v %s, %d people, %d of them again; want %s, %d, %d", r.Verdict, r.Reason, r.People, r.Reentry, c.reason, c.people, c.reentry)
			}
		})
	}
}

func TestToleranceWidensTheWindow(t *testing.T) {
	v := hall
	v.Tolerance = 10 * time.Minute
	for _, c := range []struct {
		from, to time.Duration // of the window, from now
		want     terminal.Reason
	}{
		{10 * time.Minute, time.Hour, terminal.OK},
		{10*time.Minute + time.Second, time.Hour, terminal.InvalidTime},
		{-time.Hour, -10 * time.Minute, terminal.OK},
		{-time.Hour, -10*time.Minute - time.Second, terminal.InvalidTime},
	} {
		f := facts(t, whitelist.Entitlement{ID: "t", NotBefore: doors.Add(c.from), NotAfter: doors.Add(c.to)})
		f.Place = place(t, v, "gate-1")
		if r := terminal.Decide(f); r.Reason != c.want {
			t.Errorf("window %v to %v from now: %s, want %s", c.from, c.to, r.Reason, c.want)
		}
	}
}

func TestPostponedEventDenies(t *testing.T) {
	v := hall
	v.Postponed = true
	f := facts(t, whitelist.Entitlement{ID: "t"})
	f.Place = place(t, v, "gate-1")
	if r := terminal.Decide(f); r.Reason != terminal.InvalidTime {
		t.Errorf("%v %s", r.Verdict, r.Reason)
	}
}

func TestAntiPassback(t *testing.T) {
	pass := whitelist.Entitlement{ID: "t"} // without limit
	four := whitelist.Entitlement{ID: "t", Party: 4}
	for _, c := range []struct {
		name    string
		zone    whitelist.Zone
		ticket  whitelist.Entitlement
		history []terminal.Passage
		verdict terminal.Verdict
		reason  terminal.Reason
		people  uint32
	}{
		{"off", whitelist.Zone{}, pass, []terminal.Passage{in(time.Hour, 1, 0)}, terminal.Admit, terminal.OK, 1},
		{"hard, inside", whitelist.Zone{AntiPassback: whitelist.AntiPassbackHard}, pass, []terminal.Passage{in(time.Hour, 1, 0)}, terminal.Deny, terminal.AlreadyInside, 0},
		{"hard, outside again", whitelist.Zone{AntiPassback: whitelist.AntiPassbackHard}, pass, []terminal.Passage{in(2*time.Hour, 1, 0), out(time.Hour, 1)}, terminal.Admit, terminal.OK, 1},
		{"hard, forgotten", whitelist.Zone{AntiPassback: whitelist.AntiPassbackHard, Forgets: 30 * time.Minute}, pass, []terminal.Passage{in(time.Hour, 1, 0)}, terminal.Admit, terminal.OK, 1},
		{"hard, not forgotten yet", whitelist.Zone{AntiPassback: whitelist.AntiPassbackHard, Forgets: time.Hour}, pass, []terminal.Passage{in(time.Hour, 1, 0)}, terminal.Deny, terminal.AlreadyInside, 0},
		{"hard, three of four inside", whitelist.Zone{AntiPassback: whitelist.AntiPassbackHard}, four, []terminal.Passage{in(time.Hour, 3, 0)}, terminal.Admit, terminal.Party, 1},
		{"soft, inside", whitelist.Zone{AntiPassback: whitelist.AntiPassbackSoft}, pass, []terminal.Passage{in(time.Hour, 1, 0)}, terminal.Attend, terminal.Attention, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := hall
			c.zone.Name = "hall"
			v.Zones = []whitelist.Zone{c.zone, {Name: "lounge"}}
			f := facts(t, c.ticket, c.history...)
			f.Place = place(t, v, "gate-1")
			r := terminal.Decide(f)
			if r.Verdict != c.verdict || r.Reason != c.reason || r.People != c.people {
				t.Errorf("%v %s, %d people; want %v %s, %d", r.Verdict, r.Reason, r.People, c.verdict, c.reason, c.people)
			}
			if attend := r.Verdict == terminal.Attend; attend != slices.Contains(r.Warnings, terminal.AlreadyInside) {
				t.Errorf("staff is told %v", r.Warnings)
			}
		})
	}
}

// An agent that died between relay and passage knows nothing of the person: it
// neither charges nor admits them, staff does.
func TestEntryInDoubtIsForStaff(t *testing.T) {
	ticket := whitelist.Entitlement{ID: "t", Uses: 1}
	f := facts(t, ticket, doubted(in(time.Minute, 1, 0), 0))
	r := terminal.Decide(f)
	if r.Verdict != terminal.Attend || r.Reason != terminal.Attention || !slices.Equal(r.Warnings, []terminal.Reason{terminal.AlreadyUsed}) {
		t.Errorf("%v %s, warnings %v", r.Verdict, r.Reason, r.Warnings)
	}
	f.Attended = true
	if again := terminal.Decide(f); again.Verdict != terminal.Attend {
		t.Errorf("confirmed by somebody who was not told: %v %s", again.Verdict, again.Reason)
	}
	f.Told, f.Doubts = r.Warnings, r.Doubts
	if r = terminal.Decide(f); r.Verdict != terminal.Admit || len(r.Doubts) != 1 || r.Doubts[0].Reservation != 1 {
		t.Errorf("confirmed: %v %s, unsettles %v", r.Verdict, r.Reason, r.Doubts)
	}

	for _, c := range []struct {
		name   string
		ticket whitelist.Entitlement
		story  []terminal.Passage
		want   terminal.Verdict
		people uint32
	}{
		{"used all the same", ticket, []terminal.Passage{in(time.Hour, 1, 0), doubted(in(time.Minute, 1, 0), 0)}, terminal.Deny, 0},
		{"room all the same", whitelist.Entitlement{ID: "t", Uses: 2}, []terminal.Passage{doubted(in(time.Minute, 1, 0), 0)}, terminal.Admit, 1},
		{"two of a party were seen", whitelist.Entitlement{ID: "t", Uses: 1, Party: 4}, []terminal.Passage{doubted(in(time.Minute, 4, 0), 2)}, terminal.Attend, 2},
	} {
		if r := terminal.Decide(facts(t, c.ticket, c.story...)); r.Verdict != c.want || r.People != c.people {
			t.Errorf("%s: %v %s, %d people", c.name, r.Verdict, r.Reason, r.People)
		}
	}
}

// The same at the exit: somebody who may still be inside has handed the card out,
// or really went.
func TestExitInDoubtIsForStaff(t *testing.T) {
	ticket := whitelist.Entitlement{ID: "t", Uses: 1, ReEntry: whitelist.ReEntryAfterExit}
	f := facts(t, ticket, in(time.Hour, 1, 0), doubted(out(time.Minute, 1), 0))
	r := terminal.Decide(f)
	if r.Verdict != terminal.Attend || !slices.Equal(r.Warnings, []terminal.Reason{terminal.ExitRequired}) {
		t.Errorf("%v %s, warnings %v", r.Verdict, r.Reason, r.Warnings)
	}
	f.Attended, f.Told, f.Doubts = true, r.Warnings, r.Doubts
	if r := terminal.Decide(f); r.Verdict != terminal.Admit || r.Reentry != 1 || len(r.Doubts) != 1 || r.Doubts[0].Direction != terminal.Exit {
		t.Errorf("confirmed: %v %s, %d come back, unsettles %v", r.Verdict, r.Reason, r.Reentry, r.Doubts)
	}
	f.Direction = terminal.Exit
	if r := terminal.Decide(f); r.Verdict != terminal.Admit {
		t.Errorf("whoever is still inside wants out: %v %s", r.Verdict, r.Reason)
	}
}

func TestAttentionTellsStaffWhy(t *testing.T) {
	f := facts(t, whitelist.Entitlement{ID: "t", Attention: true, Message: "wheelchair: open the side gate"})
	r := terminal.Decide(f)
	if r.Verdict != terminal.Attend || r.Reason != terminal.Attention || r.Message == "" {
		t.Errorf("%v %s %q", r.Verdict, r.Reason, r.Message)
	}
	if f.Attended = true; terminal.Decide(f).Verdict != terminal.Admit {
		t.Error("staff has looked, and the gate stays shut")
	}
}

func TestNearestEntitlementWins(t *testing.T) {
	matinee := whitelist.Entitlement{ID: "matinee", NotBefore: doors.Add(-5 * time.Hour), NotAfter: doors.Add(-2 * time.Hour), Uses: 1}
	evening := whitelist.Entitlement{ID: "evening", NotBefore: doors.Add(-time.Hour), NotAfter: doors.Add(3 * time.Hour), Uses: 1}
	year := whitelist.Entitlement{ID: "year"}
	tomorrow := whitelist.Entitlement{ID: "tomorrow", NotBefore: doors.Add(20 * time.Hour), Uses: 1}
	elsewhere := whitelist.Entitlement{ID: "elsewhere", Gates: []string{"gate-2"}}
	used := terminal.History{Last: 1, Passages: []terminal.Passage{in(30*time.Minute, 1, 0)}}

	for _, c := range []struct {
		name    string
		tickets []whitelist.Entitlement
		usedOne string // the one that is used up
		want    string
		reason  terminal.Reason
		others  string
	}{
		{"the pass is kept while the ticket of the evening fits", []whitelist.Entitlement{year, matinee, evening}, "", "evening", terminal.OK, ""},
		{"the pass after the ticket is used", []whitelist.Entitlement{year, evening}, "evening", "year", terminal.OK, ""},
		{"the matinee is nearer than tomorrow", []whitelist.Entitlement{tomorrow, matinee}, "", "matinee", terminal.InvalidTime, "tomorrow:invalid_time"},
		{"each of the others says why", []whitelist.Entitlement{tomorrow, elsewhere, evening}, "evening", "evening", terminal.AlreadyUsed, "elsewhere:wrong_gate tomorrow:invalid_time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := facts(t, whitelist.Entitlement{})
			f.Row.Entitlements, f.Histories = c.tickets, make([]terminal.History, len(c.tickets))
			for i, e := range c.tickets {
				if e.ID == c.usedOne {
					f.Histories[i] = used
				}
			}
			r := terminal.Decide(f)
			var others []string
			for _, o := range r.Others {
				others = append(others, o.Entitlement+":"+string(o.Reason))
			}
			if r.Entitlement != c.want || r.Reason != c.reason || strings.Join(others, " ") != c.others {
				t.Errorf("%s %s, others %q", r.Entitlement, r.Reason, others)
			}
		})
	}
}

// A gate is no trap: whoever is inside gets out.
func TestWhoeverIsInsideMayLeave(t *testing.T) {
	four := whitelist.Entitlement{ID: "t", Uses: 1, Party: 4}
	for _, c := range []struct {
		name   string
		change func(*terminal.Facts)
		people uint32
	}{
		{"nothing special", func(*terminal.Facts) {}, 3},
		{"blocked meanwhile", func(f *terminal.Facts) { f.Row.Status = whitelist.Blocked }, 3},
		{"revoked meanwhile", func(f *terminal.Facts) { f.Row.Entitlements[0].Status = whitelist.Revoked }, 3},
		{"after its time", func(f *terminal.Facts) { f.Row.Entitlements[0].NotAfter = doors.Add(-time.Hour) }, 3},
		{"the list is stale", func(f *terminal.Facts) { f.List.NotAfter = doors.Add(-time.Hour) }, 3},
		{"the clock is wrong", func(f *terminal.Facts) { f.Clock = time.Unix(0, 0) }, 3},
		{"staff would look at an entry", func(f *terminal.Facts) { f.HolderCheck = terminal.CheckStaff }, 3},
		{"nobody counts", func(f *terminal.Facts) { f.Counted = false }, 1},
		{"a companion", func(f *terminal.Facts) { f.Row.Entitlements[0].Alone = true }, 1},
		{"the gate is not in the list any more", func(f *terminal.Facts) { f.Place = nil }, 1},
		{"never came in", func(f *terminal.Facts) { f.Histories[0] = terminal.History{} }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := facts(t, four, in(2*time.Hour, 4, 0), out(time.Hour, 1))
			f.Direction = terminal.Exit
			c.change(&f)
			if r := terminal.Decide(f); r.Verdict != terminal.Admit || r.Reason != terminal.Leaving || r.People != c.people {
				t.Errorf("%v %s, %d people, want %d", r.Verdict, r.Reason, r.People, c.people)
			}
		})
	}
	f := facts(t, four)
	f.Direction, f.Holder = terminal.Exit, terminal.Facts{}.Holder
	if r := terminal.Decide(f); r.Verdict != terminal.Deny {
		t.Error("a card that proves nothing opens the exit")
	}
}

func TestGateThatTheListDoesNotKnowDenies(t *testing.T) {
	if _, err := terminal.NewPlace(hall, "gate-9"); err == nil || !strings.Contains(err.Error(), `"gate-9"`) || !strings.Contains(err.Error(), "gate-1, gate-2, lounge-door, street") {
		t.Errorf("error %v", err)
	}
	f := facts(t, whitelist.Entitlement{ID: "t"})
	f.Place = nil
	if r := terminal.Decide(f); r.Verdict != terminal.Deny || r.Reason != terminal.WrongGate {
		t.Errorf("%v %s", r.Verdict, r.Reason)
	}
}

func TestExplainTellsEveryCheckInOrder(t *testing.T) {
	f := facts(t, whitelist.Entitlement{ID: "late", NotAfter: doors.Add(-time.Hour)})
	f.Row.Entitlements = append(f.Row.Entitlements, whitelist.Entitlement{ID: "used", Uses: 1, NotAfter: doors.Add(time.Hour)})
	f.Histories = append(f.Histories, terminal.History{Last: 1, Passages: []terminal.Passage{in(time.Hour, 1, 0)}})
	r, steps := terminal.Explain(f)
	var got []string
	for _, s := range steps {
		mark := "-"
		if s.OK {
			mark = "+"
		}
		got = append(got, mark+strings.TrimPrefix(s.Entitlement+"/"+s.Check, "/"))
	}
	want := "+holder +status +used/status +used/postponed +used/time +used/place +used/rules -used/uses +late/status +late/postponed -late/time"
	if strings.Join(got, " ") != want {
		t.Errorf("steps %q\nwant  %q", strings.Join(got, " "), want)
	}
	if plain := terminal.Decide(f); plain.Reason != r.Reason || r.Reason != terminal.AlreadyUsed {
		t.Errorf("explained %s, decided %s", r.Reason, plain.Reason)
	}
}
