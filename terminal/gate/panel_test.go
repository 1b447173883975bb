package gate_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"

	"github.com/gate-agent/gate-agent/terminal"
)

// lit says which of some pins are on.
func (b *bench) lit(pins ...string) string {
	synctest.Wait()
	var on []string
	for _, p := range pins {
		if b.pins[p].Read() == gpio.High {
			on = append(on, p)
		}
	}
	return strings.Join(on, " ")
}

func TestSignalIsShownAndGivesWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "L1", "L2", "L3", "B1")
		g := b.must(hold + colours)
		lit := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after)
			if got := b.lit("L1", "L2", "L3", "B1"); got != want {
				t.Errorf("%v after the start: %q is on, want %q", time.Since(b.began), got, want)
			}
		}
		lit(0, "L1") // out of order, and silent, until a lane says otherwise
		g.Show(terminal.ShowReady)
		lit(10*time.Second, "L3")
		g.Show(terminal.ShowDeny)
		lit(0, "L1 B1")
		lit(160*time.Millisecond, "B1")
		lit(150*time.Millisecond, "L1")
		lit(1180*time.Millisecond, "") // 1.49 s
		lit(20*time.Millisecond, "L3") // ready by itself
		g.Show(terminal.ShowEmergency)
		lit(0, "L3 B1")
		g.Show(terminal.ShowTailgate)
		lit(0, "L1 L2 B1")
		lit(5010*time.Millisecond, "L3") // emergency again, without a sound
		g.Show(terminal.ShowEmergency)
		lit(20*time.Millisecond, "L3") // said already
		g.Show(terminal.ShowAttend)
		lit(900*time.Millisecond, "")
		g.Show(terminal.ShowAttend)
		lit(0, "") // and does not begin again
		g.Show(terminal.Signal(99))
		lit(0, "L1 B1") // a signal that does not exist
	})
}

func TestFourInARowLightUpOneAfterAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "L1", "L2", "L3", "L4")
		for _, p := range []string{"L1", "L2", "L3", "L4"} {
			b.pins[p].L = gpio.Low
		}
		g := b.must(hold + `
[gate.lamps]
style  = "emv4"
active = "high"
row    = ["L1", "L2", "L3", "L4"]
`)
		g.Show(terminal.ShowReady)
		if got := b.lit("L1", "L2", "L3", "L4"); got != "L1" {
			t.Errorf("ready: %q", got)
		}
		g.Show(terminal.ShowAdmit)
		var seen []string
		for range 4 {
			seen = append(seen, b.lit("L1", "L2", "L3", "L4"))
			time.Sleep(121 * time.Millisecond)
		}
		if got, want := strings.Join(seen, ", "), "L1, L1 L2, L1 L2 L3, L1 L2 L3 L4"; got != want {
			t.Errorf("admit: %s, want %s", got, want)
		}
		time.Sleep(1100 * time.Millisecond)
		if got := b.lit("L1", "L2", "L3", "L4"); got != "L1" {
			t.Errorf("ready again: %q", got)
		}
	})
}

// A lamp that is broken is told once, and the others go on.
func TestBrokenLampIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "L1", "L2", "L3", "B1")
		g := b.must(hold + colours)
		burnt := errors.New("input/output error")
		b.pins["L2"].fail = func(l gpio.Level) error {
			if l == gpio.High {
				return burnt
			}
			return nil
		}
		g.Show(terminal.ShowCaution)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(b.faults) != 1 || !errors.Is(b.faults[0], burnt) || !strings.Contains(b.faults[0].Error(), "gate.lamps.amber") {
			t.Errorf("faults %v", b.faults)
		}
		if got := b.lit("L3"); got != "L3" {
			t.Errorf("%q is on", got)
		}
	})
}
