package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/whitelist"
)

// twoLanes makes a terminal with an entry at the first slot and an exit, where a
// sensor counts, at the second.
func twoLanes(t *testing.T, r *readers) site {
	t.Helper()
	s, w := staffed(t), theTown(t)
	list := w.signed(t, func(m *whitelist.Manifest, rows []whitelist.Listed) {
		m.Seq = 2
		m.Venue = whitelist.Venue{
			Zones: []whitelist.Zone{{Name: "hall", AntiPassback: whitelist.AntiPassbackHard}},
			Gates: []whitelist.Gate{{ID: 1, Name: "gate-1", Zone: "hall"}},
		}
		rows[0].Row.Entitlements = []whitelist.Entitlement{{ID: "ticket-alice", Uses: 1, ReEntry: whitelist.ReEntryAfterExit}}
		rows[1].Row.Entitlements = []whitelist.Entitlement{{ID: "ticket-bob", Uses: 2}}
	})
	s.must(t, "list", "import", s.write(t, "venue.cose", list))
	s.edit(t, "[scope_key]", fmt.Sprintf(`[reader]
slots = [%q]

[[lanes]]
[lanes.gate]
name      = "gate-1"
driver    = "simulator-with-sensor"
direction = "exit"
[lanes.reader]
slots = [%q]

[scope_key]`, r.daemon.SlotName(0), r.daemon.SlotName(1)))
	return s
}

// One agent has the entry and the exit of a gate: whoever has gone out comes back,
// whoever is inside does not come in, and one lane stops without the other.
func TestEntryKnowsOfTheExit(t *testing.T) {
	t.Parallel()
	r := newReaders(t)
	s, w := twoLanes(t, r), theTown(t)
	if text := s.must(t, "check-config"); !strings.Contains(text, "lane       gate-1/entry, venue, driver simulator,") || !strings.Contains(text, "lane       gate-1/exit, venue, driver simulator-with-sensor,") {
		t.Errorf("check-config: %s", text)
	}
	a := start(t, s, r)
	enters := func(img *vcard.Image, v terminal.Verdict, reason terminal.Reason) {
		t.Helper()
		e := r.tap(a, img)
		want(t, e, v, reason)
		if e.Gate != "gate-1" || e.Direction != "entry" {
			t.Errorf("%+v", e)
		}
	}
	leaves := func(img *vcard.Image) {
		t.Helper()
		e := r.tapAs(a, img, how{slot: 1})
		want(t, e, terminal.Admit, terminal.Leaving)
		if _, err := io.WriteString(a.stdin, "p\n2 p\n"); err != nil {
			t.Fatal(err)
		}
		passed := a.event()
		want(t, passed, terminal.Admit, terminal.Leaving)
		if e.Gate != "gate-1" || e.Direction != "exit" || passed.Direction != "exit" || passed.Passed == nil || *passed.Passed != 1 {
			t.Errorf("%+v, %+v", e, passed)
		}
	}
	alice, bob := w.alice(t), w.bob(t)
	enters(alice, terminal.Admit, terminal.OK)
	enters(alice, terminal.Deny, terminal.ExitRequired)
	leaves(alice)
	enters(alice, terminal.Admit, terminal.OK)
	enters(alice, terminal.Deny, terminal.ExitRequired)
	enters(bob, terminal.Admit, terminal.OK)
	enters(bob, terminal.Deny, terminal.AlreadyInside)

	// Whoever means one lane says so.
	for _, args := range [][]string{
		{"out-of-order", "on", "--reason", "glass"},
		{"out-of-order", "on", "--reason", "glass", "--lane", "gate-1"},
	} {
		if _, stderr, code := s.as(t, "kei", args...); code != 2 || !strings.Contains(stderr, `one of ["gate-1/entry" "gate-1/exit"]`) {
			t.Errorf("%q: exit code %d: %s", args, code, stderr)
		}
	}
	if _, stderr, code := s.run(t, "explain", "--order", "ABC12"); code != 2 || !strings.Contains(stderr, "--lane is missing") {
		t.Errorf("explain: exit code %d: %s", code, stderr)
	}
	if text := s.must(t, "explain", "--order", "ABC12", "--lane", "gate-1/exit"); !strings.Contains(text, "not_listed") {
		t.Errorf("explain: %s", text)
	}
	does[api.InMode](t, s, 0, "kei", "out-of-order", "on", "--reason", "glass", "--lane", "gate-1/entry")
	st := s.status(t)
	if len(st.Lanes) != 2 {
		t.Fatalf("status %+v", st)
	}
	entry, exit := st.Lanes[0], st.Lanes[1]
	if entry.Lane != "gate-1/entry" || entry.Signal != "out_of_order" || fmt.Sprint(entry.Halts) != "[staff]" || !entry.Reader.Up || entry.Reader.Detail != r.daemon.SlotName(0) {
		t.Errorf("entry %+v", entry)
	}
	if exit.Lane != "gate-1/exit" || exit.Signal != "ready" || len(exit.Halts) > 0 || exit.Reader.Detail != r.daemon.SlotName(1) {
		t.Errorf("exit %+v", exit)
	}
	if text := s.must(t, "status"); !strings.Contains(text, "gate-1/entry  venue  out of order") || !strings.Contains(text, "gate-1/exit   venue  ready") || !strings.Contains(text, "gate-1/entry: staff") {
		t.Errorf("status: %s", text)
	}
	waiting := r.insert(bob, how{})
	a.silent(settled, "the entry is out of order")
	waiting.remove()
	leaves(bob)
	does[api.InMode](t, s, 0, "kei", "out-of-order", "on", "--reason", "glass here too", "--lane", "gate-1/exit")
	does[api.InMode](t, s, 0, "kei", "out-of-order", "off", "--reason", "swept", "--lane", "gate-1/entry")
	enters(bob, terminal.Admit, terminal.OK)
	a.stop()

	var halted []string
	for _, e := range s.journal(t) {
		if e.Kind == "incident" {
			halted = append(halted, strings.TrimSpace(e.Direction+" "+e.State))
		}
	}
	if want := []string{"begin", "exit begin", "end"}; !slices.Equal(halted, want) {
		t.Errorf("incidents %q, want %q", halted, want)
	}
	if text := s.must(t, "journal", "occupancy"); !strings.Contains(text, "hall") {
		t.Errorf("occupancy: %s", text)
	}
}

// Of two patterns nobody can tell beforehand that they take the same reader. Then a tap
// is not an entry and an exit: the agent ends, all of it.
func TestSlotOfTwoLanesEndsTheAgent(t *testing.T) {
	t.Parallel()
	r := newReaders(t)
	s := twoLanes(t, r)
	s.edit(t, fmt.Sprintf("slots = [%q]", r.daemon.SlotName(0)), `slots = ["Virtual Reader A*"]`)
	s.edit(t, fmt.Sprintf("slots = [%q]", r.daemon.SlotName(1)), `slots = ["*Reader ? *"]`)
	a := start(t, s, r)
	lying := r.insert(theTown(t).alice(t), how{})
	defer lying.cancel()
	if code := a.wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, e := range a.all { // that of the exit's sensor is one more
		if e.Verdict == terminal.Admit && e.Direction != a.all[0].Direction {
			t.Errorf("events %+v", a.all)
		}
	}
	if log := a.stderr.String(); !strings.Contains(log, fmt.Sprintf(`slot %q is of lane gate-1/`, r.daemon.SlotName(0))) || !strings.Contains(log, "stopped") {
		t.Error("the agent does not say why")
	}
}

// What is wrong with a lane is told by its key.
func TestLanesThatGetInEachOthersWayAreRefused(t *testing.T) {
	t.Parallel()
	s := staffed(t)
	const second = "[[lanes]]\n[lanes.gate]\nname = \"gate-2\"\n[lanes.reader]\nslots = [\"B\"]\n\n"
	pins := func(relay, alarm string) string {
		return fmt.Sprintf("[gate.relay]\npin = %q\nactive = \"high\"\nmotion = \"pulse\"\n[gate.alarm]\npin = %q\nactive = \"high\"\npull = \"up\"\n", relay, alarm)
	}
	under := func(tables string) string { return strings.ReplaceAll(tables, "[gate.", "[lanes.gate.") }
	for _, c := range []struct{ first, second, want string }{
		{"", strings.Replace(second, `name = "gate-2"`, "", 1), "lanes[1].gate.name is missing"},
		{"", second, "reader.slots is missing: with several lanes each names its own"},
		{`slots = ["A"]`, strings.Replace(second, `slots = ["B"]`, "", 1), "lanes[1].reader.slots is missing"},
		{`slots = ["A"]`, second + second, "lanes[1].gate.name and lanes[2].gate.name are \"gate-2\", and both lanes are its entry"},
		{`slots = ["A"]`, strings.Replace(second, "gate-2", "gate-1", 1), "gate.name and lanes[1].gate.name are \"gate-1\""},
		{`slots = ["A", "B"]`, second, `reader.slots has "B" and lanes[1].reader.slots has "B": a slot is of one lane`},
		{`slots = ["*"]`, second, `reader.slots has "*" and lanes[1].reader.slots has "B"`},
		{`slots = ["A"]`, strings.Replace(second, "[\"B\"]", "[\"[\"]", 1), "lanes[1].reader.slots: "},
		{`slots = ["A"]`, strings.Replace(second, "name =", "mode = \"muster\"\nname =", 1), "a shelter has a journal, and so an agent, of its own"},
		{`slots = ["A"]`, strings.Replace(second, "name =", "mode = \"desk\"\nname =", 1), `lanes[1].gate.mode is "desk"`},
		{`slots = ["A"]`, strings.Replace(second, "name =", "pass_time = \"2m\"\nname =", 1), "lanes[1].gate.pass_time is 2m0s, want 1s to 60s"},
		{`slots = ["A"]`, strings.Replace(second, "name =", "driver = \"gpio\"\nname =", 1), "\nlanes[1].gate.relay.active: missing"},
		{`slots = ["A"]`, strings.Replace(second, "name =", "nom =", 1), `unknown key "lanes.gate.nom"`},
		{
			"slots = [\"A\"]\n" + pins("GPIO1", "GPIO2"),
			strings.Replace(second, "name =", "driver = \"gpio\"\nname =", 1) + under(pins("GPIO3", "GPIO2")),
			`gate.alarm.pin and lanes[1].gate.alarm.pin: pin "GPIO2" is used twice`,
		},
	} {
		good := s.must(t, "check-config")
		if !strings.Contains(good, "configuration is good") {
			t.Fatal(good)
		}
		before := "[reader]\n" + c.first + "\n\n" + c.second + "[scope_key]"
		s.edit(t, "[scope_key]", before)
		if strings.Contains(c.first, "[gate.") {
			s.edit(t, `driver = "simulator"`, `driver = "gpio"`)
		}
		for _, command := range []string{"check-config", "run"} {
			stdout, stderr, code := s.run(t, command)
			if code != 3 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("%s: exit code %d, standard output %q: %s\nwant %q", command, code, stdout, stderr, c.want)
			}
		}
		s.edit(t, before, "[scope_key]")
		if strings.Contains(c.first, "[gate.") {
			s.edit(t, `driver = "gpio"`, `driver = "simulator"`)
		}
	}
}
