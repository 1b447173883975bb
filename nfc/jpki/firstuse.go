package jpki

import (
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
)

// firstUse lets the card show its age record, which certifies its own key
// (card-facts §5, first use, step 2), in the card-surface AP that is selected.
// Whoever only repeats what others' cards give away freely is to learn as
// little as can be: the signer's certificate is asked for and checked before
// the birth date is presented.
func (s *session) firstUse(f FirstUse) error {
	files := s.d.profile.FirstUse
	if files == nil {
		return fmt.Errorf("first use: card profile %q has none", s.d.profile.Name)
	}
	signer, err := s.readUpTo(files.SignerCertificate, nil, cardauth.CVCertificateSize)
	if err != nil {
		return wrap("reading the signer's certificate", err, ErrUnsupported)
	}
	if err := f.CheckSigner(signer); err != nil {
		return err
	}
	if err := s.presentBirthDate(files.BirthDate, f.BirthDate); err != nil {
		return err
	}
	record, err := s.readUpTo(files.AgeRecord, nil, cardauth.AgeRecordSize)
	if err != nil {
		return wrap("reading the age record", err, ErrRefused) // it has just been opened
	}
	return f.CheckRecord(record)
}

// presentBirthDate sends VERIFY with a value that nobody typed: the one place
// where a tap does (card-facts §3, PIN rule). It does so once, and not when one
// try is left, because a mistake in a list must not lock a person's card.
func (s *session) presentBirthDate(pin FileID, born cardauth.BirthDate) error {
	if _, err := s.triesToSpend(BirthDate, pin); err != nil {
		return err
	}
	err := s.verify(pin, born.PIN())
	if status, ok := errors.AsType[*nfc.StatusError](err); ok {
		s.evidence.BirthDateRefused = status.SW&0xFF00 == 0x6300
	}
	return wrap("presenting the birth date", err, ErrRefused)
}

// Unlimited is how many tries are left where there is no limit.
const Unlimited = 1 << 16

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

// verify is VERIFY by short EF identifier (ISO/IEC 7816-4:2020 §11.6.6).
func (s *session) verify(pin FileID, value []byte) error {
	_, err := s.ch.Do(s.ctx, nfc.Command{INS: insVerify, P2: 0x80 | pin.SFI(), Data: value})
	return err
}
