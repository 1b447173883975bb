package terminal_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// order lists somebody by the number of their order alone.
func (d *doorway) order(t testing.TB, number string, e whitelist.Entitlement) {
	t.Helper()
	head, err := whitelist.OrderHead(number)
	if err != nil {
		t.Fatal(err)
	}
	m := d.Manifest
	m.Seq, m.Venue = m.Seq+1, whitelist.Venue{TimeZone: "Asia/Tokyo"}
	row := whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{e}}
	d.load(t, m, append(slices.Clone(d.rows), whitelist.Listed{Head: head, Row: row})...)
}

// What the ticket says to staff is said while the gate is still shut.
func TestOrderSaysWhatToLookAtBeforeTheGateOpens(t *testing.T) {
	d := newDoorway(t)
	d.order(t, "A1B2C", whitelist.Entitlement{ID: "forgotten", Attention: true, Message: "banned companion: call security"})
	a, err := d.lane.AdmitOrder(t.Context(), supervisor, "card forgotten", "A1B2C", false)
	if err != nil || a.Verdict != terminal.Attend || a.Message == "" || d.gate.Opened() != 0 {
		t.Errorf("%v %s %q, opened %d, %v", a.Verdict, a.Reason, a.Message, d.gate.Opened(), err)
	}
	d.decision(t)
	if a, err = d.lane.AdmitOrder(t.Context(), supervisor, "came alone", "A1B2C", true); err != nil || !a.Admitted() {
		t.Errorf("looked at: %v %s, %v", a.Verdict, a.Reason, err)
	}
	d.decision(t)
	d.gate.Pass(1)
	d.settled(t)
}

// A full disk keeps no lane in service that staff took out of it; once there is
// room, saying it again makes the record, once.
func TestOutOfOrderIsRecordedLater(t *testing.T) {
	j := new(hookedJournal)
	d := newDoorway(t, j.hooked)
	set := func(on bool) error { return d.lane.SetOutOfOrder(t.Context(), steward, "glass", on) }
	j.full(true)
	if err := set(true); !errors.Is(err, journal.ErrFull) || !slices.Equal(d.lane.Halted(), []string{"staff"}) {
		t.Errorf("%v, halted by %v", err, d.lane.Halted())
	}
	d.wantKinds(t, "")
	j.full(false)
	for range 2 {
		if err := set(true); err != nil {
			t.Error(err)
		}
		d.wantKinds(t, "incident(out_of_order)")
	}
	j.full(true)
	if err := set(false); !errors.Is(err, journal.ErrFull) || len(d.lane.Halted()) != 1 {
		t.Errorf("back without a record: %v, halted by %v", err, d.lane.Halted())
	}
	j.full(false)
	if err := set(false); err != nil || len(d.lane.Halted()) != 0 {
		t.Errorf("back: %v, halted by %v", err, d.lane.Halted())
	}
	d.wantKinds(t, "incident(out_of_order) incident(out_of_order)")
}

// The list that blocks somebody comes while staff compares them with the photo.
func TestBlockedWhileStaffLooksStaysOut(t *testing.T) {
	for want, change := range map[terminal.Reason]func(*whitelist.Listed) bool{
		terminal.Blocked:   func(l *whitelist.Listed) bool { l.Row.Status = whitelist.Blocked; return true },
		terminal.WrongGate: func(l *whitelist.Listed) bool { l.Row.Entitlements[0].Gates = []string{"north"}; return true },
		terminal.NotListed: func(*whitelist.Listed) bool { return false },
	} {
		inBubble(t, func(t *testing.T) {
			r := newRig(t, methods(jpki.TapUse), func(_ *rig, c *terminal.Config, _ *terminal.Parts) {
				c.HolderCheck = map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckStaff}
			})
			img, row := r.newCard(t, "once", perso.CardOptions{})
			m := r.Manifest
			m.Seq++
			r.load(t, m, append(slices.Clone(r.rows), row)...)
			if a := r.tap(t, card(t, img, vcard.Options{})); a.Verdict != terminal.Attend {
				t.Fatalf("%v %s (%v)", a.Verdict, a.Reason, a.Cause)
			}
			rows := slices.Clone(r.rows)
			if change(&row) {
				rows = append(rows, row)
			}
			m.Seq++
			r.load(t, m, rows...)
			synctest.Wait()
			if !r.gate.Press(true) {
				t.Fatal("nobody waits")
			}
			if b := r.decision(t); b.Admitted() || b.Reason != want {
				t.Errorf("%v %s (%v), want %s", b.Verdict, b.Reason, b.Cause, want)
			}
			if r.gate.Opened() != 0 || strings.Contains((&doorway{rig: r}).kinds(t), string(journal.KindReserve)) {
				t.Errorf("opened %d times", r.gate.Opened())
			}
		})
	}
}
