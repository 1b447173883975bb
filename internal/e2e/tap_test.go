package e2e

import (
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
)

// Everybody of the town goes to the gate that they like, and gets the answer
// that they should get.
func TestEverybodyGetsTheirAnswer(t *testing.T) {
	t.Parallel()
	for _, method := range []jpki.Method{jpki.TapUse, jpki.ExternalAuth} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			w := theTown(t)
			r, s := newReaders(t), ready(t)
			s.edit(t, `["tap-use", "external-auth"]`, `["`+string(method)+`"]`)
			if method == jpki.ExternalAuth {
				s.edit(t, "first_use = true", "first_use = false") // it is one of tap-use
			}
			a := start(t, s, r)
			admitted := 0
			for _, p := range w.people {
				if p.Method != method {
					continue
				}
				e := r.tapAs(a, p.Image, how{pullAt: p.PullAt})
				if e.Verdict != p.Verdict || e.Reason != p.Reason {
					t.Errorf("%s: %v %s, want %v %s", p.Name, e.Verdict, e.Reason, p.Verdict, p.Reason)
				}
				if e.Verdict == terminal.Admit {
					admitted++
					if e.Method != string(method) || e.Stages.Sign <= 0 || e.Stages.Journal <= 0 {
						t.Errorf("%s: %+v", p.Name, e)
					}
				}
				if signatures := e.TerminalSignatures; signatures > 0 && (method == jpki.TapUse || e.Reason == terminal.NotListed) {
					t.Errorf("%s got %d signatures of the terminal's key", p.Name, signatures)
				}
				if e.ListEpoch != 1 || e.ListSeq != 1 || e.Commands == 0 || e.Bytes == 0 || e.ElapsedMS <= 0 || time.Since(e.At) > time.Minute {
					t.Errorf("%s: %+v", p.Name, e)
				}
			}
			if a.opened() != admitted {
				t.Errorf("the relay moved %d times, %d were admitted", a.opened(), admitted)
			}
			a.stop()
			agree(t, s, a.all)
		})
	}
}

func TestCardLeftOnTheReaderIsReadOnce(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	alice := theTown(t).alice(t)
	a := start(t, s, r)
	lying := r.insert(alice, how{})
	want(t, a.event(), terminal.Admit, terminal.OK)
	a.silent(2*time.Second, "the card has not moved")

	// Nor does a restart read it again; only when it comes anew.
	a.stop()
	agree(t, s, a.all)
	again := start(t, s, r)
	again.silent(time.Second, "the card lay there before")
	lying.remove()
	want(t, r.tap(again, alice), terminal.Admit, terminal.OK)
	again.stop()
	agree(t, s, append(a.all, again.all...))
}

// Two slots of one lane at once: nobody could say whose gate it is.
func TestTwoCardsOpenNothing(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, `state    = "state"`, "state    = \"state\"\ndeadline = \"10s\"") // a busy machine is not what is tested
	w := theTown(t)
	a := start(t, s, r)

	// The second comes while the first signs.
	slow := &vcard.Clock{KeyOperation: 3 * time.Second, Sleep: true}
	first := r.insert(w.alice(t), how{clock: slow})
	time.Sleep(time.Second)
	second := r.insert(w.bob(t), how{slot: 1})
	want(t, a.event(), terminal.Deny, terminal.MultipleCards)
	// It is a card of its own, and still not alone.
	want(t, a.event(), terminal.Deny, terminal.MultipleCards)
	second.remove()
	first.remove()
	// On a busy machine a reader may lose sight of a card for a moment, and find it
	// again: as another one.
	for _, e := range a.rest(time.Second) {
		want(t, e, terminal.Deny, terminal.MultipleCards)
	}
	if a.opened() != 0 {
		t.Error("the gate has opened")
	}
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.stop()
	agree(t, s, a.all)
}

func TestAnswerAfterTheDeadlineOpensNothing(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, `state    = "state"`, "state    = \"state\"\ndeadline = \"500ms\"")
	a := start(t, s, r)
	c := r.insert(theTown(t).alice(t), how{clock: &vcard.Clock{KeyOperation: 4 * time.Second, Sleep: true}})
	e := a.event()
	want(t, e, terminal.Deny, terminal.ReadTimeout)
	if e.ElapsedMS < 500 || e.ElapsedMS > 3000 {
		t.Errorf("it took %v ms", e.ElapsedMS)
	}
	a.silent(4500*time.Millisecond, "the answer came too late")
	c.remove()
	want(t, r.tap(a, theTown(t).alice(t)), terminal.Admit, terminal.OK)
	if a.opened() != 1 {
		t.Errorf("the gate opened %d times, want once", a.opened())
	}
	a.stop()
	agree(t, s, a.all)
}
