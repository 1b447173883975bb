package gate_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

func TestRelayIsAtRestBeforeAnythingElse(t *testing.T) {
	for active, rest := range map[string]string{"low": "High", "high": "Low"} {
		inBubble(t, func(t *testing.T) {
			b := newBench(t, "K1", "S1", "F1", "C1", "C2", "L1", "L2", "L3", "B1")
			b.must(strings.Replace(hold, "low", active, 1) + oneBeam + fire + keys + colours)
			if want := "K1 " + rest + " 0s"; b.did[0] != want {
				t.Errorf("active %s: first %q, want %q", active, b.did[0], want)
			}
			if got := b.of("K1"); got != rest+" 0s" {
				t.Errorf("active %s: relay %s", active, got)
			}
		})
	}
}

func TestRelayIsAtRestThoughTheStartFails(t *testing.T) {
	b := newBench(t, "K1")
	if _, err := b.open(hold + oneBeam); err == nil || len(b.did) != 1 || !strings.HasPrefix(b.did[0], "K1 High") {
		t.Errorf("error %v, did %q", err, b.did)
	}
}

func TestRestDoesNothingButRest(t *testing.T) {
	b := newBench(t, "K1", "S1", "L1", "L2", "L3", "B1")
	if err := gate.Rest(parse(t, hold+oneBeam+colours)); err != nil || len(b.did) != 1 || !strings.HasPrefix(b.did[0], "K1 High") {
		t.Errorf("error %v, did %q", err, b.did)
	}
	if err := gate.Rest(gate.Config{}); err == nil {
		t.Error("no relay, and it is at rest")
	}
}

func TestNothingMovesWithoutAPermit(t *testing.T) {
	for _, relay := range []string{hold, pulse} {
		inBubble(t, func(t *testing.T) {
			b := newBench(t, "K1")
			g := b.must(relay)
			before := b.of("K1")
			revoked := new(terminal.Permit)
			revoked.Revoke()
			if err := g.Open(t.Context(), revoked, 1); !errors.Is(err, terminal.ErrNoPermit) {
				t.Errorf("error %v", err)
			}
			spent := 0
			spend := func() error { spent++; return nil }
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if err := g.OpenWith(over, spend, 1); !errors.Is(err, context.Canceled) {
				t.Errorf("too late: error %v", err)
			}
			if err := g.OpenWith(t.Context(), spend, 0); err == nil {
				t.Error("opened for nobody")
			}
			time.Sleep(time.Minute)
			if got := b.of("K1"); got != before || spent != 0 {
				t.Errorf("relay %s, permits spent %d", got, spent)
			}
		})
	}
}

func TestPermitIsSpentLast(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(hold)
		if err := g.OpenWith(t.Context(), func() error { b.note("K1", "spent"); return nil }, 1); err != nil {
			t.Fatal(err)
		}
		if got, want := b.of("K1"), "High 0s, spent 0s, Low 0s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// A permit whose deadline comes while the pulse before it is not yet over
// opens nothing.
func TestDeadlineHoldsWhileAnOpenWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(pulse)
		if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(100 * time.Millisecond)
		if err := g.OpenWith(t.Context(), func() error {
			if time.Now().After(deadline) {
				return terminal.ErrNoPermit
			}
			return nil
		}, 1); !errors.Is(err, terminal.ErrNoPermit) {
			t.Errorf("error %v", err)
		}
		if got, want := b.of("K1"), "Low 0s, High 0s, Low 300ms"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestHoldLastsUntilShut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(hold)
		if err := g.OpenWith(t.Context(), permitted, 2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		for range 2 {
			if err := g.Shut(); err != nil {
				t.Error(err)
			}
		}
		if got, want := b.of("K1"), "High 0s, Low 0s, High 3s, High 3s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestHoldEndsThoughNobodyShuts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "S1")
		g := b.must(hold + `longest = "5s"` + oneBeam)
		if err := g.OpenWith(t.Context(), permitted, 2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		for range 3 { // the third was not admitted, and gains no time
			b.press("S1", 500*time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.of("K1"); !strings.HasPrefix(got, "High 0s, Low 0s, High 10.5") || len(b.faults) != 1 {
			t.Errorf("%s, faults %v", got, b.faults)
		}
	})
}

func TestOnePulsePerPersonAfterTheOneBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1", "S1")
		g := b.must(pulse + oneBeam)
		if err := g.OpenWith(t.Context(), permitted, 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if got, want := b.of("K1"), "Low 0s, High 0s, Low 300ms"; got != want {
			t.Fatalf("nobody passed: %s, want %s", got, want)
		}
		b.level("S1", gpio.Low, time.Second)
		b.level("S1", gpio.High, time.Second) // 3 s
		b.press("S1", 50*time.Millisecond)    // 4 s, and at once
		b.press("S1", 50*time.Millisecond)    // another: nobody is left to be let in
		time.Sleep(time.Minute)
		if got, want := b.of("K1"), "Low 0s, High 0s, Low 300ms, High 3.01s, Low 3.31s, High 4.06s, Low 4.36s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestPulsesWithoutASensorFollowEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(pulse)
		if err := g.OpenWith(t.Context(), permitted, 2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got, want := b.of("K1"), "Low 0s, High 0s, Low 300ms, High 500ms, Low 800ms"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Without a sensor only the pulses say who is still to come in: whoever is next
// takes none of the party's, and waits for the last of them.
func TestNextOpenWaitsForAllPulsesOfThePartyBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(pulse)
		if err := g.OpenWith(t.Context(), permitted, 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(350 * time.Millisecond) // in the first gap
		early, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancel()
		if err := g.OpenWith(early, permitted, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the third was let in: %v", err)
		}
		time.Sleep(time.Minute)
		if err := g.OpenWith(t.Context(), permitted, 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(350 * time.Millisecond)
		var next sync.WaitGroup
		for range 20 { // as soon as the contact may move, one of them is there before the relay itself
			next.Go(func() {
				if err := g.OpenWith(t.Context(), func() error { b.note("K1", "next"); return nil }, 1); err != nil {
					t.Error(err)
				}
			})
		}
		next.Wait()
		party, _, _ := strings.Cut(b.of("K1"), ", next")
		want := "Low 0s, High 0s, Low 300ms, High 500ms, Low 800ms, High 1s, Low 1.3s, " +
			"High 1m1.25s, Low 1m1.55s, High 1m1.75s, Low 1m2.05s, High 1m2.25s, Low 1m2.55s"
		if party != want || len(b.faults) != 0 {
			t.Errorf("%s, want %s; faults %v", party, want, b.faults)
		}
	})
}

// Nobody shuts a gate that was given its pulse, where nothing tells that the
// person has passed. A sensor would have told.
func TestPulseThatNobodyFollowsIsAFaultOnlyWithASensor(t *testing.T) {
	for sensor, faults := range map[string]int{"": 0, oneBeam: 1} {
		inBubble(t, func(t *testing.T) {
			b := newBench(t, "K1", "S1")
			g := b.must(pulse + `longest = "5s"` + sensor)
			if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if got, want := b.of("K1"), "Low 0s, High 0s, Low 300ms"; got != want || len(b.faults) != faults {
				t.Errorf("%s, want %s; faults %v, want %d", got, want, b.faults, faults)
			}
			if err := g.OpenWith(t.Context(), permitted, 1); err != nil || !strings.HasSuffix(b.of("K1"), "High 1m0s") {
				t.Errorf("the next person: %s, %v", b.of("K1"), err)
			}
		})
	}
}

func TestShutTakesBackThePulsesThatAreLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(pulse)
		if err := g.OpenWith(t.Context(), permitted, 5); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := g.Shut(); err != nil {
			t.Fatal(err)
		}
		// The next pulse is one of its own, so the gap comes before it.
		if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got, want := b.of("K1"), "Low 0s, High 0s, Low 100ms, High 300ms, Low 600ms"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestPinErrorBringsTheRelayToRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(hold)
		broken := errors.New("input/output error")
		b.pins["K1"].fail = func(l gpio.Level) error {
			if l == gpio.Low {
				return broken
			}
			return nil
		}
		spent := 0
		if err := g.OpenWith(t.Context(), func() error { spent++; return nil }, 1); !errors.Is(err, broken) || spent != 1 {
			t.Errorf("error %v, permits spent %d", err, spent)
		}
		if got, want := b.of("K1"), "High 0s, High 0s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestRestIsTriedUntilThePinWorks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		g := b.must(hold)
		if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("input/output error")
		works := time.Now().Add(2500 * time.Millisecond)
		b.pins["K1"].fail = func(gpio.Level) error {
			if time.Now().Before(works) {
				return broken
			}
			return nil
		}
		if err := g.Shut(); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		time.Sleep(time.Minute)
		if got, want := b.of("K1"), "High 0s, Low 0s, High 3s"; got != want || len(b.faults) != 2 {
			t.Errorf("%s, want %s; faults %v", got, want, b.faults)
		}
	})
}

func TestCloseBringsTheRelayToRestAndEndsEverything(t *testing.T) {
	for _, relay := range []string{hold, pulse} {
		inBubble(t, func(t *testing.T) { // a bubble with a goroutine left over fails
			b := newBench(t, "K1", "S1", "S2", "F1", "C1", "C2", "L1", "L2", "L3", "B1")
			g := b.must(relay + twoBeams + fire + keys + colours)
			rest := b.pins["K1"].Read()
			if err := g.OpenWith(t.Context(), permitted, 3); err != nil {
				t.Fatal(err)
			}
			g.Show(terminal.ShowEmergency)
			time.Sleep(100 * time.Millisecond)
			if b.pins["K1"].Read() == rest || b.pins["L3"].Read() == gpio.Low {
				t.Error("not open, or dark")
			}
			for range 2 {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			}
			for _, pin := range []string{"L1", "L2", "L3", "B1"} {
				if b.pins[pin].Read() != gpio.Low {
					t.Errorf("%s is on", pin)
				}
			}
			if b.pins["K1"].Read() != rest {
				t.Error("relay is not at rest")
			}
			if err := g.OpenWith(t.Context(), permitted, 1); !errors.Is(err, gate.ErrClosed) || b.pins["K1"].Read() != rest {
				t.Errorf("opened after its end: %v", err)
			}
		})
	}
}

func TestLaneThatPanicsLeavesTheRelayAtRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "K1")
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			g, err := b.open(hold)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if err := g.OpenWith(t.Context(), permitted, 1); err != nil {
				t.Fatal(err)
			}
			_ = g.OpenWith(t.Context(), func() error { panic("in the middle of opening") }, 1)
		}()
		if got, want := b.of("K1"), "High 0s, Low 0s, High 0s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
