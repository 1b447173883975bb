package terminal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// ClaimBudget bounds how long a tap waits for the venue, all its claims together.
const ClaimBudget = 120 * time.Millisecond

// Claims is the log that the gates of a venue share: who came in and went out by an
// entitlement, one number after the other. Whoever takes a number has seen all that
// is before it, so that of two gates one learns of the other.
type Claims interface {
	// Log is what is known here of an entitlement's log. It asks nobody.
	Log(ctx context.Context, entitlement string) (Log, error)

	// Claim writes the entry of d, which d.ClaimID names, as number next of its
	// entitlement's log. The error is ErrUsesChanged when that number is taken,
	// and Log knows by what; any other says that it is not known whether it was
	// written. It returns when ctx ends, if not before.
	Claim(ctx context.Context, d Decision, next uint64) error

	// Done says that what was claimed by that ID is in the journal now, or never
	// will be: then nobody came in for it.
	Done(claimID string)
}

// A Log is what a terminal knows of an entitlement's log.
type Log struct {
	Next  uint64 // the first number that is free
	Apart bool   // the venue cannot be asked now, so there may be more
	// Passages stand in the order of the log. Those of this terminal have their
	// Reservation, and the journal has the truth of them; those of others have
	// their Gate, Terminal and no Reservation.
	Passages []Passage
}

// A ClaimState says whether the venue's log had an entry before the gate opened.
type ClaimState string

// States of a claim; none where the terminal asks nobody, and of an exit.
const (
	ClaimConfirmed   ClaimState = "confirmed"
	ClaimUnconfirmed ClaimState = "unconfirmed"
)

// A Use is where and when somebody came in. The zero Use is none.
type Use struct {
	Gate     string // "" where only the time is kept
	Terminal string // "" is this one
	At       time.Time
}

// Merge is the history of the venue: what this terminal knows of itself, in the
// order of the log, among what the log has of others. What is not in the log yet
// comes last.
func (h History) Merge(l Log) History {
	unlogged := make(map[Reservation]Passage, len(h.Passages))
	for _, p := range h.Passages {
		unlogged[p.Reservation] = p
	}
	var merged []Passage
	for _, p := range l.Passages {
		if p.Reservation != 0 {
			mine, stands := unlogged[p.Reservation]
			if !stands {
				continue // annulled, and the log does not have that yet
			}
			delete(unlogged, p.Reservation)
			p = mine
		}
		merged = append(merged, p)
	}
	for _, p := range h.Passages {
		if _, is := unlogged[p.Reservation]; is {
			merged = append(merged, p)
		}
	}
	h.Passages, h.Next = merged, l.Next
	return h
}

// used is the last entry into a zone.
func (h History) used(zone string) (u Use) {
	for _, p := range h.Passages {
		if p.Zone == zone && p.Direction == Entry {
			u = Use{p.Gate, p.Terminal, p.At}
		}
	}
	return u
}

// An asking is what one entry asks the venue.
type asking struct {
	*Lane
	spent time.Duration
	id    string // of the claim that is not done yet
	why   error  // nobody answered
}

// add adds to a history what the venue knows. Where that cannot be read the gate does as
// where nobody answers.
func (a *asking) add(ctx context.Context, f *Facts, entitlement string, h History) History {
	log, err := a.Claims.Log(ctx, entitlement)
	if err != nil {
		f.Apart, a.why = true, err
		return h
	}
	f.Apart = f.Apart || log.Apart
	return h.Merge(log)
}

// claim claims the entry that d admits. Where it has to be decided again it reports
// so: another gate was faster, or nobody answers, which f says then.
func (a *asking) claim(ctx context.Context, d *Decision, f *Facts, next uint64) (again bool) {
	if a.Claims == nil || f.Mode == Muster || d.Direction == Exit {
		return false
	}
	if a.id == "" {
		a.id = rand.Text()
	}
	d.ClaimID = a.id
	if f.Apart {
		d.Claim = ClaimUnconfirmed
		return false
	}
	bounded, cancel := context.WithTimeout(ctx, ClaimBudget-a.spent)
	defer cancel()
	start := time.Now()
	err := a.Claims.Claim(bounded, *d, next)
	took := time.Since(start)
	a.spent += took
	d.Stages.Claim += took
	switch {
	case err == nil:
		d.Claim = ClaimConfirmed
		return false
	case errors.Is(err, ErrUsesChanged) && a.spent < ClaimBudget:
		return true
	}
	f.Apart, a.why = true, fmt.Errorf("claiming the entry: %w", err)
	return true
}

// done gives up the claim that was made, or says that the journal has it.
func (a *asking) done() {
	if a.id != "" {
		a.Claims.Done(a.id)
		a.id = ""
	}
}
