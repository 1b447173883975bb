package terminal

import (
	"context"
	"errors"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What can go wrong in a tap beside what the card says.
var (
	errBirthDate = errors.New("the card has refused the birth date of its row before: correct the list and register the card")
	errList      = errors.New("list cannot be used")
	errJournal   = errors.New("journal cannot be written")
	errGate      = errors.New("gate did not open")
	errCommanded = errors.New("command of the operator")
)

// ErrMultipleCards says that nobody can tell whose turn it is.
var ErrMultipleCards = errors.New("more than one card in the field")

// ErrNoKey says that a card did all that it was asked, and that nobody knows a
// key to check its answer with.
var ErrNoKey = errors.New("the card is registered without the key of the configured method: register it again")

// ReasonOf names why an error denies. Whatever is not known here is a fault
// of ours, and the gate is out of order.
func ReasonOf(err error) Reason {
	if bad, ok := errors.AsType[*nfc.CardError](err); ok && !errors.Is(bad, nfc.ErrRemoved) {
		return CardUnsupported // it is mute, or no card
	}
	for _, m := range [...]struct {
		err    error
		reason Reason
	}{
		{errGate, GateFault}, // whenever it was
		{errAlarm, EmergencyOpen},
		{errHalted, OutOfOrder},
		{context.Canceled, OutOfOrder}, // the agent is told to stop
		{errDeadline, ReadTimeout},
		{ErrNoPermit, ReadTimeout},
		{ErrMultipleCards, MultipleCards},
		{errList, DataStale},
		{errJournal, OutOfOrder},
		{jpki.ErrTerminalKey, OutOfOrder},
		{ErrUsesChanged, AlreadyUsed},
		{whitelist.ErrNotListed, NotListed},
		{ErrNoKey, NotListed},
		{nfc.ErrRemoved, CardRemoved},
		{jpki.ErrPINRequired, PINRequired},
		{jpki.ErrUnsupported, CardUnsupported},
		{nfc.ErrMalformed, CardUnsupported},
		{jpki.ErrRefused, AuthFailed},
		{errBirthDate, AuthFailed},
		{cardauth.ErrNotGenuine, AuthFailed},
		{cardauth.ErrExpired, CertExpired},
		{cardauth.ErrUntrusted, CertUntrusted},
	} {
		if errors.Is(err, m.err) {
			return m.reason
		}
	}
	return OutOfOrder
}
