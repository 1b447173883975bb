package cardid

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrSealed means that sealed bytes did not open: another head, scope or key,
// or not the bytes that were sealed. AEAD cannot tell these apart, nor do we.
var ErrSealed = errors.New("sealed row does not open")

// MaxPlaintext is the longest plaintext Seal takes.
const MaxPlaintext = 4096 - 1

// Overhead is what sealing adds to a padded plaintext: nonce and tag.
const Overhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// sizes are the padded lengths, chosen by what rows hold: 128 a revoked or
// first-use row, 384 one RSA-2048 key, 768 two of them, the common row;
// 1536 two RSA-4096 keys; 4096 long entitlements. A sealed row's length tells
// the class and nothing else.
var sizes = [...]int{128, 384, 768, 1536, 4096}

// Seal returns nonce ‖ ciphertext ‖ tag for one row. The epoch enters only the
// nonce: rows of different epochs cannot be compared by whoever holds both.
func (k ScopeKey) Seal(scope string, epoch uint64, head, plaintext []byte) ([]byte, error) {
	if k.k == nil {
		return nil, errNoKey
	}
	i := slices.IndexFunc(sizes[:], func(n int) bool { return len(plaintext) < n })
	if i < 0 {
		return nil, fmt.Errorf("a row of %d bytes cannot be sealed, at most %d fit", len(plaintext), MaxPlaintext)
	}
	r, err := k.rowKey(scope, head)
	if err != nil {
		return nil, err
	}

	// ISO/IEC 7816-4 padding: 80, then 00 up to the class.
	padded := make([]byte, sizes[i])
	padded[copy(padded, plaintext)] = 0x80

	// The nonce is a PRF of all that varies under this key, so the same nonce
	// always means the same message.
	mac := hmac.New(sha256.New, r.nonce)
	mac.Write(appendPrefixed(nil, binary.BigEndian.AppendUint64(nil, epoch)))
	mac.Write(appendPrefixed(nil, padded))
	out := make([]byte, chacha20poly1305.NonceSizeX, len(padded)+Overhead)
	copy(out, mac.Sum(nil))
	return r.aead.Seal(out, out, padded, k.associated(scope, head)), nil
}

// Open returns the plaintext of a sealed row, or ErrSealed.
func (k ScopeKey) Open(scope string, head, sealed []byte) ([]byte, error) {
	if k.k == nil {
		return nil, errNoKey
	}
	if !slices.Contains(sizes[:], len(sealed)-Overhead) {
		return nil, ErrSealed
	}
	r, err := k.rowKey(scope, head)
	if err != nil {
		return nil, err
	}
	nonce, ciphertext := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	padded, err := r.aead.Open(nil, nonce, ciphertext, k.associated(scope, head))
	if err != nil {
		return nil, ErrSealed
	}
	end := len(padded) - 1
	for end >= 0 && padded[end] == 0 {
		end--
	}
	if end < 0 || padded[end] != 0x80 {
		return nil, ErrSealed
	}
	return padded[:end], nil
}

type rowKey struct {
	aead  cipher.AEAD
	nonce []byte
}

// rowKey derives the keys of one row. HKDF-Extract takes the head as input key
// material and the scope's row key as salt, so both must be known. The scope
// goes into the derivation as well as into the associated data: otherwise one
// key used in two scopes would put one nonce on two messages.
func (k ScopeKey) rowKey(scope string, head []byte) (rowKey, error) {
	prk, err := hkdf.Extract(sha256.New, head, (*k.k).row[:])
	if err != nil {
		return rowKey{}, fmt.Errorf("deriving a row key: %w", err)
	}
	seal, err := hkdf.Expand(sha256.New, prk, string(appendPrefixed([]byte("gate-agent/cardid/v1/row/seal"), []byte(scope))), chacha20poly1305.KeySize)
	if err != nil {
		return rowKey{}, fmt.Errorf("deriving a row key: %w", err)
	}
	nonce, err := hkdf.Expand(sha256.New, prk, string(appendPrefixed([]byte("gate-agent/cardid/v1/row/nonce"), []byte(scope))), sha256.Size)
	if err != nil {
		return rowKey{}, fmt.Errorf("deriving a nonce key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(seal)
	if err != nil {
		return rowKey{}, fmt.Errorf("making the row cipher: %w", err)
	}
	return rowKey{aead, nonce}, nil
}

// associated binds a sealed row to format, scope and place in the list.
func (k ScopeKey) associated(scope string, head []byte) []byte {
	id := k.ID(head)
	b := appendPrefixed(nil, []byte("gate-agent/row/v1"))
	b = appendPrefixed(b, []byte(scope))
	return appendPrefixed(b, id[:])
}

// appendPrefixed appends the length of s as 32 bits, big-endian, and s.
func appendPrefixed(b, s []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
