package terminal_test

import (
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// Neither ends what the other has begun, and nobody at the gate opens it against the
// operator's word.
func TestCommandAndStaffKeepALaneOutOfOrderApart(t *testing.T) {
	d := newDoorway(t)
	both := func(want ...string) {
		t.Helper()
		if got := d.lane.Halted(); !slices.Equal(got, want) {
			t.Errorf("halted by %q, want %q", got, want)
		}
	}
	command := func(on bool) {
		t.Helper()
		if err := d.lane.Command(t.Context(), "改札を閉じます", on); err != nil {
			t.Error(err)
		}
	}
	staff := func(on bool) {
		t.Helper()
		if err := d.lane.SetOutOfOrder(t.Context(), steward, "glass", on); err != nil {
			t.Error(err)
		}
	}
	command(true)
	command(true) // said twice, it is one
	d.wantKinds(t, "incident(out_of_order)")
	both("command")
	if _, err := d.lane.Override(t.Context(), supervisor, "VIP", 1); err == nil || d.gate.Opened() != 0 {
		t.Errorf("staff opens a gate that the operator has shut: %v", err)
	}
	staff(true)
	both("staff", "command")
	command(false)
	both("staff")
	command(true)
	staff(false)
	both("command")
	if shows, _ := d.lane.Idle(); shows != terminal.ShowOutOfOrder {
		t.Errorf("the lamps show %v", shows)
	}
	command(false)
	both()
	if a, err := d.lane.Override(t.Context(), supervisor, "VIP", 1); err != nil || !a.Admitted() {
		t.Errorf("back in order: %v, %v", a.Verdict, err)
	}
	d.decision(t)
	d.gate.Pass(1)
	d.settled(t)
}
