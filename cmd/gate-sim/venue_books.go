package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// The books of a venue say what gates that are connected, or apart, may answer, and
// which entries the hub must report as double, from who walked through alone. They
// share no code with claims, ingest and decision.

// A shared ticket lets one person in, once, and several people have a card for it.
type sharedTicket struct {
	number     int
	name       string
	cards      []*person
	tried      bool
	admissions []*admission // in the order in which they were let in, by beats
}

// An admission is somebody who was let in.
type admission struct {
	gate      *venueGate
	phase     int
	beat      int
	claim     string
	confirmed bool
	call      int64
	at        time.Time // as journals have it
	seq       uint64    // of the reservation
	stands    bool      // they came in
}

func (a *admission) String() string {
	how := "unconfirmed"
	if a.confirmed {
		how = "confirmed"
	}
	return fmt.Sprintf("%s event %d %s, came in: %t", a.gate.name, a.seq, how, a.stands)
}

// A visitor is somebody who tries a ticket at a gate.
type visitor struct {
	ticket  *sharedTicket
	gate    *venueGate
	card    int
	turns   bool // back, if let in
	trouble trouble

	call int64
	act  *act
	err  error
}

// enter notes who was let in.
func (v *venueRun) enter(w *visitor) {
	if d := w.act.got; d.Admitted() {
		w.ticket.admissions = append(w.ticket.admissions, &admission{
			gate: w.gate, phase: v.phase, beat: v.beat, claim: d.ClaimID, confirmed: d.Claim == terminal.ClaimConfirmed,
			call: w.call, at: d.Instant.UTC().Truncate(time.Millisecond), seq: uint64(d.Reservation), stands: w.act.passed > 0,
		})
	}
}

// judge compares an answer with what the gate could know. Between two phases every
// gate has heard everything.
func (v *venueRun) judge(w *visitor) {
	d, t := w.act.got, w.ticket
	fault := func(format string, args ...any) {
		v.disagree("%s at %s: %v %s %s: %s (%v)", t.name, w.gate.name, d.Verdict, d.Reason, d.Claim, fmt.Sprintf(format, args...), d.Cause)
	}
	for _, f := range w.act.faults {
		fault("%s", f)
	}
	var used, known bool // it knew that somebody has the ticket; somebody it may have known of had it
	for _, a := range t.admissions {
		own := a.gate == w.gate
		used = used || a.stands && (a.phase < v.phase || own && a.beat < v.beat)
		mine := own && a.beat == v.beat && a.phase == v.phase
		known = known || a.phase < v.phase && a.stands || a.phase == v.phase && !mine && (own || !w.gate.apart)
	}
	switch {
	case d.Admitted() && used:
		fault("the ticket was used, and the gate knew it")
	case d.Admitted() && (w.gate.apart || v.down) && d.Claim != terminal.ClaimUnconfirmed:
		fault("nobody could have confirmed it")
	case d.Admitted() && d.Reason != terminal.OK:
		fault("should be ok")
	case !d.Admitted() && d.Reason != terminal.AlreadyUsed:
		fault("should be admit, or already_used")
	case !d.Admitted() && !known:
		fault("nobody had used the ticket that the gate could know of")
	}
}

// twice looks for a ticket that two gates had confirmed.
func (v *venueRun) twice() {
	for _, t := range v.tickets {
		n := 0
		for _, a := range t.admissions {
			if a.stands && a.confirmed {
				n++
			}
		}
		if n > 1 {
			v.disagree("%s: connected gates let in a used ticket: %v", t.name, t.admissions)
		}
	}
}

// A doubleEntry is an entry by a used ticket, and the one before it.
type doubleEntry struct {
	ticket, gate, before string
	seq, beforeSeq       uint64
}

// doubles are the double entries that there must be.
func (v *venueRun) doubles() (all []doubleEntry) {
	for _, t := range v.tickets {
		came := slices.DeleteFunc(slices.Clone(t.admissions), func(a *admission) bool { return !a.stands })
		slices.SortFunc(came, func(a, b *admission) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.gate.name, b.gate.name), cmp.Compare(a.seq, b.seq))
		})
		for i := 1; i < len(came); i++ {
			all = append(all, doubleEntry{t.name, came[i].gate.name, came[i-1].gate.name, came[i].seq, came[i-1].seq})
		}
	}
	return all
}
