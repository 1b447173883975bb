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
	if err := g.Open(t.Context(), new(terminal.Permit), 1); !errors.Is(err, terminal.ErrNoPermit) || g.Opened() != 0 || g.IsOpen() || seen != nil {
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

func TestTemporarySignalsGiveWayToTheLastingOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.NewSimulator(nil)
		for _, lasting := range []terminal.Signal{terminal.ShowReady, terminal.ShowCaution, terminal.ShowAttend, terminal.ShowOutOfOrder, terminal.ShowEmergency} {
			g.Show(lasting)
			g.Show(terminal.ShowDeny)
			g.Show(terminal.ShowTailgate)
			time.Sleep(4 * time.Second)
			if g.Signal() != terminal.ShowTailgate {
				t.Errorf("%v came too early", g.Signal())
			}
			time.Sleep(2 * time.Second)
			if g.Signal() != lasting {
				t.Errorf("%v, want %v", g.Signal(), lasting)
			}
		}
	})
}

func TestSimulatorOpensAndShuts(t *testing.T) {
	var told []string
	g := gate.NewSimulator(func(what string) { told = append(told, what) })
	if err := g.OpenWith(t.Context(), permitted, 0); err == nil {
		t.Error("opened for nobody")
	}
	if err := g.OpenWith(t.Context(), permitted, 3); err != nil || !g.IsOpen() || g.People() != 3 || g.Opened() != 1 {
		t.Errorf("error %v, open %v, people %d, opened %d", err, g.IsOpen(), g.People(), g.Opened())
	}
	for range 2 {
		if err := g.Shut(); err != nil || g.IsOpen() {
			t.Errorf("error %v, open %v", err, g.IsOpen())
		}
	}
	if want := []string{"relay: gate opens", "relay: gate shuts"}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

func TestSimulatorCountsOnlyWithASensor(t *testing.T) {
	blind, sighted := gate.NewSimulator(nil), gate.NewSimulator(nil).WithSensor()
	for _, g := range []*gate.Simulator{blind, sighted} {
		g.Pass(2)
		g.PassBack()
		g.Stick(true)
		g.Stick(false)
	}
	if got := seen(blind); blind.Counts() || got != nil {
		t.Errorf("without a sensor: %v", got)
	}
	if got := seen(sighted); !sighted.Counts() || !slices.Equal(got, []terminal.Sensed{passage, passage, wrongWay, stuck, free}) {
		t.Errorf("with a sensor: %v", got)
	}
}

// Nobody reads: what is put in the place of the passages says how it is.
func TestFullFeedSaysThatTheSensorIsStillStuck(t *testing.T) {
	for _, still := range []bool{true, false} {
		g := gate.NewSimulator(nil).WithSensor()
		g.Stick(true)
		g.Stick(still)
		_ = seen(g)
		g.Pass(257)
		want := []terminal.Sensed{stuck}
		if !still {
			want = append(want, free)
		}
		if got := seen(g); !slices.Equal(got, want) {
			t.Errorf("stuck %v: %v", still, got)
		}
	}
}

func TestSimulatorIsNotMovedAgainstTheAlarm(t *testing.T) {
	g := gate.NewSimulator(nil)
	if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
		t.Fatal(err)
	}
	g.Alarm(true)
	if err := g.Shut(); err != nil || !g.IsOpen() {
		t.Errorf("shut during the alarm: %v, open %v", err, g.IsOpen())
	}
	if err := g.OpenWith(t.Context(), permitted, 1); !errors.Is(err, gate.ErrAlarm) || g.Opened() != 1 {
		t.Errorf("error %v, opened %d", err, g.Opened())
	}
	g.Alarm(false)
	if got := seen(g); g.IsOpen() || !slices.Equal(got, []terminal.Sensed{alarm, allClear}) {
		t.Errorf("open %v, seen %v", g.IsOpen(), got)
	}
}
