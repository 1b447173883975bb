package jpki

import (
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/nfc"
)

// A Secret is what a card counts tries of.
type Secret string

// The secrets of a card that a dialogue presents.
const (
	SecretPIN       Secret = "PIN"        // EF 0018
	SecretBirthDate Secret = "birth date" // EF 0011 of the card-surface AP
)

// A TriesError says that a secret was wrong, or that it was not even asked for
// because no try is left that could be spent. It is ErrRefused.
type TriesError struct {
	Secret Secret
	Wrong  bool
	Left   int // -1: the card did not say
}

func (e *TriesError) Error() string {
	if !e.Wrong {
		return fmt.Sprintf("the %s is not asked for: tries left: %d, and the last one is not ours to spend", e.Secret, e.Left)
	}
	if e.Left < 0 {
		return fmt.Sprintf("the %s is wrong", e.Secret)
	}
	return fmt.Sprintf("the %s is wrong, tries left: %d", e.Secret, e.Left)
}

// Unwrap gives ErrRefused.
func (e *TriesError) Unwrap() error { return ErrRefused }

// Unlimited is how many tries are left where there is no limit.
const Unlimited = 1 << 16

// triesToSpend is how many tries a secret has left, when one of them may be
// spent: a mistake must not lock a person's card.
func (s *session) triesToSpend(secret Secret, pin FileID) (int, error) {
	left, err := s.triesLeft(pin)
	if err != nil {
		return 0, wrap("asking for the tries of the "+string(secret), err, ErrRefused)
	}
	if left <= 1 {
		return left, &TriesError{Secret: secret, Left: left}
	}
	return left, nil
}

// triesLeft asks with an empty VERIFY how many tries a PIN has, which spends
// none. Cards answer it with 63xx even when the PIN is verified.
func (s *session) triesLeft(pin FileID) (int, error) {
	err := s.verify(pin, nil)
	status, ok := errors.AsType[*nfc.StatusError](err)
	switch {
	case err == nil:
		return 0, fmt.Errorf("%w: 9000 to an empty VERIFY", nfc.ErrMalformed)
	case !ok:
		return 0, err
	case status.SW == swNoLimit:
		return Unlimited, nil
	case errors.Is(err, nfc.ErrBlocked):
		return 0, nil
	}
	if left, ok := status.TriesLeft(); ok {
		return left, nil
	}
	return 0, err
}

// swNoLimit answers an empty VERIFY where the tries have no limit.
const swNoLimit nfc.SW = 0x6300

// present sends VERIFY with what the holder typed.
func (s *session) present(secret Secret, pin FileID, value []byte) error {
	err := s.verify(pin, value)
	if errors.Is(err, nfc.ErrBlocked) {
		return &TriesError{Secret: secret, Wrong: true}
	}
	if status, ok := errors.AsType[*nfc.StatusError](err); ok && status.SW&0xFF00 == 0x6300 {
		left, counted := status.TriesLeft()
		if !counted {
			left = -1
		}
		return &TriesError{Secret: secret, Wrong: true, Left: left}
	}
	return wrap("presenting the "+string(secret), err, ErrRefused)
}

// verify is VERIFY by short EF identifier (ISO/IEC 7816-4:2020 §11.6.6).
func (s *session) verify(pin FileID, value []byte) error {
	_, err := s.ch.Do(s.ctx, nfc.Command{INS: insVerify, P2: 0x80 | pin.SFI(), Data: value})
	return err
}
