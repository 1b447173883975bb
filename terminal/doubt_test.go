package terminal_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// doubt is an entry at another lane, of which nobody knows whether it happened.
func (r *rig) doubt(t testing.TB, entitlement string, people, seen uint32) terminal.Reservation {
	t.Helper()
	d := terminal.Decision{Verdict: terminal.Admit, Reason: terminal.OK, People: people, Entitlement: entitlement, Instant: time.Now(), Gate: "gate-2"}
	h, err := r.site.Journal.History(t.Context(), entitlement)
	if err != nil {
		t.Fatal(err)
	}
	reservation, err := r.site.Journal.Reserve(t.Context(), d, h.Last)
	if err != nil {
		t.Fatal(err)
	}
	if seen > 0 {
		if err := r.site.Journal.Passed(t.Context(), reservation, seen); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.site.Journal.Doubt(t.Context(), reservation, terminal.GateFault); err != nil {
		t.Fatal(err)
	}
	return reservation
}

// annuls are the settlements that say nobody passed.
func (r *rig) annuls(t testing.TB) []journal.Entry {
	t.Helper()
	return slices.DeleteFunc(r.events(t), func(e journal.Entry) bool { return e.Kind != journal.KindAnnul })
}

// The sensor saw three of four before it stuck: nobody's word makes them none.
func TestDoubtIsSettledByWhatTheSensorSaw(t *testing.T) {
	d := newDoorway(t)
	buyer := d.party(t, func(e *whitelist.Entitlement) { e.Uses, e.Party = 1, 4 })
	r := d.doubt(t, "party", 4, 3)
	for _, people := range []uint32{0, 2, 5} {
		if err := d.site.Journal.SettleBy(t.Context(), r, people, steward, "I saw them"); !errors.Is(err, journal.ErrPeople) {
			t.Errorf("settled for %d: %v", people, err)
		}
	}
	d.wantEntered(t, "party", 4)
	if err := d.site.Journal.SettleBy(t.Context(), r, 3, steward, "I saw them"); err != nil {
		t.Fatal(err)
	}
	d.wantEntered(t, "party", 3)
	if a := d.tap(t, buyer); a.Reason != terminal.Party || a.People != 1 {
		t.Errorf("the fourth: %v %s for %d people", a.Verdict, a.Reason, a.People)
	}
	d.gate.Pass(1)
	d.settled(t)
}

// While staff looks at the photo, a friend goes through another lane and leaves
// the ticket in doubt: the key that says "it is her" says nothing about that.
func TestStaffConfirmsOnlyWhatTheyWereTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, methods(jpki.TapUse), func(_ *rig, c *terminal.Config, p *terminal.Parts) {
			c.HolderCheck = map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckStaff}
			p.OnDuty = func() terminal.Staff { return steward }
		})
		img, row := r.newCard(t, "once", perso.CardOptions{})
		row.Row.Entitlements[0].Uses = 1
		r.loadNext(t, append(r.rows, row)...)
		confirm := func(told ...terminal.Reason) terminal.Decision {
			t.Helper()
			if a := r.tap(t, card(t, img, vcard.Options{})); a.Verdict != terminal.Attend || !slices.Equal(a.Warnings, told) {
				t.Fatalf("staff is asked: %v %s, told %v", a.Verdict, a.Reason, a.Warnings)
			}
			synctest.Wait()
			if len(told) == 0 {
				r.doubt(t, "once", 1, 0)
			}
			if !r.gate.Press(true) {
				t.Fatal("nobody waits")
			}
			return r.decision(t)
		}
		if b := confirm(); b.Admitted() || r.gate.Opened() != 0 || len(r.annuls(t)) != 0 {
			t.Errorf("%v %s, opened %d, settled %v", b.Verdict, b.Reason, r.gate.Opened(), r.annuls(t))
		}
		if b := confirm(terminal.AlreadyUsed); !b.Admitted() {
			t.Errorf("told of it: %v %s (%v)", b.Verdict, b.Reason, b.Cause)
		}
		if a := r.annuls(t); len(a) != 1 || a[0].Staff != steward.Name || a[0].Role != steward.Role || a[0].Note == "" {
			t.Errorf("settled: %+v", a)
		}
	})
}

// An order that is in doubt is no order that is unused.
func TestOrderDoesNotSettleADoubtUnseen(t *testing.T) {
	d := newDoorway(t)
	d.order(t, "A1B2C", whitelist.Entitlement{ID: "forgotten", Uses: 1})
	d.doubt(t, "forgotten", 1, 0)
	a, err := d.lane.AdmitOrder(t.Context(), supervisor, "card forgotten", "A1B2C", false)
	d.decision(t)
	if err != nil || a.Verdict != terminal.Attend || !slices.Equal(a.Warnings, []terminal.Reason{terminal.AlreadyUsed}) {
		t.Errorf("%v %s, told %v, %v", a.Verdict, a.Reason, a.Warnings, err)
	}
	if len(d.annuls(t)) != 0 || d.gate.Opened() != 0 {
		t.Errorf("settled %v, opened %d", d.annuls(t), d.gate.Opened())
	}
	if a, err = d.lane.AdmitOrder(t.Context(), supervisor, "was not let in", "A1B2C", true); err != nil || !a.Admitted() {
		t.Errorf("looked at: %v %s, %v", a.Verdict, a.Reason, err)
	}
	d.decision(t)
	d.gate.Pass(1)
	d.settled(t)
	if settled := d.annuls(t); len(settled) != 1 || settled[0].Staff != supervisor.Name {
		t.Errorf("settled: %+v", settled)
	}
	d.wantEntered(t, "forgotten", 1)
}

// A disk that is full when somebody has passed, or has turned back, does not
// leave them open until the next start.
func TestUnwrittenPassageIsWrittenLater(t *testing.T) {
	for _, c := range []struct {
		passed int
		kinds  string
		next   terminal.Reason
	}{
		{0, "reserve annul(no_passage)", terminal.OK},
		{1, "reserve commit", terminal.AlreadyUsed},
	} {
		for _, card := range []bool{true, false} { // who brings it about: the next card, or time alone
			inBubble(t, func(t *testing.T) {
				j := new(hookedJournal)
				d := newDoorway(t, j.hooked)
				buyer := d.party(t, func(e *whitelist.Entitlement) { e.Uses = 1 })
				d.tap(t, buyer)
				j.full(true)
				d.gate.Pass(c.passed)
				synctest.Wait()
				if s := d.late(t); !errors.Is(s.Cause, journal.ErrFull) {
					t.Errorf("%v %s (%v)", s.Verdict, s.Reason, s.Cause)
				}
				d.wantKinds(t, "reserve")
				j.full(false)
				if !card {
					time.Sleep(10 * time.Second)
					synctest.Wait()
					d.wantKinds(t, c.kinds)
				}
				if a := d.tap(t, buyer); a.Reason != c.next {
					t.Errorf("the same card again: %v %s, want %s", a.Verdict, a.Reason, c.next)
				}
				if c.next == terminal.OK {
					d.gate.Pass(1)
					d.settled(t)
				}
				d.wantEntered(t, "party", 1)
			})
		}
	}
}

// The gate shuts slowly and the disk is slow: the sensor sticks while the passage
// is still being written, and is free again before it is.
func TestStaleStuckDoesNotHaltForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		j, g := new(hookedJournal), new(hookedGate)
		shuts, commits := make(chan struct{}), make(chan struct{})
		d := newDoorway(t, j.hooked, g.hooked)
		d.tap(t, d.alice(t))
		slowly := func() { <-shuts }
		g.shut.Store(&slowly)
		j.set(func(kind journal.Kind, _ terminal.Decision) error {
			if kind == journal.KindCommit {
				<-commits
			}
			return nil
		})
		d.gate.Pass(1)
		synctest.Wait()
		d.gate.Pass(1) // somebody close behind
		d.gate.Stick(true)
		synctest.Wait()
		if got := d.lane.Halted(); !slices.Equal(got, []string{"sensor"}) {
			t.Fatalf("halted by %v", got)
		}
		close(shuts)
		synctest.Wait()
		d.gate.Stick(false)
		synctest.Wait()
		close(commits)
		if s := d.settled(t); s.Passed != 1 {
			t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
		}
		synctest.Wait()
		if got := d.lane.Halted(); len(got) != 0 {
			t.Errorf("halted by %v, with a sensor that is free", got)
		}
		d.wantKinds(t, "reserve incident(gate_fault) incident(gate_fault) commit incident(tailgate)")
	})
}
