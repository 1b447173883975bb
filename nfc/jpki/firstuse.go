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
	if _, err := s.triesToSpend(SecretBirthDate, pin); err != nil {
		return err
	}
	err := s.verify(pin, born.PIN())
	if status, ok := errors.AsType[*nfc.StatusError](err); ok {
		s.evidence.BirthDateRefused = status.SW&0xFF00 == 0x6300
	}
	return wrap("presenting the birth date", err, ErrRefused)
}
