package fetch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

func TestBackoffIsRandomBelowABoundThatDoubles(t *testing.T) {
	b := fetch.Backoff{Base: time.Second, Cap: 10 * time.Second}
	for attempt, most := range []time.Duration{1, 2, 4, 8, 10, 10} {
		most *= time.Second
		if got := b.Next(attempt, func(n int64) int64 { return n - 1 }); got != most {
			t.Errorf("attempt %d: at most %v, want %v", attempt, got, most)
		}
		if got := b.Next(attempt, func(int64) int64 { return 0 }); got != 0 {
			t.Errorf("attempt %d: at least %v, want 0", attempt, got)
		}
	}
	if got := b.Next(1e9, func(n int64) int64 { return n - 1 }); got != b.Cap {
		t.Errorf("after very many: %v", got)
	}
	if got := (fetch.Backoff{}).Next(3, func(n int64) int64 { return n - 1 }); got != 0 {
		t.Errorf("the zero backoff waits %v", got)
	}
}

func TestFleetPollsSpreadEvenly(t *testing.T) {
	const terminals, every = 60000, time.Minute
	var second [60]int
	for i := range terminals {
		name := fmt.Sprintf("gate-%05d", i)
		p := fetch.Phase(name, every)
		if p < 0 || p >= every || p != fetch.Phase(name, every) {
			t.Fatalf("%s polls at %v of %v", name, p, every)
		}
		second[p/time.Second]++
	}
	for i, n := range second {
		if n < 850 || n > 1150 { // of 1000, five deviations
			t.Errorf("%d terminals poll in second %d", n, i)
		}
	}
	if p := fetch.Phase("gate-1", 0); p != 0 {
		t.Errorf("phase %v of no interval", p)
	}
}

func TestSlotsArePhasesOfTheInterval(t *testing.T) {
	const every, phase = time.Minute, 17 * time.Second
	for at, want := range map[int64]int64{0: 17, 16: 17, 17: 77, 18: 77, 60: 77, -100: -43, -43: 17} {
		if got := fetch.Slot(time.Unix(at, 0), every, phase).Unix(); got != want {
			t.Errorf("after %d comes %d, want %d", at, got, want)
		}
	}
}

// A clock that is set does not move a wait that is under way: what was to come in a
// minute would else come in a year.
func TestSlotKeepsTheMonotonicClock(t *testing.T) {
	at := fetch.Slot(time.Now(), time.Minute, 17*time.Second)
	if at == at.Round(0) { // which drops it
		t.Error("it is an instant of the wall clock alone")
	}
}
