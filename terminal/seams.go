package terminal

import (
	"context"
	"errors"
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

	// Uses counts the entries of an entitlement that stand: reserved or
	// committed, and not annulled.
	Uses(ctx context.Context, entitlement string) (uint32, error)

	// Record writes a decision that does not open the gate.
	Record(ctx context.Context, d Decision) error

	// Reserve writes an admission before the relay moves and counts it as
	// an entry of d.Entitlement, provided that exactly seen entries stood
	// before it; otherwise nothing is written and the error is ErrUsesChanged.
	Reserve(ctx context.Context, d Decision, seen uint32) (Reservation, error)

	// Commit writes that the relay moved for the reservation.
	Commit(ctx context.Context, r Reservation) error

	// Annul writes that it did not, and why; the entry no longer counts.
	Annul(ctx context.Context, r Reservation, why Reason) error

	// Latest is the greatest instant in the journal, the zero time when it
	// is empty. A clock that shows less is not trusted.
	Latest() time.Time
}

// A Gate is a relay with lamps.
type Gate interface {
	// Open moves the relay once. It spends the permit as the last thing
	// before, and returns the error of Spend without moving it. An error
	// after the permit was spent means that the relay may have moved.
	Open(ctx context.Context, p *Permit) error

	// Show sets lamps and buzzer. It does not wait. ShowAdmit and ShowDeny
	// last as long as people need to see them, then the gate shows ready by
	// itself; the others last until the next signal.
	Show(s Signal)
}

// A Signal is what lamps and buzzer tell the person at the gate.
type Signal uint8

// Signals.
const (
	ShowReady Signal = iota
	ShowAdmit
	ShowDeny
	ShowAttend     // wait for staff
	ShowOutOfOrder // the gate cannot work
)

var signalNames = [...]string{
	ShowReady: "ready", ShowAdmit: "green: go", ShowDeny: "red: stop",
	ShowAttend: "amber: wait for staff", ShowOutOfOrder: "red cross: out of order",
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

// ErrUsesChanged says that another lane used the entitlement meanwhile.
var ErrUsesChanged = errors.New("entitlement was used meanwhile")
