package gate_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

func TestRelayNeedsAPermit(t *testing.T) {
	var seen []string
	g := gate.NewSimulator(func(what string) { seen = append(seen, what) })
	if err := g.Open(t.Context(), new(terminal.Permit)); !errors.Is(err, terminal.ErrNoPermit) || g.Opened() != 0 || seen != nil {
		t.Errorf("error %v, opened %d, seen %q", err, g.Opened(), seen)
	}
}

func TestRedLastsAMomentAndAmberUntilStaffAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		g := gate.NewSimulator(func(what string) { seen = append(seen, what) })
		g.Show(terminal.ShowDeny)
		time.Sleep(time.Second)
		g.Show(terminal.ShowDeny) // the next person: red from now on
		time.Sleep(time.Second)
		if g.Signal() != terminal.ShowDeny {
			t.Errorf("the second red was cut short: %v", g.Signal())
		}
		time.Sleep(time.Second)
		g.Show(terminal.ShowAttend)
		time.Sleep(time.Minute)
		if want := []string{"lamp: red: stop", "lamp: ready", "lamp: amber: wait for staff"}; !slices.Equal(seen, want) {
			t.Errorf("seen %q", seen)
		}
	})
}

func TestStaffKeyCountsOnlyWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.NewSimulator(nil)
		if g.Press(true) {
			t.Error("pressed before anybody waits, and taken")
		}
		answer := make(chan bool)
		go func() {
			confirmed, err := g.Check(t.Context(), terminal.Decision{})
			if err != nil {
				t.Error(err)
			}
			answer <- confirmed
		}()
		synctest.Wait()
		if !g.Press(true) || !<-answer {
			t.Error("pressed while somebody waits, and lost")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if confirmed, err := g.Check(ctx, terminal.Decision{}); confirmed || err == nil {
			t.Error("nobody pressed, and it is confirmed")
		}
	})
}
