package jpki

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
)

// A Registrar is the caller's side of a registration: what it asks the holder,
// and what it checks of the card on the way. An error of any of them ends the
// dialogue and is returned as it is; nothing further is sent to the card.
type Registrar struct {
	// CheckCertificate is given the whole certificate, and that of its
	// authority as the card carries it, if it does: before anything is asked
	// where the certificate is free to read, else right after the PIN.
	CheckCertificate func(der, authority []byte) error

	// CheckSigner is given the certificate of whoever signed the age record,
	// before anything is asked.
	CheckSigner func(cvc []byte) error

	// Ask asks the holder. It is called once more after an answer that no card
	// could take. Its context ends when the card leaves.
	Ask func(ctx context.Context, q Question) (Answer, error)

	// CheckAlone is asked when the holder has answered, before the card is given
	// the PIN: of two cards nobody can say whose it is.
	CheckAlone func() error

	// CheckProof is given what the authentication key signed, before the card
	// is given the birth date.
	CheckProof func(Signed) error

	// CheckRecord is given the age record, before the card's own key signs.
	CheckRecord func(record []byte) error
}

// A Question is what the holder has to know to answer.
type Question struct {
	PINTries int // tries left, at least 2, or Unlimited

	// BirthDate says that it is asked for too, and BirthDateTries how many
	// tries it has left, at least 2, or Unlimited.
	BirthDate      bool
	BirthDateTries int

	// Again says what was wrong with the answer before: ErrPINFormat or
	// cardauth.ErrBirthDate. Nothing of it was sent.
	Again error
}

// An Answer is what the holder typed for this tap.
type Answer struct {
	PIN       []byte // 4 digits. Register overwrites it when it is done with it
	BirthDate cardauth.BirthDate
}

// ErrPINFormat says that an authentication PIN is not 4 digits.
var ErrPINFormat = errors.New("the PIN is not 4 digits")

// Signed is a signature of the card.
type Signed struct {
	Scheme    cardkey.Scheme
	Signature []byte
}

// Registered is what a card said to its registration. The registrar has checked
// parts of it; what it is worth is for package registration to say.
type Registered struct {
	Info
	Authentication Signed // over the challenge
	AgeRecord      []byte // nil: the card has no key of its own
	Card           Signed // over Challenge.ForCardKey(Authentication.Signature)
}

// Register reads what a registration needs of the card on ch, which has just
// been powered in slot: with the PIN that its holder types, in one session.
//
//	free     JPKI-AP: token, EF 0008, certificate (checked), tries of the PIN
//	         card-surface AP, if any: EF 0004 (checked), tries of the birth date
//	ask      PIN and birth date, together: no person waits between the two
//	         proofs, so that the time in which cards could be exchanged is short
//	PIN      JPKI-AP: VERIFY · on phones the certificate (checked) · SIGN (checked)
//	         card-surface AP: VERIFY · EF 0001 (checked) · SIGN
//
// VERIFY carries a value at most once for each secret, and never the last try
// (card-facts §3, PIN rule).
func (d *Dialogue) Register(ctx context.Context, slot string, ch *nfc.Channel, challenge cardauth.Challenge, r Registrar) (Registered, error) {
	s := session{d: d, ctx: ctx, slot: slot, ch: ch}
	var got Registered
	err := s.register(challenge, r, &got)
	return got, err
}

func (s *session) register(challenge cardauth.Challenge, r Registrar, got *Registered) (err error) {
	p := &s.d.profile
	if got.Info, err = s.inspectJPKI(); err != nil {
		return err
	}
	if !got.PINRequired {
		if got.Certificate == nil {
			return fmt.Errorf("reading the certificate: %w: it has none", ErrUnsupported)
		}
		if err := r.CheckCertificate(got.Certificate, got.CACertificate); err != nil {
			return err
		}
	}
	var q Question
	if q.PINTries, err = s.triesToSpend(SecretPIN, efAuthenticationPIN); err != nil {
		return err
	}
	if p.FirstUse != nil {
		if err := s.inspectSurface(*p.FirstUse, r, got, &q); err != nil {
			return err
		}
		if err := s.selectDF("JPKI-AP", p.Applications.JPKI); err != nil {
			return err
		}
	}

	answer, err := s.ask(r.Ask, q, got.Token)
	if err != nil {
		return err
	}
	if err = r.CheckAlone(); err == nil {
		err = s.present(SecretPIN, efAuthenticationPIN, answer.PIN)
	}
	clear(answer.PIN)
	if err != nil {
		return err
	}
	if got.PINRequired {
		s.certificate = nil
		if err := s.readHead(); err != nil {
			return err
		}
		if err := s.readRest(); err != nil {
			return err
		}
		got.Certificate = s.certificate
		if err := r.CheckCertificate(got.Certificate, got.CACertificate); err != nil {
			return err
		}
	}
	if got.Authentication, err = s.signed(p.ExternalAuth.Sign, challenge); err != nil {
		return err
	}
	if err := r.CheckProof(got.Authentication); err != nil {
		return err
	}
	if !got.CardSurface {
		return nil
	}

	if err := s.selectDF("card-surface AP", p.Applications.CardSurface); err != nil {
		return err
	}
	if err := s.present(SecretBirthDate, p.FirstUse.BirthDate, answer.BirthDate.PIN()); err != nil {
		return err
	}
	record, err := s.readUpTo(p.FirstUse.AgeRecord, nil, cardauth.AgeRecordSize)
	if err != nil {
		return wrap("reading the age record", err, ErrUnsupported)
	}
	if err := r.CheckRecord(record); err != nil {
		return err
	}
	got.AgeRecord = record
	got.Card, err = s.signed(p.TapUse.Sign, challenge.ForCardKey(got.Authentication.Signature))
	return err
}

// inspectSurface looks whether there is a card-surface AP, which phones and
// SIMs do not have, and at what it gives away. The application that is selected
// afterwards is another one.
func (s *session) inspectSurface(files FirstUseFiles, r Registrar, got *Registered, q *Question) (err error) {
	if err := s.selectDF("card-surface AP", s.d.profile.Applications.CardSurface); err != nil {
		if gone(err) {
			return err
		}
		return nil
	}
	got.CardSurface, q.BirthDate = true, true
	got.SurfaceCertificate, err = s.readUpTo(files.SignerCertificate, nil, cardauth.CVCertificateSize)
	if err != nil {
		return wrap("reading the signer's certificate", err, ErrUnsupported)
	}
	if err := r.CheckSigner(got.SurfaceCertificate); err != nil {
		return err
	}
	q.BirthDateTries, err = s.triesToSpend(SecretBirthDate, files.BirthDate)
	return err
}

// signed has the card sign a challenge.
func (s *session) signed(how Sign, challenge cardauth.Challenge) (Signed, error) {
	if err := s.sign(how, challenge); err != nil {
		return Signed{}, err
	}
	return Signed{s.evidence.Scheme, s.evidence.Signature}, nil
}

// ask asks the holder until the answer is one that a card can take. The card is
// still there, and the same one by its label, when it returns.
func (s *session) ask(ask func(context.Context, Question) (Answer, error), q Question, token string) (Answer, error) {
	for {
		answer, err := s.askOnce(ask, q, token)
		if err == nil {
			q.Again = answer.check(q)
		}
		if err == nil && q.Again == nil {
			err = s.stillThere(token)
		}
		if err != nil {
			clear(answer.PIN)
			return Answer{}, err
		}
		if q.Again == nil {
			return answer, nil
		}
		clear(answer.PIN)
	}
}

// check says what keeps a card from taking the answer.
func (a Answer) check(q Question) error {
	if len(a.PIN) != 4 {
		return ErrPINFormat
	}
	for _, c := range a.PIN {
		if c < '0' || c > '9' {
			return ErrPINFormat
		}
	}
	if q.BirthDate && a.BirthDate.IsZero() {
		return cardauth.ErrBirthDate
	}
	return nil
}

// lookEvery is how often the card is looked at while its holder types.
const lookEvery = 500 * time.Millisecond

// askOnce lets the holder type, and ends that when the card leaves.
func (s *session) askOnce(ask func(context.Context, Question) (Answer, error), q Question, token string) (Answer, error) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	var answer Answer
	var err error
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		answer, err = ask(ctx, q)
	}()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-typed:
			return answer, err
		case <-look.C:
		}
		if left := s.stillThere(token); left != nil {
			cancel(left)
			<-typed
			return answer, left
		}
	}
}

// stillThere reads the token information again. Of a card that was exchanged a
// reader tells as of one that left; this is for a reader that does not.
func (s *session) stillThere(token string) error {
	label, err := s.readEF(efTokenInfo, tokenLabelSize)
	if gone(err) {
		return err
	}
	if strings.TrimRight(string(label), " \x00") != token {
		return fmt.Errorf("%w: another card answers", nfc.ErrRemoved)
	}
	return nil
}
