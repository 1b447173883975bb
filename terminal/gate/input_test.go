package gate_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

// Names that fit a line.
const (
	passage  = terminal.SensedPassage
	wrongWay = terminal.SensedWrongWay
	stuck    = terminal.SensedStuck
	free     = terminal.SensedFree
	alarm    = terminal.SensedAlarm
	allClear = terminal.SensedAllClear
)

// A move is a level on an input, and how long until the next.
type move struct {
	pin   string
	level gpio.Level
	then  time.Duration
}

func TestPeopleAreCounted(t *testing.T) {
	const (
		lo, hi = gpio.Low, gpio.High
		step   = 150 * time.Millisecond
	)
	bounce := func(pin string, last gpio.Level) (moves []move) {
		for range 5 {
			moves = append(moves, move{pin, last, time.Millisecond}, move{pin, !last, 2 * time.Millisecond})
		}
		return append(moves, move{pin, last, step})
	}
	for name, c := range map[string]struct {
		sensor string
		moves  []move
		want   []terminal.Sensed
	}{
		"one person":              {oneBeam, []move{{"S1", lo, step}, {"S1", hi, step}}, []terminal.Sensed{passage}},
		"still in the beam":       {oneBeam, []move{{"S1", lo, step}}, nil},
		"a bouncing sensor":       {oneBeam, slices.Concat(bounce("S1", lo), bounce("S1", hi)), []terminal.Sensed{passage}},
		"a spike is nobody":       {oneBeam, []move{{"S1", lo, 3 * time.Millisecond}, {"S1", hi, step}}, nil},
		"two, 300 ms apart":       {oneBeam, []move{{"S1", lo, step}, {"S1", hi, step}, {"S1", lo, step}, {"S1", hi, step}}, []terminal.Sensed{passage, passage}},
		"through both":            {twoBeams, []move{{"S1", lo, step}, {"S2", lo, step}, {"S1", hi, step}, {"S2", hi, step}}, []terminal.Sensed{passage}},
		"slim, beams far apart":   {twoBeams, []move{{"S1", lo, step}, {"S1", hi, step}, {"S2", lo, step}, {"S2", hi, step}}, []terminal.Sensed{passage}},
		"the wrong way":           {twoBeams, []move{{"S2", lo, step}, {"S1", lo, step}, {"S2", hi, step}, {"S1", hi, step}}, []terminal.Sensed{wrongWay}},
		"turned round in between": {twoBeams, []move{{"S1", lo, step}, {"S1", hi, 5 * time.Second}, {"S2", lo, step}, {"S1", lo, step}}, []terminal.Sensed{wrongWay}},
		"close behind": {twoBeams, []move{{"S1", lo, step}, {"S2", lo, step}, {"S1", hi, step}, {"S1", lo, step}, {"S2", hi, step},
			{"S2", lo, step}, {"S1", hi, step}, {"S2", hi, step}}, []terminal.Sensed{passage, passage}},
		"both bouncing": {twoBeams, slices.Concat(bounce("S1", lo), bounce("S2", lo), bounce("S1", hi), bounce("S2", hi)), []terminal.Sensed{passage}},
		"there and back": {twoBeams, []move{{"S1", lo, step}, {"S2", lo, step}, {"S1", hi, step}, {"S2", hi, step},
			{"S2", lo, step}, {"S1", lo, step}, {"S2", hi, step}, {"S1", hi, step}}, []terminal.Sensed{passage, wrongWay}},
		"stood still, then went on": {twoBeams, []move{{"S1", lo, 12 * time.Second}, {"S1", hi, step}, {"S2", lo, step}, {"S2", hi, step},
			{"S1", lo, step}, {"S2", lo, step}}, []terminal.Sensed{stuck, free, passage, passage}},
		"went on while nobody could be counted": {twoBeams, []move{{"S1", lo, 12 * time.Second}, {"S2", lo, step}, {"S1", hi, step}, {"S2", hi, step},
			{"S1", lo, step}, {"S2", lo, step}}, []terminal.Sensed{stuck, free, passage}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b := newBench(t, "K1", "S1", "S2")
				g := b.must(hold + c.sensor)
				for _, m := range c.moves {
					b.level(m.pin, m.level, m.then)
				}
				if got := seen(g); !g.Counts() || !slices.Equal(got, c.want) {
					t.Errorf("%v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestGateWithoutASensorDoesNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		if newBench(t, "K1").must(hold).Counts() {
			t.Error("it does")
		}
	})
}

// The level is read as well: a chip without edges only makes it slower.
func TestPassageIsSeenThoughEdgesNeverArrive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "S1")
		g := b.must(hold + oneBeam)
		for _, l := range []gpio.Level{gpio.Low, gpio.High} {
			_ = b.pins["S1"].Pin.Out(l)
			time.Sleep(100 * time.Millisecond)
		}
		if got := seen(g); !slices.Equal(got, []terminal.Sensed{passage}) {
			t.Errorf("%v", got)
		}
	})
}

func TestBlockedSensorIsToldOnceAndIsNobody(t *testing.T) {
	for _, sensor := range []string{oneBeam, twoBeams} {
		inBubble(t, func(t *testing.T) {
			b := newBench(t, "K1", "S1", "S2")
			g := b.must(hold + sensor + `stuck_after = "4s"`)
			b.level("S1", gpio.Low, 3*time.Second)
			if got := seen(g); got != nil {
				t.Errorf("too early: %v", got)
			}
			time.Sleep(time.Minute)
			if got := seen(g); !slices.Equal(got, []terminal.Sensed{stuck}) {
				t.Errorf("blocked: %v", got)
			}
			b.level("S1", gpio.High, time.Second)
			if got := seen(g); !slices.Equal(got, []terminal.Sensed{free}) {
				t.Errorf("free again: %v", got)
			}
		})
	}
}

func TestChatteringSensorIsStuck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "S1")
		g := b.must(hold + oneBeam + `stuck_after = "2s"`)
		for range 1000 {
			b.level("S1", gpio.Low, 3*time.Millisecond)
			b.level("S1", gpio.High, 3*time.Millisecond)
		}
		time.Sleep(time.Second)
		if got := seen(g); !slices.Equal(got, []terminal.Sensed{stuck, free}) {
			t.Errorf("%v", got)
		}
	})
}

// What stands in the lane when the program starts was never admitted and never
// refused.
func TestWhatBlocksTheSensorAtTheStartIsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "S1")
		b.pins["S1"].L = gpio.Low
		g := b.must(hold + oneBeam)
		time.Sleep(time.Second)
		b.level("S1", gpio.High, time.Second)
		if got := seen(g); got != nil {
			t.Errorf("%v", got)
		}
	})
}

func TestUnreadPassagesAreNotLostInSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "S1", "F1")
		g := b.must(hold + oneBeam + fire)
		b.level("F1", gpio.Low, time.Second)
		for range 300 {
			b.press("S1", 50*time.Millisecond)
		}
		got := seen(g)
		if want := []terminal.Sensed{stuck, free, alarm, passage}; len(got) < 4 || !slices.Equal(got[:4], want) || len(b.faults) != 1 {
			t.Errorf("%v, want first %v; faults %v", got, want, b.faults)
		}
	})
}

func TestAlarmAtTheStartIsToldAndNothingOpens(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "F1")
		b.pins["F1"].L = gpio.Low
		g := b.must(hold + fire)
		if got := seen(g); !slices.Equal(got, []terminal.Sensed{alarm}) {
			t.Errorf("%v", got)
		}
		spent := 0
		if err := g.OpenWith(t.Context(), func() error { spent++; return nil }, 1); !errors.Is(err, gate.ErrAlarm) || spent != 0 {
			t.Errorf("error %v, permits spent %d", err, spent)
		}
		b.level("F1", gpio.High, time.Second)
		if got := seen(g); !slices.Equal(got, []terminal.Sensed{allClear}) {
			t.Errorf("%v", got)
		}
		if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
			t.Error(err)
		}
	})
}

func TestAlarmIsNotMovedAgainst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "F1")
		g := b.must(hold + fire + "debounce = \"10ms\"\n")
		if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
			t.Fatal(err)
		}
		b.level("F1", gpio.Low, time.Second)
		if err := g.Shut(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // longest, too, is over
		if got, want := b.of("K1"), "High 0s, Low 0s"; got != want {
			t.Errorf("during the alarm: %s, want %s", got, want)
		}
		b.level("F1", gpio.High, time.Second)
		if got, want := b.of("K1"), "High 0s, Low 0s, High 1m1.01s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestAlarmGivesNoFurtherPulse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "F1")
		g := b.must(pulse + fire)
		if err := g.OpenWith(t.Context(), permitted, 5); err != nil {
			t.Fatal(err)
		}
		b.level("F1", gpio.Low, time.Minute)
		b.level("F1", gpio.High, time.Minute)
		if got, want := b.of("K1"), "Low 0s, High 0s, Low 50ms"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestStaffKeysAnswerOnlyWhoeverWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "C1", "C2")
		g := b.must(hold + keys)
		b.press("C1", 100*time.Millisecond)  // nobody waits
		b.level("C1", gpio.Low, time.Second) // held down from before
		early, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if confirmed, err := g.Check(early, terminal.Decision{}); confirmed || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody pressed: %v, %v", confirmed, err)
		}
		b.level("C1", gpio.High, time.Second)
		for key, want := range map[string]bool{"C1": true, "C2": false} {
			type answer struct {
				confirmed bool
				err       error
			}
			got := make(chan answer, 1)
			go func() {
				confirmed, err := g.Check(t.Context(), terminal.Decision{})
				got <- answer{confirmed, err}
			}()
			synctest.Wait()
			b.press(key, 5*time.Millisecond) // a spike is no key
			if len(got) != 0 {
				t.Error("a spike answered")
			}
			b.press(key, 100*time.Millisecond)
			if a := <-got; a.confirmed != want || a.err != nil {
				t.Errorf("%s: %+v", key, a)
			}
		}
	})
}

func TestGateWithoutKeysDoesNotKeepAnybodyWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newBench(t, "K1").must(hold)
		if confirmed, err := g.Check(t.Context(), terminal.Decision{}); confirmed || err == nil {
			t.Errorf("%v, %v", confirmed, err)
		}
	})
}
