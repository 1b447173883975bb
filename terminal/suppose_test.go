package terminal

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What explain supposes is what a tap goes by: who compares person and card
// follows from the method, and that from the row.
func TestSupposeChoosesAsATapDoes(t *testing.T) {
	now := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	list := whitelist.Manifest{IssuedAt: now.Add(-time.Hour)}
	c := Config{
		GateName: "gate-1", Direction: Exit, Methods: []jpki.Method{jpki.TapUse, jpki.ExternalAuth}, FirstUse: true,
		HolderCheck: map[jpki.Method]HolderCheck{jpki.TapUse: CheckNone},
	}
	f, method, err := c.Suppose(whitelist.Row{BirthDate: "19900401"}, list, now, now.Add(-time.Minute))
	if err != nil || method != jpki.TapUse || f.HolderCheck != CheckNone || f.Direction != Exit || !f.Instant.Equal(now) || f.Place == nil {
		t.Errorf("%v: %s, %+v", err, method, f)
	}
	c.Methods = c.Methods[1:]
	c.Anchors = append(c.Anchors, nil)
	if f, method, err = c.Suppose(whitelist.Row{}, list, now, now.Add(time.Hour)); err != nil || method != jpki.ExternalAuth || f.HolderCheck != CheckStaff ||
		!f.Instant.Equal(now.Add(time.Hour)) || !f.Clock.Equal(now) {
		t.Errorf("%v: %s, %+v", err, method, f)
	}
	c.Anchors, c.FirstUse, c.Methods = nil, false, []jpki.Method{jpki.TapUse}
	if _, _, err := c.Suppose(whitelist.Row{}, list, now, now); !errors.Is(err, ErrNoKey) {
		t.Errorf("a row without a key: %v", err)
	}
	c.Anchors, c.Methods = append(c.Anchors, nil), []jpki.Method{jpki.ExternalAuth}
	list.Venue.Gates = []whitelist.Gate{{ID: 1, Name: "gate-2"}}
	if f, _, err = c.Suppose(whitelist.Row{}, list, now, now); err != nil || f.Place != nil {
		t.Errorf("at a gate that the list does not have: %v, %+v", err, f.Place)
	}
	f.Direction = Entry
	if r, _ := Explain(f); r.Verdict != Deny || r.Reason != WrongGate {
		t.Errorf("%+v", r)
	}
}

func TestHaltedNamesWhatKeepsALane(t *testing.T) {
	var l Lane
	for _, c := range []struct {
		halt Halt
		want string
	}{{0, "[]"}, {HaltSensor, "[sensor]"}, {HaltAlarm, "[alarm sensor]"}, {HaltStaff, "[alarm staff sensor]"}} {
		l.halts.set(c.halt, true)
		if got := fmt.Sprint(l.Halted()); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
