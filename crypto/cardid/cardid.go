// Package cardid turns a certificate head into a pseudonym, and seals what a
// list says about its holder so that only the card itself can open it.
//
// The head is the DER encoding of the user-authentication certificate from its
// first byte up to, not including, subjectPublicKeyInfo (RFC 5280 §4.1). To
// this package it is a string of bytes. It carries the serial number, the
// validity and the random part of the subject, so unlike a serial number alone
// it cannot be found by counting.
//
// It promises:
//
//   - A [CardID] says nothing about a person to somebody without the scope key,
//     and cannot be linked to the CardID of the same card in another scope.
//   - A sealed row opens only with the scope key and the head together.
//   - Sealing is deterministic: the same scope, epoch, head and plaintext give
//     the same bytes, so a list can be built twice and compared.
//
// What it cannot do: somebody who holds the scope key and a copy of a person's
// certificate can compute that person's CardID and open that person's row.
//
// Primitives: HMAC-SHA-256 (RFC 2104), HKDF-SHA-256 (RFC 5869),
// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03). All lengths are in bytes and
// everything hashed together is length-prefixed.
package cardid

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ScopeKeySize is the length of a scope key's secret.
const ScopeKeySize = 32

// A ScopeKey is the secret shared by the hub and the terminals of one scope.
// The zero value is no key: Seal and Open refuse it and ID panics.
//
// It never prints itself. The sub-keys sit behind two pointers, so that even
// printing a structure that holds a ScopeKey in an unexported field, where fmt
// cannot call Format, shows an address and no key. One pointer is not enough:
// fmt follows it when the verb does not fit a pointer, as in %s.
type ScopeKey struct{ k **subkeys }

// subkeys are derived once: one key, one use.
type subkeys struct {
	id    [32]byte // HMAC key of CardIDs
	row   [32]byte // HKDF salt of row keys
	check [16]byte // public
}

// NewScopeKey derives a scope key from its secret, 32 uniformly random bytes.
// The secret is not kept.
func NewScopeKey(secret []byte) (ScopeKey, error) {
	if len(secret) != ScopeKeySize {
		return ScopeKey{}, fmt.Errorf("a scope key has %d bytes, not %d", ScopeKeySize, len(secret))
	}
	k := new(subkeys)
	for _, s := range []struct {
		out   []byte
		label string
	}{
		{k.id[:], "gate-agent/cardid/v1/id"},
		{k.row[:], "gate-agent/cardid/v1/row"},
		{k.check[:], "gate-agent/cardid/v1/check"},
	} {
		b, err := hkdf.Key(sha256.New, secret, nil, s.label, len(s.out))
		if err != nil {
			return ScopeKey{}, fmt.Errorf("deriving a scope sub-key: %w", err)
		}
		copy(s.out, b)
	}
	return ScopeKey{&k}, nil
}

// WrapLabel is the label under which the secret of a scope key is wrapped for a
// terminal (keystore.Wrapper): one that was wrapped for another scope does not
// unwrap.
func WrapLabel(scope string) string { return "scope-key/" + scope }

// IsZero reports whether k is no key.
func (k ScopeKey) IsZero() bool { return k.k == nil }

// Check returns a public value that tells scope keys apart and reveals nothing
// about them. A list carries it, so that a terminal with another key says so
// instead of finding nobody.
func (k ScopeKey) Check() [16]byte {
	if k.k == nil {
		return [16]byte{}
	}
	return (*k.k).check
}

const redacted = "cardid.ScopeKey(redacted)"

// String implements fmt.Stringer without the key.
func (ScopeKey) String() string { return redacted }

// GoString implements fmt.GoStringer without the key.
func (ScopeKey) GoString() string { return redacted }

// Format implements fmt.Formatter without the key, whatever the verb.
func (ScopeKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// A CardID is the pseudonym of one certificate in one scope.
type CardID [sha256.Size]byte

// String returns the CardID in lower-case hexadecimal.
func (id CardID) String() string { return hex.EncodeToString(id[:]) }

// ID returns the CardID of a certificate head: HMAC-SHA-256 under a sub-key of
// the scope key.
func (k ScopeKey) ID(head []byte) CardID {
	if k.k == nil {
		panic("cardid: ID with the zero ScopeKey")
	}
	h := hmac.New(sha256.New, (*k.k).id[:])
	h.Write(head)
	return CardID(h.Sum(nil))
}

var errNoKey = errors.New("no scope key")
