package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Reader waits for cards in the field of one lane.
type Reader interface {
	// Next returns the next card that comes into the field, powered and
	// connected. It waits until ctx ends. A card that was returned before
	// and never left is not returned again. After a *nfc.CardError it may be
	// called again; any other error is final.
	Next(ctx context.Context) (nfc.Card, error)
}

// A List gives the list in force.
type List interface {
	// Current returns the list as one tap sees it; the caller releases it.
	Current() (whitelist.View, error)
}

// A Journal makes durable what the gate decided. Every method that writes
// returns only when a power cut can no longer undo it.
type Journal interface {
	// A decision with BirthDateRefused, once recorded, is one.
	Refusals

	// History is what is known of an entitlement: what stands of it.
	History(ctx context.Context, entitlement string) (History, error)

	// Count is how many entitlements have been entered whose names begin with
	// prefix, whatever became of their entries.
	Count(ctx context.Context, prefix string) (uint32, error)

	// Record writes a decision that does not open the gate.
	Record(ctx context.Context, d Decision) error

	// Reserve writes an admission of d.People before the relay moves, provided
	// that nothing was written of d.Entitlement since its history had seen as
	// its last event; otherwise nothing is written and the error is
	// ErrUsesChanged.
	Reserve(ctx context.Context, d Decision, seen uint64) (Reservation, error)

	// Passed writes that so many people in all have passed for the reservation,
	// and that more may come.
	Passed(ctx context.Context, r Reservation, people uint32) error

	// Commit settles a reservation: so many people have passed, and no more
	// will. The rest of d.People is free again.
	Commit(ctx context.Context, r Reservation, people uint32) error

	// Annul settles a reservation for which nobody passed, and why; it no longer
	// counts.
	Annul(ctx context.Context, r Reservation, why Reason) error

	// SettleBy settles a reservation that was committed or is in doubt anew, on the
	// word of staff: so many people have passed, 0 annuls it. by may be nobody,
	// for a reservation in doubt, where it is not known who confirms.
	SettleBy(ctx context.Context, r Reservation, people uint32, by Staff, note string) error

	// Doubt writes that nobody can tell whether people passed, or how many, and
	// why. The reservation counts until staff settles it.
	Doubt(ctx context.Context, r Reservation, why Reason) error

	// Incident writes what happened without a card.
	Incident(ctx context.Context, i Incident) error

	// AcceptClock writes that a clock which shows at is right.
	AcceptClock(ctx context.Context, at time.Time, by Staff, note string) error

	// Latest is the greatest instant in the journal since a clock was last
	// accepted, the zero time when it is empty. A clock that shows less is not
	// trusted.
	Latest() time.Time
}

// A Gate is a relay with lamps, and what watches the passage.
type Gate interface {
	// Open lets people through: it moves the relay once, or once for each, as
	// the gate is built. It spends the permit as the last thing before, and
	// returns the error of Spend without moving anything. An error after the
	// permit was spent means that the relay may have moved. The gate stays open
	// until Shut.
	Open(ctx context.Context, p *Permit, people uint32) error

	// Shut brings the relay to rest, at once. It may be called at any time, and
	// twice.
	Shut() error

	// Counts reports whether a sensor sees people pass. Without one everybody
	// who is admitted is taken to have passed.
	Counts() bool

	// Sensed yields what the inputs of the gate see, in order, as long as the
	// gate works. It is never closed. One lane reads it.
	Sensed() <-chan Sensed

	// Show sets lamps and buzzer. It does not wait. ShowAdmit, ShowDeny and
	// ShowTailgate last as long as people need to see them, then the gate shows
	// by itself what it showed before them; the others last until the next.
	Show(s Signal)
}

// Sensed is what an input of a gate saw.
type Sensed uint8

// What inputs see.
const (
	SensedNothing  Sensed = iota
	SensedPassage         // one person went through, in the direction of the lane
	SensedWrongWay        // one person went through against it
	SensedStuck           // the sensor is blocked, or contradicts itself: nobody can be counted
	SensedFree            // it works again
	SensedAlarm           // fire alarm: the gate is opened by hardware
	SensedAllClear        // the alarm is over
)

// A Signal is what lamps and buzzer tell the person at the gate.
type Signal uint8

// Signals.
const (
	ShowReady Signal = iota
	ShowAdmit
	ShowDeny
	ShowAttend     // wait for staff
	ShowOutOfOrder // the gate cannot work
	ShowCaution    // ready, and the list or the clock cannot be fully relied on
	ShowTailgate   // somebody passed who was not admitted
	ShowEmergency  // the gate stands open: leave
)

var signalNames = [...]string{
	ShowReady: "ready", ShowAdmit: "green: go", ShowDeny: "red: stop",
	ShowAttend: "amber: wait for staff", ShowOutOfOrder: "red cross: out of order",
	ShowCaution: "ready, amber: list or clock out of date", ShowTailgate: "red and buzzer: somebody followed",
	ShowEmergency: "green: emergency, leave",
}

func (s Signal) String() string {
	if int(s) < len(signalNames) {
		return signalNames[s]
	}
	return "unknown signal"
}

// A HolderChecker asks staff, or an integrator's face unit, whether the
// person is the holder.
type HolderChecker interface {
	// Check returns the answer, or an error when none came before ctx ended.
	Check(ctx context.Context, d Decision) (bool, error)
}

// A Reservation names an admission in the journal by its sequence number.
type Reservation uint64

// A History is what a journal knows of an entitlement.
type History struct {
	// Last is the number of the last event about it, 0 when there is none.
	Last uint64
	// Next is the number that a claim takes in the venue's log, 0 where none is asked.
	Next uint64
	// Passages are the entries and exits that stand, in the order of their
	// reservations: what was annulled is not among them.
	Passages []Passage
}

// Entered is how many people came in, those in doubt among them.
func (h History) Entered() (people uint32) {
	for _, p := range h.Passages {
		if p.Direction == Entry {
			people += p.People
		}
	}
	return people
}

// A Passage is people who went in or out together.
type Passage struct {
	Reservation Reservation
	At          time.Time
	Zone        string
	Direction   Direction
	// People are those who passed; while the reservation is open or in doubt,
	// those who may have.
	People uint32
	// Reentry is how many of them used nothing up.
	Reentry uint32
	// Open says that they are passing now, Doubt that nobody knows whether they
	// did; beyond the Passed who were seen.
	Open, Doubt bool
	Passed      uint32
	// Gate is where it was, "" when that is not kept any more. Terminal is "" of this
	// one; others have no Reservation.
	Gate, Terminal string
}

// A Direction is that of a lane.
type Direction uint8

// Directions.
const (
	Entry Direction = iota
	Exit
)

func (d Direction) String() string {
	if d == Exit {
		return "exit"
	}
	return "entry"
}

// UnmarshalText accepts the two names and nothing else.
func (d *Direction) UnmarshalText(b []byte) error {
	switch string(b) {
	case "entry":
		*d = Entry
	case "exit":
		*d = Exit
	default:
		return fmt.Errorf("direction %q: want entry or exit", b)
	}
	return nil
}

// Errors of settling a reservation.
var (
	// ErrSettled: it is not open, nor in doubt, nor what else can be settled.
	ErrSettled = errors.New("no reservation of that number is to be settled")
	// ErrPeople: it is not for so many people, or the sensor saw more.
	ErrPeople = errors.New("reservation is not for so many people")
)

// ErrUsesChanged says that another lane used the entitlement meanwhile.
var ErrUsesChanged = errors.New("entitlement was used meanwhile")
