// Package nfc exchanges ISO/IEC 7816-4 command-response pairs with a card in
// the field of a reader.
//
// It promises that what a caller sees of a card is already whole: response
// data chained with 61xx is joined, a wrong Le (6Cxx) is corrected, the 6F00
// that some cards give to the very first command is repeated, and every other
// status word than 9000 is an error that can be tested. Long commands go in a
// chain where a caller wants that. It knows no application, no reader and no
// policy.
//
// Specifications: ISO/IEC 7816-3:2006 §12.1 (command-response pairs, cases 1 to 4),
// ISO/IEC 7816-4:2020 §5.1 to §5.6.
package nfc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Transmitter carries one command APDU to a card and brings its response
// APDU back. It is the only hardware seam of the card path.
//
// A nil error means that the reader handed over something; it may be shorter
// than a status word, which is how some readers report a card that left in
// the middle of a command. Transmit returns when ctx ends, whatever the
// hardware does.
type Transmitter interface {
	Transmit(ctx context.Context, capdu []byte) (rapdu []byte, err error)
}

// A Card is a powered card in one slot of a lane, connected exclusively.
type Card interface {
	Transmitter

	// Slot names the slot that holds the card, as PC/SC names readers.
	Slot() string

	// Detected is the instant at which the reader reported the card.
	Detected() time.Time

	// Alone reports whether no other slot of the same lane holds a card.
	// It does not wait: it tells what the readers report now.
	Alone(ctx context.Context) (bool, error)

	// Release removes power from the card, which clears its security
	// status, and disconnects. A card that stays in the field is not
	// reported again before it was taken away.
	Release() error
}

// ErrRemoved says that the card left the field, or that the exchange with it
// broke off in a way that cannot be told from leaving.
var ErrRemoved = errors.New("card removed")

// A CardError is a card that a reader reported and that could not be powered
// and connected to: a mute or foreign card, or one that left at once. The
// reader goes on.
type CardError struct {
	Slot     string
	Detected time.Time
	Err      error // ErrRemoved where it left
}

func (e *CardError) Error() string {
	return fmt.Sprintf("connecting to the card in %q: %v", e.Slot, e.Err)
}

// Unwrap gives the cause.
func (e *CardError) Unwrap() error { return e.Err }

// ErrExtendedLength says that the reader cannot carry a command or response
// in extended length.
var ErrExtendedLength = errors.New("reader does not carry extended length")
