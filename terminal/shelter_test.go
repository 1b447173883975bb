package terminal_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// newShelterDoor is a shelter whose entrance counts, both ways.
func newShelterDoor(t testing.TB, options ...func(*rig, *terminal.Config, *terminal.Parts)) *doorway {
	t.Helper()
	return newDoorway(t, append(options, methods(jpki.ExternalAuth), func(_ *rig, c *terminal.Config, _ *terminal.Parts) {
		c.Mode, c.FirstUse = terminal.Muster, false
	})...)
}

// Whoever leaves a shelter goes against its lane, and is no tailgater.
func TestSensorCountsWhoLeavesAShelter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newShelterDoor(t)
		c := card(t, d.card(t, "not listed", jpki.ExternalAuth), vcard.Options{})
		d.tap(t, c)
		d.gate.Pass(1)
		d.settled(t)
		time.Sleep(time.Hour)
		if a := d.tap(t, c); a.Reason != terminal.Leaving {
			t.Fatalf("%v %s", a.Verdict, a.Reason)
		}
		d.gate.Pass(1) // somebody comes in meanwhile, whom nobody admitted
		synctest.Wait()
		d.gate.PassBack()
		if s := d.settled(t); s.Passed != 1 {
			t.Errorf("%v %s, %d left", s.Verdict, s.Reason, s.Passed)
		}
		d.wantKinds(t, "reserve commit reserve incident(tailgate) commit")
	})
}

// Staff annuls the arrival in the moment in which the same card leaves: it
// arrives, and is written down as coming in.
func TestArrivalThatIsDecidedAnewIsNoExit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		j := new(hookedJournal)
		d := newShelterDoor(t, j.hooked)
		c := card(t, d.card(t, "not listed", jpki.ExternalAuth), vcard.Options{})
		first := d.tap(t, c)
		d.gate.Pass(1)
		d.settled(t)
		time.Sleep(time.Hour)
		left := 0
		j.set(func(kind journal.Kind, again terminal.Decision) error {
			if kind != journal.KindReserve || again.Direction != terminal.Exit {
				return nil
			}
			left++
			return d.site.Journal.SettleBy(context.Background(), first.Reservation, 0, steward, "wrong card")
		})
		if b := d.tap(t, c); left != 1 || b.Reason != terminal.OK || b.Direction != terminal.Entry {
			t.Errorf("%v %s as %v, left %d times", b.Verdict, b.Reason, b.Direction, left)
		}
		d.gate.Pass(1)
		d.settled(t)
		if h, err := d.site.Journal.History(t.Context(), first.Entitlement); err != nil || len(h.Passages) != 1 || h.Passages[0].Direction != terminal.Entry {
			t.Errorf("%+v, %v", h.Passages, err)
		}
	})
}
