// Package cardauth turns what a card said into a Holder, or refuses.
//
// It promises that a Holder exists only after a genuine card has answered a
// challenge that nobody could foresee, with a key that was either registered
// for exactly this certificate or is certified by a pinned authority at the
// one instant of the tap. It keeps no state and reads no clock, and below it
// are the standard library and crypto/cardkey alone.
//
// Specifications: RFC 5280 (certificates); card-facts.md §4 (card-verifiable
// certificates, the age record).
package cardauth

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// Errors that a caller acts on.
var (
	// ErrNotGenuine says that the card could not prove to hold the key.
	ErrNotGenuine = errors.New("card did not prove its key")

	// ErrUntrusted says that no pinned authority issued the certificate, or
	// not for authentication.
	ErrUntrusted = errors.New("certificate is not trusted")

	// ErrExpired says that the certificate is not valid at the instant.
	ErrExpired = errors.New("certificate is not valid at this time")
)

// A Proof is what a card answered to our challenge.
type Proof struct {
	Head      Head
	Challenge Challenge
	Signature []byte // over the challenge's digest
	Scheme    cardkey.Scheme
}

// A Holder is the person a genuine, present card stands for. Only Verify
// makes one; the zero Holder is nobody.
type Holder struct {
	head     Head
	verified bool
}

// Head names the credential.
func (h Holder) Head() Head { return h.head }

// IsZero reports whether h is nobody.
func (h Holder) IsZero() bool { return !h.verified }

// Verify checks that the card answered the challenge with the private half of
// key, and that its certificate is valid at the instant at. The caller says
// whose key that is: the row's registered card key or authentication key, or
// the key of a certificate or an age record that was verified in this tap.
func Verify(p Proof, key cardkey.Key, at time.Time) (Holder, error) {
	if err := CheckValidity(p.Head, at); err != nil {
		return Holder{}, err
	}
	if key.IsZero() {
		return Holder{}, fmt.Errorf("%w: no key to check the answer with", ErrUntrusted)
	}
	if err := p.Challenge.VerifiedBy(key, p.Scheme, p.Signature); err != nil {
		return Holder{}, fmt.Errorf("%w: %w", ErrNotGenuine, err)
	}
	return Holder{head: p.Head, verified: true}, nil
}

// CheckValidity checks that the head's certificate is valid at the instant.
// The zero head is malformed.
func CheckValidity(h Head, at time.Time) error {
	if len(h.raw) == 0 {
		return ErrHeadMalformed
	}
	// Without the dates: a certificate ends on its holder's birthday, and
	// errors reach logs.
	if at.Before(h.notBefore) {
		return fmt.Errorf("%w: its validity has not begun", ErrExpired)
	}
	if at.After(h.notAfter) {
		return fmt.Errorf("%w: its validity has ended", ErrExpired)
	}
	return nil
}

// SameHead reports whether the whole certificate der begins with h, which is
// how a certificate read later in a session is tied to the head that the list
// was asked for.
func SameHead(h Head, der []byte) bool {
	return len(h.raw) > 0 && bytes.HasPrefix(der, h.raw)
}
