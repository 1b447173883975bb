package pcsc

import (
	"testing"
	"time"

	"github.com/ebfe/scard"
)

// One step is what pcscd says of a slot, and whether its card is then due.
type step struct {
	at      time.Duration
	state   scard.StateFlag
	counter uint16
	due     bool
	report  bool // hand the card over afterwards
}

const (
	empty   = scard.StateEmpty
	present = scard.StatePresent
	mute    = scard.StatePresent | scard.StateMute
	unknown = scard.StateUnknown | scard.StateUnavailable
	s       = time.Second
)

func TestCardIsReportedOnceForEachTimeItComes(t *testing.T) {
	const settle = time.Second
	for name, tc := range map[string]struct {
		lying bool
		steps []step
	}{
		"comes": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, true},
			{3 * s, present, 1, false, false},
		}},
		"stays due until it is reported": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, false},
			{3 * s, present, 1, true, true},
			{4 * s, present, 1, false, false},
		}},
		"goes before it is reported": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, false},
			{3 * s, empty, 2, false, false},
		}},
		"leaves and returns": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, true},
			{3 * s, empty, 2, false, false},
			{4 * s, present, 3, true, true},
		}},
		"leaves and returns between two looks": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, true},
			{3 * s, present, 3, true, true},
			{4 * s, present, 3, false, false},
		}},
		"lies there at the start": {steps: []step{
			{0, present, 0, false, false},
			{5 * s, present, 0, false, false},
			{6 * s, empty, 1, false, false},
			{7 * s, present, 2, true, true},
		}},
		"lies there at the start and is swapped between two looks": {steps: []step{
			{0, present, 7, false, false},
			{5 * s, present, 9, true, true},
		}},
		"lies there at the start and is wanted": {lying: true, steps: []step{
			{0, present, 0, true, true},
			{1 * s, present, 0, false, false},
		}},
		"comes right after the start and is wanted": {lying: true, steps: []step{
			{0, empty, 0, false, false},
			{s / 10, present, 1, true, true},
		}},
		"is noticed late by a reader that was just powered": {steps: []step{
			{0, empty, 0, false, false},
			{s / 2, present, 1, false, false},
			{5 * s, present, 1, false, false},
			{6 * s, empty, 2, false, false},
			{7 * s, present, 3, true, true},
		}},
		"lies there while the reader goes and comes": {lying: true, steps: []step{
			{0, present, 0, true, true},
			{1 * s, unknown, 0, false, false},
			{2 * s, present, 0, false, false},
			{2*s + s/2, empty, 1, false, false},
			{2*s + s/2, present, 2, false, false},
			{9 * s, present, 4, true, true},
		}},
		"lies there while the counter begins anew": {steps: []step{
			{0, empty, 10, false, false},
			{2 * s, present, 11, true, true},
			{3 * s, present, 0, false, false},
			{5 * s, empty, 1, false, false},
			{6 * s, present, 2, true, true},
		}},
		"is lost sight of for a moment": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, true},
			{3 * s, present, 2, false, false}, // present, unknown, present
			{4 * s, empty, 3, false, false},
			{5 * s, present, 4, true, true},
		}},
		"stays while pcscd takes it for gone and back": {steps: []step{
			// A command that fails with "no card" empties the slot and
			// counts nothing (pcsc-lite, winscard.c).
			{0, empty, 0, false, false},
			{2 * s, present, 1, true, true},
			{3 * s, empty, 1, false, false},
			{4 * s, present, 1, false, false},
		}},
		"does not answer": {steps: []step{
			{0, empty, 0, false, false},
			{2 * s, mute, 1, true, true},
			{3 * s, mute, 1, false, false},
		}},
		"comes as the counter wraps": {steps: []step{
			{0, empty, 0xFFFE, false, false},
			{2 * s, present, 0xFFFF, true, true},
			{3 * s, empty, 0, false, false},
			{4 * s, present, 1, true, true},
			{5 * s, present, 1, false, false},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var slot slot
			start := time.Now()
			for i, step := range tc.steps {
				slot.observe(scard.ReaderState{
					EventState: step.state | scard.StateChanged | scard.StateFlag(step.counter)<<16,
				}, start.Add(step.at), settle, tc.lying)
				if slot.due != step.due {
					t.Fatalf("step %d: due is %t", i, slot.due)
				}
				if step.report {
					slot.reported(step.counter)
				}
			}
		})
	}
}
