// Package cardkey is the public keys that cards hold, and the schemes by which
// what they sign is verified.
//
// It promises that a [Key] is of a kind that cards have, RSA-2048 with e = 65537
// or ECDSA on P-384, and that a signature is verified under the scheme that the
// caller names, with the kind of key that belongs to it, and no other. Which
// kinds and schemes there are stands in two tables: a further generation of
// cards is a further line.
//
// Specifications: RFC 8017 §8 (RSASSA), FIPS 186-5 §6 (ECDSA), RFC 5280 §4.1.2.7
// (SubjectPublicKeyInfo).
package cardkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the schemes
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
)

// A Key is the public half of a key on a card. The zero Key is none.
type Key struct {
	public crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey; never changed
}

// kinds are the keys that cards have (card-facts §7).
var kinds = [...]struct {
	name string
	is   func(crypto.PublicKey) bool
}{
	{"RSA-2048 with e = 65537", func(public crypto.PublicKey) bool {
		k, ok := public.(*rsa.PublicKey)
		return ok && k != nil && k.N != nil && k.N.Sign() > 0 && k.N.BitLen() == 2048 && k.N.Bit(0) == 1 && k.E == 65537
	}},
	{"ECDSA on P-384", func(public crypto.PublicKey) bool {
		k, ok := public.(*ecdsa.PublicKey)
		if !ok || k == nil || k.Curve != elliptic.P384() || k.X == nil || k.Y == nil {
			return false
		}
		_, err := k.ECDH() // refuses a point that is not on the curve
		return err == nil
	}},
}

// ErrKind says that a key is of no kind that cards have.
var ErrKind = errors.New("key is neither RSA-2048 with e = 65537 nor ECDSA on P-384")

// New accepts a key of the standard library. The caller does not change it
// afterwards.
func New(public crypto.PublicKey) (Key, error) {
	for _, kind := range kinds {
		if kind.is(public) {
			return Key{public}, nil
		}
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k != nil && k.N != nil {
			return Key{}, fmt.Errorf("%w: RSA of %d bits, e = %d", ErrKind, k.N.BitLen(), k.E)
		}
	case *ecdsa.PublicKey:
		if k != nil && k.Curve != nil {
			return Key{}, fmt.Errorf("%w: ECDSA on %s", ErrKind, k.Params().Name)
		}
	}
	return Key{}, ErrKind
}

// Parse reads a SubjectPublicKeyInfo in DER.
func Parse(spki []byte) (Key, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return Key{}, err
	}
	return New(public)
}

// SPKI is the key's SubjectPublicKeyInfo in DER, nil of the zero Key.
func (k Key) SPKI() []byte {
	if k.IsZero() {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		panic("cardkey: " + err.Error()) // New let pass what has no encoding
	}
	return der
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k.public == nil }

// Equal reports whether k and other are the same key. Two zero keys are not:
// no key is nobody's.
func (k Key) Equal(other Key) bool {
	own, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && !other.IsZero() && own.Equal(other.public)
}

// String names the kind, never the key: it identifies a card.
func (k Key) String() string {
	for _, kind := range kinds {
		if kind.is(k.public) {
			return kind.name
		}
	}
	return "no key"
}

// Format keeps the key out of every verb.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprint(s, k.String()) }

// A Scheme is a signature scheme that a card may use.
type Scheme string

// Schemes.
const (
	PKCS1v15SHA256  Scheme = "rsassa-pkcs1-v1_5-sha256" // RFC 8017 §8.2
	PSSSHA256       Scheme = "rsassa-pss-sha256"        // RFC 8017 §8.1; the salt is as long as the hash
	ECDSAP384SHA384 Scheme = "ecdsa-p384-sha384"        // FIPS 186-5 §6; the signature is an Ecdsa-Sig-Value in DER (RFC 3279 §2.2.3)
)

// schemes says how each of them is verified. A check of a signature that is
// given a key of another kind fails.
var schemes = map[Scheme]struct {
	hash   crypto.Hash
	verify func(public crypto.PublicKey, digest, signature []byte) error
}{
	PKCS1v15SHA256: {crypto.SHA256, func(public crypto.PublicKey, digest, signature []byte) error {
		k, ok := public.(*rsa.PublicKey)
		if !ok {
			return errOtherKind
		}
		// Compares the whole encoded message, padding included.
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, signature)
	}},
	PSSSHA256: {crypto.SHA256, func(public crypto.PublicKey, digest, signature []byte) error {
		k, ok := public.(*rsa.PublicKey)
		if !ok {
			return errOtherKind
		}
		return rsa.VerifyPSS(k, crypto.SHA256, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}},
	ECDSAP384SHA384: {crypto.SHA384, func(public crypto.PublicKey, digest, signature []byte) error {
		k, ok := public.(*ecdsa.PublicKey)
		if !ok {
			return errOtherKind
		}
		if !ecdsa.VerifyASN1(k, digest, signature) {
			return errors.New("ECDSA verification error")
		}
		return nil
	}},
}

var errOtherKind = errors.New("key is of another kind than the scheme's")

// Hash is the scheme's hash, 0 of an unknown scheme.
func (s Scheme) Hash() crypto.Hash { return schemes[s].hash }

// Verify checks a signature over a digest of the scheme's hash.
func (k Key) Verify(s Scheme, digest, signature []byte) error {
	scheme, ok := schemes[s]
	switch {
	case !ok:
		return fmt.Errorf("unknown signature scheme %q", string(s))
	case k.IsZero():
		return errors.New("no key to verify with")
	case len(digest) != scheme.hash.Size():
		return fmt.Errorf("digest of %d bytes, %s has %d", len(digest), scheme.hash, scheme.hash.Size())
	}
	return scheme.verify(k.public, digest, signature)
}
