package terminal_test

import (
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/whitelist"
)

// The holder opens the exit and stays inside, a friend outside enters by the
// other credential of the ticket: nobody left, so nobody comes back.
func TestOpenExitEarnsNoReentry(t *testing.T) {
	d := newDoorway(t)
	var cards []*vcard.Card
	rows := d.rows
	for range 2 {
		img, row := d.newCard(t, "pass", perso.CardOptions{})
		row.Row.Entitlements[0].Uses, row.Row.Entitlements[0].ReEntry = 1, whitelist.ReEntryAfterExit
		rows, cards = append(rows, row), append(cards, card(t, img, vcard.Options{}))
	}
	m := d.Manifest
	m.Seq, m.Venue = m.Seq+1, whitelist.Venue{TimeZone: "Asia/Tokyo"}
	d.load(t, m, rows...)

	exit := &doorway{over: make(chan time.Time), rig: &rig{
		cast: d.cast, site: d.site, field: nfctest.NewField(slotA), gate: gate.NewSimulator(nil).WithSensor(), decisions: make(chan terminal.Decision, 4),
	}}
	lane, _, err := d.site.Lane(exit.field, func(c *terminal.Config, p *terminal.Parts) {
		c.Direction, c.Terminal = terminal.Exit, "exit"
		p.Gate, p.Checker = exit.gate, exit.gate
		p.After = func(time.Duration) <-chan time.Time { return exit.over }
		p.Observe = func(x terminal.Decision) { exit.decisions <- x }
	})
	if err != nil {
		t.Fatal(err)
	}
	exit.run(t, lane)
	t.Cleanup(func() { close(exit.over) })

	if a := d.tap(t, cards[0]); !a.Admitted() {
		t.Fatalf("%v %s (%v)", a.Verdict, a.Reason, a.Cause)
	}
	d.gate.Pass(1)
	d.settled(t)
	leave := func() {
		t.Helper()
		if x := exit.tap(t, cards[0]); !x.Admitted() || x.Reason != terminal.Leaving {
			t.Fatalf("at the exit: %v %s (%v)", x.Verdict, x.Reason, x.Cause)
		}
	}
	leave()
	if b := d.tap(t, cards[1]); b.Reason != terminal.ExitRequired {
		t.Errorf("the friend, while the exit is open: %v %s for %d people", b.Verdict, b.Reason, b.People)
	}
	if x := exit.late(t); x.Passed != 0 {
		t.Errorf("%d left", x.Passed)
	}
	if b := d.tap(t, cards[1]); b.Reason != terminal.ExitRequired {
		t.Errorf("the friend, when nobody left: %v %s for %d people", b.Verdict, b.Reason, b.People)
	}
	// Whoever does leave comes back.
	leave()
	exit.gate.Pass(1)
	exit.settled(t)
	if b := d.tap(t, cards[1]); !b.Admitted() || b.Reentry != 1 {
		t.Errorf("back again: %v %s, %d of %d again", b.Verdict, b.Reason, b.Reentry, b.People)
	}
	d.gate.Pass(1)
	d.settled(t)
}
