package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// A KeyType names what a stored key is.
type KeyType string

const (
	RSA2048 KeyType = "rsa-2048" // what a card-verifiable certificate holds
	Ed25519 KeyType = "ed25519"
	P256    KeyType = "p-256"
	P384    KeyType = "p-384" // the next generation of cards

	secret32 KeyType = "secret-32" // a wrapping secret
)

func (t KeyType) check() error {
	switch t {
	case RSA2048, Ed25519, P256, P384, secret32:
		return nil
	}
	return fmt.Errorf("unknown key type %q", string(t))
}

// typeOf says which KeyType a key is, by its public half.
func typeOf(key interface{ Public() crypto.PublicKey }) (KeyType, error) {
	return TypeOf(key.Public())
}

// TypeOf says which KeyType a key with that public half is. The error is
// ErrWrongKeyType, with what it is instead.
func TypeOf(public crypto.PublicKey) (KeyType, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits != 2048 {
			return "", fmt.Errorf("%w: RSA key of %d bits, want 2048", ErrWrongKeyType, bits)
		}
		return RSA2048, nil
	case ed25519.PublicKey:
		return Ed25519, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		}
		return "", fmt.Errorf("%w: curve %s, want P-256 or P-384", ErrWrongKeyType, k.Curve.Params().Name)
	}
	return "", fmt.Errorf("%w: %T, want RSA-2048, Ed25519, P-256 or P-384", ErrWrongKeyType, public)
}

func generateKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("%w: cannot make a signing key of type %q", ErrWrongKeyType, string(t))
}
