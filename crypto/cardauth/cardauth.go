// Package cardauth turns what a card said into a Holder, or refuses.
//
// It promises that a Holder exists only after a genuine card has answered a
// challenge that nobody could foresee, with a key that was either registered
// for exactly this certificate or is certified by a pinned authority at the
// one instant of the tap. It uses the standard library only, keeps no state
// and reads no clock.
//
// Specifications: RFC 5280 (certificates), RFC 8017 §8.2 (RSASSA-PKCS1-v1_5).
package cardauth

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
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
	Digest    [sha256.Size]byte // of the challenge (Challenge.Digest)
	Signature []byte            // RSASSA-PKCS1-v1_5 or PSS over Digest
	Scheme    Scheme
}

// A Scheme is a signature scheme that a card may use.
type Scheme string

// Schemes (RFC 8017 §8.1, §8.2). The salt of PSS is as long as the hash.
const (
	PKCS1v15SHA256 Scheme = "rsassa-pkcs1-v1_5-sha256"
	PSSSHA256      Scheme = "rsassa-pss-sha256"
)

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
// the key of a certificate that VerifyCertificate accepted.
func Verify(p Proof, key *rsa.PublicKey, at time.Time) (Holder, error) {
	if err := CheckValidity(p.Head, at); err != nil {
		return Holder{}, err
	}
	if err := checkKey(key); err != nil {
		return Holder{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	var err error
	switch p.Scheme {
	case PKCS1v15SHA256:
		// Compares the whole encoded message, padding included.
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, p.Digest[:], p.Signature)
	case PSSSHA256:
		err = rsa.VerifyPSS(key, crypto.SHA256, p.Digest[:], p.Signature,
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		err = fmt.Errorf("unknown signature scheme %q", p.Scheme)
	}
	if err != nil {
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

// checkKey accepts the RSA keys that cards and authorities of JPKI have:
// 2048 bits (up to 4096 for a later generation), public exponent 65537.
func checkKey(key *rsa.PublicKey) error {
	switch {
	case key == nil || key.N == nil:
		return errors.New("no public key")
	case key.N.BitLen() < 2048 || key.N.BitLen() > 4096:
		return fmt.Errorf("RSA key of %d bits, want 2048 to 4096", key.N.BitLen())
	case key.E != 65537:
		return fmt.Errorf("RSA exponent %d, want 65537", key.E)
	}
	return nil
}

// SameHead reports whether the whole certificate der begins with h, which is
// how a certificate read later in a session is tied to the head that the list
// was asked for.
func SameHead(h Head, der []byte) bool {
	return len(h.raw) > 0 && bytes.HasPrefix(der, h.raw)
}
