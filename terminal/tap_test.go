package terminal_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

func TestEveryoneGetsTheAnswerTheyShould(t *testing.T) {
	for _, method := range []jpki.Method{jpki.TapUse, jpki.ExternalAuth} {
		r := newRig(t, methods(method))
		for _, p := range r.people {
			if p.Method != method {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", method, p.Name), func(t *testing.T) {
				var m nfctest.Medium = card(t, p.Image, vcard.Options{})
				if p.PullAt > 0 {
					m = nfctest.Pulled(m, p.PullAt)
				}
				before := r.gate.Opened()
				d := r.tap(t, m)
				if d.Verdict != p.Verdict || d.Reason != p.Reason {
					t.Errorf("%v %s (%v), want %v %s", d.Verdict, d.Reason, d.Cause, p.Verdict, p.Reason)
				}
				if opened := r.gate.Opened() - before; opened != 0 != d.Admitted() {
					t.Errorf("%v, and the gate opened %d times", d.Verdict, opened)
				}
			})
		}
	}
}

func TestAdmissionIsRecordedBeforeTheGateOpens(t *testing.T) {
	r := newRig(t)
	d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	if !d.Admitted() {
		t.Fatal(d.Reason, d.Cause)
	}
	events := r.events(t)
	if len(events) != 2 || events[0].Kind != journal.KindReserve || events[1].Kind != journal.KindCommit {
		t.Fatalf("journal: %+v", events)
	}
	e := events[0]
	if e.Verdict != "admit" || e.Reason != terminal.OK || e.Method != "tap-use" || e.CardID != d.CardID ||
		e.Entitlement != "ticket-alice" || e.ListSeq != 1 {
		t.Errorf("reserved: %+v", e.Event)
	}
	r.wantUses(t, 1)
}

// The relay finds the reservation in the journal at the moment it moves.
func TestReservationIsThereWhenTheRelayMoves(t *testing.T) {
	var watched *watchingGate
	r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
		watched = &watchingGate{Simulator: gate.NewSimulator(nil), journal: r.site.Journal}
		p.Gate = watched
	})
	if d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); !d.Admitted() {
		t.Fatal(d.Reason, d.Cause)
	}
	if watched.uses != 1 {
		t.Errorf("%d entries stood when the relay moved", watched.uses)
	}
}

func TestACardLeftOnTheReaderIsReadOnce(t *testing.T) {
	r := newRig(t)
	r.put(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	select {
	case d := <-r.decisions:
		t.Errorf("read again: %v %s", d.Verdict, d.Reason)
	case <-time.After(50 * time.Millisecond):
	}
	r.field.Remove(slotA)
	if d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); !d.Admitted() {
		t.Errorf("taken away and presented again: %s", d.Reason)
	}
}

func TestSingleUseTicketAdmitsOnce(t *testing.T) {
	r := newRig(t)
	img, row := r.newCard(t, "single", perso.CardOptions{})
	row.Row.Entitlements[0].Uses = 1
	m := r.Manifest
	m.Seq = 2
	r.load(t, m, append(r.rows, row)...)
	if d := r.tap(t, card(t, img, vcard.Options{})); !d.Admitted() || d.ListSeq != 2 {
		t.Fatalf("first: %s by list %d (%v)", d.Reason, d.ListSeq, d.Cause)
	}
	if d := r.tap(t, card(t, img, vcard.Options{})); d.Admitted() || d.Reason != terminal.AlreadyUsed {
		t.Errorf("second: %v %s", d.Verdict, d.Reason)
	}
}

// Two lanes of one terminal, the same ticket at the same time.
func TestLastUseIsTakenByOneLane(t *testing.T) {
	r := newRig(t)
	img, row := r.newCard(t, "shared", perso.CardOptions{})
	row.Row.Entitlements[0].Uses = 1
	m := r.Manifest
	m.Seq = 2
	r.load(t, m, row)
	const lanes = 8
	decisions := make(chan terminal.Decision, lanes)
	var start sync.WaitGroup
	for range lanes {
		field := nfctest.NewField(slotA)
		lane, _, err := r.site.Lane(field, func(_ *terminal.Config, p *terminal.Parts) {
			p.Observe = func(d terminal.Decision) { decisions <- d }
		})
		if err != nil {
			t.Fatal(err)
		}
		r.run(t, lane)
		start.Go(func() { field.Insert(slotA, card(t, img, vcard.Options{})) })
	}
	start.Wait()
	admitted := 0
	for range lanes {
		d := <-decisions
		if d.Admitted() {
			admitted++
		} else if d.Reason != terminal.AlreadyUsed {
			t.Errorf("%s (%v)", d.Reason, d.Cause)
		}
	}
	if admitted != 1 {
		t.Errorf("%d of %d lanes admitted", admitted, lanes)
	}
}

func TestMethodFollowsTheRowNeverTheCard(t *testing.T) {
	r := newRig(t) // tap-use first, then external-auth
	for name, c := range map[string]struct {
		method jpki.Method // at whose gate the person stands in the cast
		want   jpki.Method
	}{
		"listed":                     {jpki.TapUse, jpki.TapUse},             // both keys: the first method
		"listed, SIM of a phone":     {jpki.ExternalAuth, jpki.ExternalAuth}, // no card key
		"listed, key not registered": {jpki.ExternalAuth, jpki.ExternalAuth}, // no key at all
	} {
		if d := r.tap(t, card(t, r.card(t, name, c.method), vcard.Options{})); !d.Admitted() || d.Method != c.want {
			t.Errorf("%s: %v %s by %q (%v), want %q", name, d.Verdict, d.Reason, d.Method, d.Cause, c.want)
		}
	}
	// A card that fails the row's method is not tried by another one.
	broken := bend(card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}), answerAt(3, 0x6A, 0x82))
	d := r.tap(t, broken)
	if d.Admitted() || d.Reason != terminal.CardUnsupported || d.Method != jpki.TapUse || d.TerminalSignatures != 0 {
		t.Errorf("%v %s by %q with %d signatures", d.Verdict, d.Reason, d.Method, d.TerminalSignatures)
	}
}

// A card that could do it is to be registered again; a SIM could not. Neither
// learns what its row says.
func TestRowWithoutAKeyForTheMethodIsRefused(t *testing.T) {
	for name, want := range map[string]terminal.Reason{
		"listed, key not registered": terminal.NotListed,
		"listed, SIM of a phone":     terminal.CardUnsupported,
	} {
		r := newRig(t, methods(jpki.TapUse))
		d := r.tap(t, card(t, r.card(t, name, jpki.ExternalAuth), vcard.Options{}))
		r.wantShut(t, d, want)
	}
}

func staff(_ *rig, c *terminal.Config, _ *terminal.Parts) {
	c.HolderCheck = map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckStaff}
	c.HolderCheckTimeout = time.Second
}

func TestStaffOpensTheGateOnlyByConfirming(t *testing.T) {
	for answer, want := range map[string]struct {
		verdict terminal.Verdict
		reason  terminal.Reason
		check   terminal.CheckOutcome
	}{
		"confirm": {terminal.Admit, terminal.OK, "confirmed"},
		"refuse":  {terminal.Deny, terminal.ManualCheck, "refused"},
		"nothing": {terminal.Deny, terminal.ManualCheck, "timeout"},
	} {
		t.Run(answer, func(t *testing.T) {
			r := newRig(t, methods(jpki.TapUse), staff)
			first := r.put(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
			if first.Verdict != terminal.Attend || first.Reason != terminal.ManualCheck {
				t.Fatalf("%v %s (%v)", first.Verdict, first.Reason, first.Cause)
			}
			if r.gate.Opened() != 0 || r.gate.Signal() != terminal.ShowAttend {
				t.Fatalf("before staff looked: opened %d, lamp %v", r.gate.Opened(), r.gate.Signal())
			}
			r.wantUses(t, 0)
			r.field.Remove(slotA)
			for answer != "nothing" && !r.gate.Press(answer == "confirm") {
				time.Sleep(time.Millisecond)
			}
			second := r.decision(t)
			if second.Commands != 0 || second.Bytes != 0 {
				t.Error("the card's commands are counted twice")
			}
			if second.Verdict != want.verdict || second.Reason != want.reason || second.HolderCheck != want.check {
				t.Errorf("%v %s, holder check %q (%v)", second.Verdict, second.Reason, second.HolderCheck, second.Cause)
			}
			if opened := r.gate.Opened() == 1; opened != (answer == "confirm") {
				t.Errorf("the gate opened %d times", r.gate.Opened())
			}
			events := r.events(t)
			if events[0].Verdict != "attend" || events[1].HolderCheck != want.check {
				t.Errorf("journal: %+v", events)
			}
		})
	}
}

// Whatever a configuration leaves out, the person is compared with the card.
func TestMethodWithoutAHolderCheckWaitsForStaff(t *testing.T) {
	r := newRig(t, func(_ *rig, c *terminal.Config, p *terminal.Parts) { c.HolderCheck, p.Checker = nil, nil })
	d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	if d.Verdict != terminal.Attend || r.gate.Opened() != 0 {
		t.Errorf("%v, opened %d", d.Verdict, r.gate.Opened())
	}
}

// What somebody bought shows only after the card has proved itself.
func TestNothingOfTheRowShowsBeforeTheProof(t *testing.T) {
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	alice := c.card(t, "listed", jpki.TapUse)
	copied := c.card(t, "copied card", jpki.TapUse)
	head := mustRow(t, c, alice)
	for name, change := range map[string]func(*whitelist.Row){
		"revoked":   func(r *whitelist.Row) { r.Status = whitelist.Revoked },
		"blocked":   func(r *whitelist.Row) { r.Status = whitelist.Blocked },
		"late":      func(r *whitelist.Row) { r.Entitlements[0].NotAfter = c.Now.Add(-time.Hour) },
		"elsewhere": func(r *whitelist.Row) { r.Entitlements[0].Gates = []string{"gate-9"} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, methods(jpki.TapUse))
			row := head
			row.Row.Entitlements = []whitelist.Entitlement{{ID: "secret"}}
			change(&row.Row)
			m := r.Manifest
			m.Seq = 2
			r.load(t, m, row)
			d := r.tap(t, card(t, copied, vcard.Options{}))
			r.wantShut(t, d, terminal.AuthFailed)
			if d.Entitlement != "" {
				t.Error("the entitlement shows")
			}
			if d = r.tap(t, card(t, alice, vcard.Options{})); d.Admitted() || d.Reason == terminal.AuthFailed {
				t.Errorf("the genuine card: %v %s", d.Verdict, d.Reason)
			}
		})
	}
}

func mustRow(t *testing.T, c *cast, img *vcard.Image) whitelist.Listed {
	t.Helper()
	row, err := c.Row(img, "ticket")
	if err != nil {
		t.Fatal(err)
	}
	return row
}
