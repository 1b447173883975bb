package lease

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// A DeliveryKey is the private half of the key to which a terminal is sent its
// scope key. The zero value is none. It never prints itself.
type DeliveryKey struct{ key *hpke.PrivateKey }

// The suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305 (RFC 9180 §7).
func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// NewDeliveryKey makes a key.
func NewDeliveryKey() (DeliveryKey, error) {
	k, err := kem().GenerateKey()
	if err != nil {
		return DeliveryKey{}, fmt.Errorf("making a delivery key: %w", err)
	}
	return DeliveryKey{&k}, nil
}

// ParseDeliveryKey reads what Bytes returned.
func ParseDeliveryKey(b []byte) (DeliveryKey, error) {
	k, err := kem().NewPrivateKey(b)
	if err != nil {
		return DeliveryKey{}, errors.New("not a delivery key") // the parser's text may quote it
	}
	return DeliveryKey{&k}, nil
}

// Bytes is the private key, 32 bytes, to be wrapped under WrapLabel.
func (k DeliveryKey) Bytes() ([]byte, error) {
	if k.key == nil {
		return nil, errNoKey
	}
	return (*k.key).Bytes()
}

// WrapLabel is the label under which the delivery key of a terminal is wrapped
// (keystore.Wrapper).
func WrapLabel(terminal string) string { return "delivery-key/" + terminal }

// Public is the public half.
func (k DeliveryKey) Public() (*ecdh.PublicKey, error) {
	if k.key == nil {
		return nil, errNoKey
	}
	return ecdh.X25519().NewPublicKey((*k.key).PublicKey().Bytes())
}

var errNoKey = errors.New("no delivery key")

// Format implements fmt.Formatter without the key, whatever the verb.
func (DeliveryKey) Format(f fmt.State, _ rune) { io.WriteString(f, "lease.DeliveryKey(redacted)") }

// MarshalPublic returns the public half as one PEM block "PUBLIC KEY" (RFC 8410).
func MarshalPublic(public *ecdh.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a delivery key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublic reads what MarshalPublic returned; text around the block is passed over.
func ParsePublic(text []byte) (*ecdh.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New(`no PEM block "PUBLIC KEY" found`)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing a delivery key: %w", err)
	}
	public, ok := key.(*ecdh.PublicKey)
	if !ok || public.Curve() != ecdh.X25519() {
		return nil, errors.New("a delivery key is one of X25519; this is another")
	}
	return public, nil
}
