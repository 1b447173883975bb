package terminal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// counted gives a rig a gate with a sensor, and a time to pass that the test
// lets be over.
func counted(over chan time.Time, incidents chan terminal.Incident) func(*rig, *terminal.Config, *terminal.Parts) {
	return func(r *rig, _ *terminal.Config, p *terminal.Parts) {
		r.gate = gate.NewSimulator(nil).WithSensor()
		p.Gate, p.Checker = r.gate, r.gate
		p.After = func(time.Duration) <-chan time.Time { return over }
		p.Incidents = func(i terminal.Incident) { incidents <- i }
	}
}

// A doorway is a rig with a sensor.
type doorway struct {
	*rig
	over      chan time.Time
	incidents chan terminal.Incident
	simulator *gate.Simulator
}

func newDoorway(t testing.TB, options ...func(*rig, *terminal.Config, *terminal.Parts)) *doorway {
	t.Helper()
	return newDoorwayIn(t, t.TempDir(), options...)
}

func newDoorwayIn(t testing.TB, dir string, options ...func(*rig, *terminal.Config, *terminal.Parts)) *doorway {
	t.Helper()
	d := &doorway{over: make(chan time.Time), incidents: make(chan terminal.Incident, 16)}
	options = append([]func(*rig, *terminal.Config, *terminal.Parts){counted(d.over, d.incidents)}, options...)
	options = append(options, func(r *rig, _ *terminal.Config, p *terminal.Parts) { d.simulator = r.gate })
	d.rig = newRigIn(t, dir, options...)
	d.gate = d.simulator
	t.Cleanup(func() { close(d.over) }) // nobody is waited for any longer
	return d
}

// party lists a new card with an entitlement, and returns it.
func (d *doorway) party(t testing.TB, change func(*whitelist.Entitlement)) *vcard.Card {
	t.Helper()
	img, row := d.newCard(t, "party", perso.CardOptions{})
	change(&row.Row.Entitlements[0])
	m := d.Manifest
	m.Seq += 10
	m.Venue = whitelist.Venue{TimeZone: "Asia/Tokyo"}
	d.load(t, m, append(d.rows, row)...)
	return card(t, img, vcard.Options{})
}

// pass lets people through, and waits until the lane has seen all of them.
func (d *doorway) pass(t testing.TB, people int, entitlement string, before uint32) {
	t.Helper()
	d.gate.Pass(people)
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		h, err := d.site.Journal.History(t.Context(), entitlement)
		if err != nil || time.Since(start) > time.Minute {
			t.Fatal("the lane does not see them", err)
		}
		if n := len(h.Passages); n > 0 && h.Passages[n-1].Passed == before+uint32(people) {
			return
		}
	}
}

// kinds are those of the journal's events, in short.
func (d *doorway) kinds(t testing.TB) string {
	t.Helper()
	var all []string
	for _, e := range d.events(t) {
		text := string(e.Kind)
		if e.Reason != "" && e.Kind != journal.KindReserve {
			text += "(" + string(e.Reason) + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func (d *doorway) wantKinds(t testing.TB, want string) {
	t.Helper()
	if got := d.kinds(t); got != want {
		t.Errorf("journal: %s\nwant:    %s", got, want)
	}
}

func (d *doorway) wantEntered(t testing.TB, entitlement string, want uint32) {
	t.Helper()
	h, err := d.site.Journal.History(t.Context(), entitlement)
	if err != nil || h.Entered() != want {
		t.Errorf("%d people entered by %s, want %d (%v)", h.Entered(), entitlement, want, err)
	}
}

func (d *doorway) incident(t testing.TB) terminal.Incident {
	t.Helper()
	select {
	case i := <-d.incidents:
		return i
	case <-time.After(time.Minute):
		t.Fatal("no incident")
		panic("unreachable")
	}
}

// settled waits for the second decision of an admission.
func (d *doorway) settled(t testing.TB) terminal.Decision {
	t.Helper()
	s := d.decision(t)
	if !s.Settled {
		t.Fatalf("%v %s is not about a passage", s.Verdict, s.Reason)
	}
	return s
}

// late is settled, with every time that is waited for over.
func (d *doorway) late(t testing.TB) terminal.Decision {
	t.Helper()
	for {
		select {
		case d.over <- time.Time{}:
		case s := <-d.decisions:
			return s
		case <-time.After(time.Minute):
			t.Fatal("nothing is settled")
		}
	}
}

func (d *doorway) alice(t testing.TB) *vcard.Card {
	return card(t, d.card(t, "listed", jpki.TapUse), vcard.Options{})
}

func TestEntryCountsWhenThePersonHasPassed(t *testing.T) {
	d := newDoorway(t)
	if a := d.tap(t, d.alice(t)); !a.Admitted() || a.People != 1 || a.Reservation == 0 {
		t.Fatalf("%v %s, %+v", a.Verdict, a.Reason, a)
	}
	d.wantKinds(t, "reserve")
	if !d.gate.IsOpen() {
		t.Error("the gate is shut before anybody passed")
	}
	d.gate.Pass(1)
	if s := d.settled(t); !s.Admitted() || s.Passed != 1 {
		t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
	}
	d.wantKinds(t, "reserve commit")
	if d.gate.IsOpen() {
		t.Error("the gate stays open behind the person")
	}
}

func TestWhoeverTurnsBackIsNotCharged(t *testing.T) {
	d := newDoorway(t)
	d.tap(t, d.alice(t))
	if s := d.late(t); s.Verdict != terminal.Deny || s.Reason != terminal.NoPassage {
		t.Errorf("%v %s", s.Verdict, s.Reason)
	}
	d.wantKinds(t, "reserve annul(no_passage)")
	d.wantEntered(t, "ticket-alice", 0)
	if d.gate.IsOpen() {
		t.Error("the gate stays open")
	}
	// The same card again.
	if a := d.tap(t, d.alice(t)); !a.Admitted() {
		t.Errorf("the next try: %v %s", a.Verdict, a.Reason)
	}
	d.gate.Pass(1)
	d.settled(t)
	d.wantEntered(t, "ticket-alice", 1)
}

func TestWhoeverIsOnTheWayWhenTimeIsOverCounts(t *testing.T) {
	d := newDoorway(t)
	d.tap(t, d.alice(t))
	d.over <- time.Time{}
	d.gate.Pass(1) // the second time never comes
	if s := d.settled(t); s.Passed != 1 {
		t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
	}
	d.wantKinds(t, "reserve commit")
}

func TestPartyPassesOneByOneAndTheRestComesLater(t *testing.T) {
	d := newDoorway(t)
	buyer := d.party(t, func(e *whitelist.Entitlement) { e.Uses, e.Party = 1, 4 })
	if a := d.tap(t, buyer); a.People != 4 || a.Reason != terminal.OK || d.gate.People() != 4 {
		t.Fatalf("%v %s for %d people", a.Verdict, a.Reason, a.People)
	}
	d.pass(t, 3, "party", 0)
	if s := d.late(t); s.Passed != 3 {
		t.Errorf("%d passed", s.Passed)
	}
	d.wantEntered(t, "party", 3)
	if a := d.tap(t, buyer); a.People != 1 || a.Reason != terminal.Party {
		t.Errorf("the rest: %v %s for %d people", a.Verdict, a.Reason, a.People)
	}
	d.gate.Pass(1)
	d.settled(t)
	d.wantKinds(t, "reserve passed passed passed commit reserve commit")
	if a := d.tap(t, buyer); a.Reason != terminal.AlreadyUsed {
		t.Errorf("a fifth: %v %s", a.Verdict, a.Reason)
	}
}

func TestWhoeverFollowsIsATailgater(t *testing.T) {
	d := newDoorway(t)
	d.tap(t, d.alice(t))
	d.gate.Pass(2)
	d.settled(t)
	if i := d.incident(t); i.Reason != terminal.Tailgate {
		t.Errorf("%+v", i)
	}
	d.gate.PassBack()
	if i := d.incident(t); i.Reason != terminal.Tailgate {
		t.Errorf("%+v", i)
	}
	d.wantEntered(t, "ticket-alice", 1)
	if kinds := d.kinds(t); strings.Count(kinds, "incident(tailgate)") != 2 {
		t.Errorf("journal: %s", kinds)
	}
}

func TestStuckSensorLeavesTheEntryInDoubt(t *testing.T) {
	d := newDoorway(t)
	d.tap(t, d.alice(t))
	d.gate.Stick(true)
	if s := d.settled(t); s.Reason != terminal.GateFault {
		t.Errorf("%v %s", s.Verdict, s.Reason)
	}
	if i := d.incident(t); i.Reason != terminal.GateFault || i.State != terminal.Begins {
		t.Errorf("%+v", i)
	}
	// Nobody is let in whom it could not count.
	d.field.Insert(slotA, d.alice(t))
	time.Sleep(50 * time.Millisecond)
	select {
	case a := <-d.decisions:
		t.Errorf("%v %s while the sensor is stuck", a.Verdict, a.Reason)
	default:
	}
	if got := d.gate.Signal(); got != terminal.ShowOutOfOrder {
		t.Errorf("the lamps show %v", got)
	}
	d.gate.Stick(false)
	if i := d.incident(t); i.State != terminal.Ends {
		t.Errorf("%+v", i)
	}
	if a := d.decision(t); !a.Admitted() { // her ticket has no limit
		t.Errorf("%v %s", a.Verdict, a.Reason)
	}
}

// The gate is opened by hardware: nobody is denied, and nobody is charged.
func TestFireAlarmStopsDenying(t *testing.T) {
	d := newDoorway(t)
	d.tap(t, d.alice(t))
	d.gate.Alarm(true)
	if s := d.late(t); s.Passed != 0 {
		t.Errorf("%+v", s)
	}
	if i := d.incident(t); i.Reason != terminal.EmergencyOpen || i.State != terminal.Begins {
		t.Errorf("%+v", i)
	}
	d.field.Insert(slotA, card(t, d.card(t, "not listed", jpki.TapUse), vcard.Options{}))
	time.Sleep(50 * time.Millisecond)
	select {
	case a := <-d.decisions:
		t.Errorf("%v %s during the alarm", a.Verdict, a.Reason)
	default:
	}
	if got := d.gate.Signal(); got != terminal.ShowEmergency {
		t.Errorf("the lamps show %v", got)
	}
	d.field.Remove(slotA)
	d.gate.Alarm(false)
	if i := d.incident(t); i.State != terminal.Ends {
		t.Errorf("%+v", i)
	}
	d.wantEntered(t, "ticket-alice", 0)
	d.tap(t, d.alice(t))
	d.gate.Pass(1)
	d.settled(t)
}

func TestAgentThatStopsShutsTheGateAndSettles(t *testing.T) {
	dir := t.TempDir()
	t.Run("", func(t *testing.T) {
		d := newDoorwayIn(t, dir)
		d.tap(t, d.alice(t))
	})
	d := newDoorwayIn(t, dir)
	d.wantKinds(t, "reserve annul(no_passage)")
}

// Told to stop with somebody in the gate, an agent still sees them pass.
func TestWhoeverIsOnTheWayWhenTheAgentStopsCounts(t *testing.T) {
	dir := t.TempDir()
	t.Run("", func(t *testing.T) {
		d := newDoorwayIn(t, dir)
		d.tap(t, d.alice(t))
		d.stop()
		for start := time.Now(); d.gate.IsOpen(); time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatal("the gate stays open")
			}
		}
		d.gate.Pass(1)
		if s := d.settled(t); s.Passed != 1 {
			t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
		}
	})
	d := newDoorwayIn(t, dir)
	d.wantKinds(t, "reserve commit")
}

var (
	steward    = terminal.Staff{Name: "Abe", Role: terminal.Steward}
	supervisor = terminal.Staff{Name: "Ito", Role: terminal.Supervisor}
)

func TestSupervisorLetsPeopleInWithoutACard(t *testing.T) {
	d := newDoorway(t)
	for _, c := range []struct {
		by     terminal.Staff
		note   string
		people uint32
	}{{steward, "press", 1}, {terminal.Staff{}, "press", 1}, {supervisor, "", 1}, {supervisor, "press", 0}, {supervisor, "press", 101}} {
		if _, err := d.lane.Override(t.Context(), c.by, c.note, c.people); err == nil {
			t.Errorf("%+v lets %d people in with reason %q", c.by, c.people, c.note)
		}
	}
	if d.gate.Opened() != 0 {
		t.Fatal("the gate opened")
	}
	a, err := d.lane.Override(t.Context(), supervisor, "press", 2)
	if err != nil || a.Reason != terminal.Override {
		t.Fatalf("%v %s, %v", a.Verdict, a.Reason, err)
	}
	d.decision(t)
	d.gate.Pass(2)
	d.settled(t)
	e := d.events(t)[0]
	if e.Reason != terminal.Override || e.Staff != "Ito" || e.Note != "press" || e.People != 2 {
		t.Errorf("journal: %+v", e.Event)
	}
}

func TestStaffTakesTheLaneOutOfOrder(t *testing.T) {
	d := newDoorway(t)
	if err := d.lane.SetOutOfOrder(t.Context(), steward, "wet floor", true); err != nil {
		t.Fatal(err)
	}
	if i := d.incident(t); i.Reason != terminal.OutOfOrder || i.State != terminal.Begins || i.Staff != steward {
		t.Errorf("%+v", i)
	}
	d.field.Insert(slotA, d.alice(t))
	time.Sleep(50 * time.Millisecond)
	if got := d.gate.Signal(); got != terminal.ShowOutOfOrder || d.gate.Opened() != 0 {
		t.Errorf("the lamps show %v, opened %d times", got, d.gate.Opened())
	}
	if err := d.lane.SetOutOfOrder(t.Context(), steward, "dry again", false); err != nil {
		t.Fatal(err)
	}
	d.decision(t)
	d.gate.Pass(1)
	d.settled(t)
}

func TestOrderNumberAdmitsOnceForTheCardToo(t *testing.T) {
	d := newDoorway(t)
	img, row := d.newCard(t, "forgotten", perso.CardOptions{})
	row.Row.Entitlements[0].Uses = 1
	head, err := whitelist.OrderHead("A1B2C")
	if err != nil {
		t.Fatal(err)
	}
	order := whitelist.Listed{Head: head, Row: whitelist.Row{Status: whitelist.Active, Entitlements: row.Row.Entitlements}}
	m := d.Manifest
	m.Seq++
	d.load(t, m, append(d.rows, row, order)...)

	if _, err := d.lane.AdmitOrder(t.Context(), steward, "card forgotten, passport seen", "A1B2C"); err == nil {
		t.Error("a steward admits")
	}
	if a, err := d.lane.AdmitOrder(t.Context(), supervisor, "card forgotten", "ZZZZZ"); err == nil || a.Reason != terminal.NotListed {
		t.Errorf("an order that nobody made: %s, %v", a.Reason, err)
	}
	d.decision(t)
	a, err := d.lane.AdmitOrder(t.Context(), supervisor, "card forgotten", "a1b2c")
	if err != nil || !a.Admitted() || a.Method != terminal.ByOrder {
		t.Fatalf("%v %s, %v", a.Verdict, a.Reason, err)
	}
	d.decision(t)
	d.gate.Pass(1)
	d.settled(t)
	if a, err := d.lane.AdmitOrder(t.Context(), supervisor, "again", "A1B2C"); err != nil || a.Reason != terminal.AlreadyUsed {
		t.Errorf("the order again: %v %s, %v", a.Verdict, a.Reason, err)
	}
	d.decision(t)
	if a := d.tap(t, card(t, img, vcard.Options{})); a.Reason != terminal.AlreadyUsed {
		t.Errorf("the card: %v %s", a.Verdict, a.Reason)
	}
}
