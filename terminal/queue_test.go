package terminal_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Somebody holds a card to the reader while staff lets a group through: the time
// of the group is not theirs.
func TestCardThatWaitsItsTurnIsNotTimedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoorway(t)
		if _, err := d.lane.Override(t.Context(), supervisor, "press", 1); err != nil {
			t.Fatal(err)
		}
		d.decision(t)
		d.field.Insert(slotA, d.alice(t))
		time.Sleep(10 * terminal.DefaultDeadline)
		if d.gate.Opened() != 1 {
			t.Fatalf("opened %d times", d.gate.Opened())
		}
		d.gate.Pass(1)
		d.settled(t)
		if a := d.decision(t); !a.Admitted() {
			t.Errorf("%v %s (%v)", a.Verdict, a.Reason, a.Cause)
		}
		d.gate.Pass(1)
		d.settled(t)
		d.wantKinds(t, "reserve commit reserve commit")
	})
}

// A school goes through while the disk is slow: those who wait to be counted are
// no tailgaters.
func TestPartyLargerThanAnyBufferIsCounted(t *testing.T) {
	const people = 250
	inBubble(t, func(t *testing.T) {
		j := new(hookedJournal)
		d := newDoorway(t, j.hooked)
		buyer := d.party(t, func(e *whitelist.Entitlement) { e.Uses, e.Party = 1, people })
		if a := d.tap(t, buyer); a.People != people {
			t.Fatalf("%v %s for %d people", a.Verdict, a.Reason, a.People)
		}
		disk := make(chan struct{})
		j.set(func(kind journal.Kind, _ terminal.Decision) error {
			if kind == journal.KindPassed {
				<-disk
			}
			return nil
		})
		d.gate.Pass(people)
		synctest.Wait()
		close(disk)
		if s := d.settled(t); s.Passed != people {
			t.Errorf("%d passed", s.Passed)
		}
		d.wantKinds(t, "reserve"+strings.Repeat(" passed", people-1)+" commit")
	})
}

// Somebody slips through before the relay moves: the person who waits for it is
// not charged for them, and still finds the gate open.
func TestPassageBeforeTheRelayMovesIsNotCharged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := new(hookedGate)
		d := newDoorway(t, g.hooked)
		slip := func() {
			d.gate.Pass(1)
			synctest.Wait()
		}
		g.open.Store(&slip)
		d.tap(t, d.alice(t))
		if i := d.incident(t); i.Reason != terminal.Tailgate {
			t.Errorf("%+v", i)
		}
		if !d.gate.IsOpen() {
			t.Fatal("the gate is shut")
		}
		d.gate.Pass(1)
		if s := d.settled(t); s.Passed != 1 {
			t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
		}
		d.wantKinds(t, "reserve incident(tailgate) commit")
	})
}

// Whether the relay never moves or nobody can tell: those who pass are not waited
// for any longer, and the next person is expected as if it had not been tried.
func TestGateThatDoesNotOpenExpectsNobody(t *testing.T) {
	late := func() { time.Sleep(2 * terminal.DefaultDeadline) }
	for kinds, fault := range map[string]func(*hookedGate){
		"reserve annul(read_timeout)": func(g *hookedGate) { g.open.Store(&late) },
		"reserve doubt(gate_fault)":   func(g *hookedGate) { g.fails.Store(true) },
	} {
		inBubble(t, func(t *testing.T) {
			g := new(hookedGate)
			d := newDoorway(t, g.hooked)
			fault(g)
			d.tap(t, d.alice(t))
			time.Sleep(2 * terminal.DefaultDeadline)
			synctest.Wait()
			d.gate.Pass(1)
			if i := d.incident(t); i.Reason != terminal.Tailgate {
				t.Errorf("%+v", i)
			}
			g.open.Store(nil)
			g.fails.Store(false)
			if a := d.tap(t, d.alice(t)); !a.Admitted() {
				t.Errorf("the next try: %v %s (%v)", a.Verdict, a.Reason, a.Cause)
			}
			d.gate.Pass(1)
			if s := d.settled(t); s.Passed != 1 {
				t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
			}
			got := strings.Replace(d.kinds(t), "decision("+string(terminal.GateFault)+") ", "", 1)
			got = strings.Replace(got, "decision("+string(terminal.ReadTimeout)+") ", "", 1)
			if want := kinds + " incident(tailgate) reserve commit"; got != want {
				t.Errorf("journal: %s\nwant:    %s", got, want)
			}
		})
	}
}
