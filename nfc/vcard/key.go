package vcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// PrivateKey is a key that a card signs with, base64 of PKCS #8 DER in JSON:
// RSA-2048, as every card of card-facts has it, or ECDSA on P-384, which is
// announced for the next generation (card-facts §7), or on P-256 in a PIV
// application.
type PrivateKey struct{ crypto.Signer }

func (k *PrivateKey) MarshalJSON() ([]byte, error) {
	if k.Signer == nil {
		return nil, errors.New("private key is missing")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
	if err != nil {
		return nil, err
	}
	return json.Marshal(der)
}

func (k *PrivateKey) UnmarshalJSON(b []byte) error {
	var der []byte
	if err := json.Unmarshal(b, &der); err != nil {
		return fmt.Errorf("private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return fmt.Errorf("private key: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		k.Signer = key
	case *ecdsa.PrivateKey:
		k.Signer = key
	default:
		return fmt.Errorf("private key: %T is neither an RSA nor an ECDSA key", key)
	}
	return nil
}

// RSA returns the key when it is an RSA key, else nil.
func (k *PrivateKey) RSA() *rsa.PrivateKey {
	if k == nil {
		return nil
	}
	key, _ := k.Signer.(*rsa.PrivateKey)
	return key
}

// ECDSA returns the key when it is an ECDSA key, else nil.
func (k *PrivateKey) ECDSA() *ecdsa.PrivateKey {
	if k == nil {
		return nil
	}
	key, _ := k.Signer.(*ecdsa.PrivateKey)
	return key
}

// String names the kind of key: RSA-2048, P-384.
func (k *PrivateKey) String() string {
	if key := k.RSA(); key != nil {
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	}
	if key := k.ECDSA(); key != nil {
		return key.Params().Name
	}
	return "no key"
}

// public returns the public half, nil of a missing key.
func (k *PrivateKey) public() crypto.PublicKey {
	if k == nil || k.Signer == nil {
		return nil
	}
	return k.Public()
}

// check refuses a key that no card has. Curves are those of the application.
func (k *PrivateKey) check(curves ...elliptic.Curve) error {
	if key := k.RSA(); key != nil {
		if bits := key.N.BitLen(); bits != 2048 { // and a response must fit Le = 256
			return fmt.Errorf("RSA key of %d bits, want 2048", bits)
		}
		return nil
	}
	if key := k.ECDSA(); key != nil {
		if !slices.Contains(curves, key.Curve) {
			return fmt.Errorf("ECDSA key on %s, want P-384, or P-256 in a PIV application", key.Params().Name)
		}
		return nil
	}
	return errors.New("missing")
}
