package keystore

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	wrapVersion = 1
	wrapLabel   = "gate-agent wrapped secret v1\x00"
	maxSecret   = 4 << 10
)

// aeadWrapper seals with XChaCha20-Poly1305; its 24-byte nonces are random,
// which is safe for any number of secrets that a terminal will ever wrap.
//
//	blob = version (1) ‖ nonce (24) ‖ ciphertext ‖ tag (16)
//	associated data = "gate-agent wrapped secret v1" ‖ 00 ‖ label
type aeadWrapper struct{ aead cipher.AEAD }

func (sealedMedium) openWrapper(_ context.Context, u URI, _ *pinSource) (Wrapper, error) {
	_, plain, err := openSealed(u, Wrap)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	aead, err := chacha20poly1305.NewX(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %d bytes inside, want %d", ErrDamaged, len(plain), chacha20poly1305.KeySize)
	}
	return aeadWrapper{aead}, nil
}

func (w aeadWrapper) Wrap(secret []byte, label string) ([]byte, error) {
	if err := checkSecret(secret, label); err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	head := 1 + w.aead.NonceSize()
	blob := make([]byte, head, head+len(secret)+w.aead.Overhead())
	blob[0] = wrapVersion
	rand.Read(blob[1:])
	return w.aead.Seal(blob, blob[1:], secret, []byte(wrapLabel+label)), nil
}

func (w aeadWrapper) Unwrap(blob []byte, label string) ([]byte, error) {
	if err := checkLabel(label); err != nil {
		return nil, fmt.Errorf("unwrapping a secret: %w", err)
	}
	head := 1 + w.aead.NonceSize()
	if n := len(blob) - head - w.aead.Overhead(); n < 1 || n > maxSecret || blob[0] != wrapVersion {
		return nil, fmt.Errorf("unwrapping a secret: %w", ErrDamaged)
	}
	secret, err := w.aead.Open(nil, blob[1:head], blob[head:], []byte(wrapLabel+label))
	if err != nil {
		return nil, fmt.Errorf("unwrapping the secret of %q: %w", label, ErrWrongSecret)
	}
	return secret, nil
}

func (aeadWrapper) Close() error { return nil }

// Format, as for Key: fmt would look into the cipher otherwise.
func (w aeadWrapper) Format(f fmt.State, _ rune) { io.WriteString(f, "keystore: wrapping secret") }

func checkSecret(secret []byte, label string) error {
	if len(secret) < 1 || len(secret) > maxSecret {
		return fmt.Errorf("it has %d bytes, want 1 to %d", len(secret), maxSecret)
	}
	return checkLabel(label)
}

func checkLabel(label string) error {
	if len(label) < 1 || len(label) > 255 {
		return errors.New("label must have 1 to 255 bytes")
	}
	return nil
}
