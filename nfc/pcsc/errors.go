package pcsc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebfe/scard"

	"github.com/gate-agent/gate-agent/nfc"
)

// What a caller can do something about. nfc.ErrRemoved, nfc.ErrExtendedLength
// and *nfc.CardError come from here as well; the last unwraps to ErrRemoved,
// ErrUnresponsive or ErrBusy.
var (
	// ErrUnresponsive says that a card lies in the slot and does not answer
	// to power-up or to a command.
	ErrUnresponsive = errors.New("card does not respond")

	// ErrBusy says that another program is connected to the card.
	ErrBusy = errors.New("card is in use by another program")

	// ErrNoService says that pcscd does not run or does not answer.
	ErrNoService = errors.New("no PC/SC service")

	// ErrStuck says that calls are blocked in the PC/SC service. A
	// connection that is stuck clears when its card leaves; a lane that is
	// stuck altogether needs pcscd or the reader restarted.
	ErrStuck = errors.New("blocked in the PC/SC service")

	// ErrClosed says that the lane was closed.
	ErrClosed = errors.New("lane closed")
)

// serviceError names the errors that say that pcscd is not there.
func serviceError(err error) error {
	switch {
	case errors.Is(err, scard.ErrNoService), errors.Is(err, scard.ErrServiceStopped),
		errors.Is(err, scard.ErrCommError), errors.Is(err, scard.ErrInvalidHandle):
		// The last two come from a connection to a pcscd that has ended.
		return fmt.Errorf("%w: %w", ErrNoService, err)
	}
	return err
}

// connectError turns the outcome of SCardConnect into what it says of the
// card. An error that says nothing of the card is left as it is.
func connectError(err error) error {
	switch {
	case errors.Is(err, scard.ErrNoSmartcard), errors.Is(err, scard.ErrRemovedCard):
		return fmt.Errorf("%w: %w", nfc.ErrRemoved, err)
	case errors.Is(err, scard.ErrUnresponsiveCard), errors.Is(err, scard.ErrUnpoweredCard),
		errors.Is(err, scard.ErrUnsupportedCard), errors.Is(err, scard.ErrProtoMismatch),
		errors.Is(err, scard.ErrNotTransacted):
		return fmt.Errorf("%w: %w", ErrUnresponsive, err)
	case errors.Is(err, scard.ErrSharingViolation):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return serviceError(err)
}

// transmitError turns the outcome of SCardTransmit of capdu into what it says
// of the card.
func transmitError(err error, capdu []byte) error {
	switch {
	case errors.Is(err, scard.ErrRemovedCard), errors.Is(err, scard.ErrNoSmartcard),
		// Somebody cut the power or reset the card: the session with it is
		// over all the same.
		errors.Is(err, scard.ErrResetCard), errors.Is(err, scard.ErrUnpoweredCard),
		// The reader was pulled out.
		errors.Is(err, scard.ErrReaderUnavailable), errors.Is(err, scard.ErrUnknownReader),
		// All that most drivers have to say of a card that left: "transaction
		// failed" now, and that it is gone later.
		errors.Is(err, scard.ErrNotTransacted), errors.Is(err, scard.ErrCommDataLost),
		errors.Is(err, scard.ErrCommError):
		return fmt.Errorf("%w: %w", nfc.ErrRemoved, err)
	case errors.Is(err, scard.ErrInvalidParameter), errors.Is(err, scard.ErrInvalidValue),
		errors.Is(err, scard.ErrInsufficientBuffer):
		if isExtended(capdu) {
			return fmt.Errorf("%w: %w", nfc.ErrExtendedLength, err)
		}
	}
	return serviceError(err)
}

func isExtended(capdu []byte) bool {
	cmd, err := nfc.ParseCommand(capdu)
	return err == nil && cmd.IsExtended()
}

// timeoutCause bounds ctx by d, and makes err the cause when d has passed.
func timeoutCause(ctx context.Context, d time.Duration, err error) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w: no answer within %v", err, d))
}
