package pcsc

import (
	"time"

	"github.com/ebfe/scard"
)

// A slot remembers which card of a reader has been reported, by the counter
// that pcscd keeps for each slot and raises by one whenever a card comes or
// goes (the high word of dwEventState; pcsc-lite, eventhandler.c).
//
//	       comes into sight
//	   ┌──────────┴──────────┐
//	no card                 card ──▶ counts as left, or due with Options.Present
//	   │ counter ≥ next      │ counter ≥ next: it went, and one came
//	   └─────▶ due ◀─────────┘
//	            │ reported ──▶ next = counter + 2: one going, one coming
//	            └ went before it was reported ──▶ no card
//
// A slot goes out of sight with its reader and with pcscd; its counter then
// begins anew.
type slot struct {
	name    string
	known   bool      // has been in sight before
	sight   bool      // is in sight: since, counter and next hold
	since   time.Time // when it came into sight
	counter uint16    // as last seen
	next    uint16    // the counter from which on a card is one that was not reported
	due     bool      // holds a card that is to be reported
	stale   bool      // that card lay there before, so another program may have used it
}

// lost says that the slot went out of sight.
func (s *slot) lost() { s.sight, s.due = false, false }

// observe takes in a state that pcscd reported at the instant now. Lying says
// that a card found in a slot never seen before is due. A card that shows up
// within settle after the slot came into sight was there before it: readers
// that have just been powered need a moment to see what lies on them.
func (s *slot) observe(st scard.ReaderState, now time.Time, settle time.Duration, lying bool) {
	if st.EventState&(scard.StateUnknown|scard.StateUnavailable) != 0 {
		s.lost()
		return
	}
	counter := uint16(st.EventState >> 16)
	present := st.EventState&scard.StatePresent != 0

	if !s.sight || before(counter, s.counter) { // a counter that went back began anew
		lying = lying && !s.known
		s.known, s.sight, s.since, s.due = true, true, now, false
		if lying {
			s.since = time.Time{} // nothing to wait for
		}
		s.next = counter + 1
		if present {
			s.next = counter + 2
			s.due, s.stale = lying, lying
		}
	} else if present && before(counter, s.next) && counter != s.counter {
		// The reader lost sight of the card for a moment, and counted
		// finding it again. It is the same card.
		s.next = counter + 2
	}
	s.counter = counter

	switch {
	case !present:
		s.due = false
	case !before(counter, s.next):
		s.due, s.stale = now.Sub(s.since) >= settle, false
		s.next = counter + 2
	}
}

// reported says that the card with that counter was handed over.
func (s *slot) reported(counter uint16) {
	s.due = false
	s.next = counter + 2
}

// before compares counters, which wrap.
func before(a, b uint16) bool { return int16(a-b) < 0 }
