package registration

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// Tolerance is how far the clock of a terminal may be ahead.
const Tolerance = 2 * time.Minute

// Trust is what a record is verified against. The zero Trust accepts none.
type Trust struct {
	// Keys are those of terminals: role sign1.RoleRegistration, the scope they
	// register for, and the terminal's name as the signer.
	Keys sign1.Keys

	Hierarchy string // Production or Test
	Anchors   []*x509.Certificate

	// SurfaceAuthorities certify who signs age records. Without any, only a
	// card that has no key of its own can be registered.
	SurfaceAuthorities []cardauth.CVAuthority

	MaxAge time.Duration // of a record
}

// Sign checks the form of a record and signs it with the identity key of its
// terminal. Rand is as for sign1.Sign.
func Sign(rand io.Reader, signer crypto.Signer, r Record) ([]byte, error) {
	b, err := r.encode()
	if err != nil {
		return nil, err
	}
	return sign1.Sign(rand, sign1.RoleRegistration, signer, b)
}

// Verify checks a signed record from its first byte to its last and makes a
// Registration of it. The certificate is judged at the instant that the record
// names, whose distance from now is bounded.
func (t Trust) Verify(msg []byte, now time.Time) (Registration, error) {
	reg, err := t.verify(msg, now)
	if err != nil {
		return Registration{}, fmt.Errorf("verifying registration: %w", err)
	}
	return reg, nil
}

func (t Trust) verify(msg []byte, now time.Time) (Registration, error) {
	payload, err := t.Keys.Verify(sign1.RoleRegistration, msg)
	if err != nil {
		return Registration{}, err
	}
	r, err := decode(payload.Bytes())
	if err != nil {
		return Registration{}, err
	}
	switch {
	case r.Scope != payload.Scope():
		return Registration{}, fmt.Errorf("%w: it is for %q, its key may sign for %q", ErrScope, r.Scope, payload.Scope())
	case r.Terminal != payload.Signer():
		return Registration{}, fmt.Errorf("%w: it names %q, its key is that of %q", ErrTerminal, r.Terminal, payload.Signer())
	case r.Hierarchy != t.Hierarchy:
		return Registration{}, fmt.Errorf("%w: %s, want %q", ErrHierarchy, r.Hierarchy, t.Hierarchy)
	case r.At.After(now.Add(Tolerance)):
		return Registration{}, fmt.Errorf("%w: %v ahead", ErrAge, r.At.Sub(now).Round(time.Second))
	case now.Sub(r.At) > t.MaxAge:
		return Registration{}, fmt.Errorf("%w: %v old, at most %v", ErrAge, now.Sub(r.At).Round(time.Second), t.MaxAge)
	}

	reg := Registration{record: r}
	if reg.head, err = cardauth.ParseHead(r.Certificate); err != nil {
		return Registration{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if reg.authKey, err = cardauth.VerifyCertificate(reg.head, r.Certificate, t.Anchors, r.At); err != nil {
		return Registration{}, err
	}
	challenge := r.Challenge()
	if err := challenge.VerifiedBy(reg.authKey, r.Authentication.Scheme, r.Authentication.Signature); err != nil {
		return Registration{}, fmt.Errorf("authentication key: %w: %w", cardauth.ErrNotGenuine, err)
	}
	if s := r.Surface; s != nil {
		if err := t.surface(&reg, *s, challenge.ForCardKey(r.Authentication.Signature)); err != nil {
			return Registration{}, err
		}
	}
	reg.verified = true
	return reg, nil
}

// surface checks what stands behind the card's own key, and its answer.
func (t Trust) surface(reg *Registration, s Surface, challenge cardauth.Challenge) error {
	signer, err := cardauth.VerifyCVCertificate(s.SignerCertificate, t.SurfaceAuthorities)
	if err != nil {
		return err
	}
	record, err := cardauth.ParseAgeRecord(s.AgeRecord)
	if err != nil {
		return err
	}
	reg.born = record.BirthDate()
	if reg.cardKey, err = cardauth.VerifyAgeRecord(s.AgeRecord, signer, reg.born); err != nil {
		return err
	}
	if err := challenge.VerifiedBy(reg.cardKey, s.Card.Scheme, s.Card.Signature); err != nil {
		return fmt.Errorf("card key: %w: %w", cardauth.ErrNotGenuine, err)
	}
	return nil
}
