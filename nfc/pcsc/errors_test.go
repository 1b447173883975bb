package pcsc

import (
	"errors"
	"testing"

	"github.com/ebfe/scard"

	"github.com/gate-agent/gate-agent/nfc"
)

func TestErrorsOfTheServiceSayWhatBecameOfTheCard(t *testing.T) {
	short := []byte{0x00, 0xB0, 0x8A, 0x00, 0x00}
	extended := []byte{0x00, 0xB0, 0x8A, 0x00, 0x00, 0x00, 0x00}
	transmit := func(capdu []byte) func(error) error {
		return func(err error) error { return transmitError(err, capdu) }
	}
	kinds := []error{nfc.ErrRemoved, nfc.ErrExtendedLength, ErrUnresponsive, ErrBusy, ErrNoService}
	for _, tc := range []struct {
		when string
		turn func(error) error
		code scard.Error
		want error // nil: none of kinds
	}{
		{"connect", connectError, scard.ErrNoSmartcard, nfc.ErrRemoved},
		{"connect", connectError, scard.ErrRemovedCard, nfc.ErrRemoved},
		{"connect", connectError, scard.ErrUnresponsiveCard, ErrUnresponsive},
		{"connect", connectError, scard.ErrUnpoweredCard, ErrUnresponsive},
		{"connect", connectError, scard.ErrProtoMismatch, ErrUnresponsive},
		{"connect", connectError, scard.ErrSharingViolation, ErrBusy},
		{"connect", connectError, scard.ErrNoService, ErrNoService},
		{"connect", connectError, scard.ErrCommError, ErrNoService},
		{"connect", connectError, scard.ErrReaderUnavailable, nil},

		{"command", transmit(short), scard.ErrRemovedCard, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrNoSmartcard, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrResetCard, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrUnpoweredCard, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrNotTransacted, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrCommDataLost, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrCommError, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrReaderUnavailable, nfc.ErrRemoved},
		{"command", transmit(short), scard.ErrInvalidParameter, nil},
		{"command", transmit(short), scard.ErrNoService, ErrNoService},

		{"extended command", transmit(extended), scard.ErrInvalidParameter, nfc.ErrExtendedLength},
		{"extended command", transmit(extended), scard.ErrInvalidValue, nfc.ErrExtendedLength},
		{"extended command", transmit(extended), scard.ErrInsufficientBuffer, nfc.ErrExtendedLength},
		{"extended command", transmit(extended), scard.ErrRemovedCard, nfc.ErrRemoved},
	} {
		got := tc.turn(tc.code)
		if !errors.Is(got, tc.code) {
			t.Errorf("%s, %v: the code is lost in %v", tc.when, tc.code, got)
		}
		for _, kind := range kinds {
			if errors.Is(got, kind) != (kind == tc.want) {
				t.Errorf("%s, %v: %v, want %v", tc.when, tc.code, got, tc.want)
			}
		}
	}
}
