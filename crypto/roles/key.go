package roles

import (
	"crypto"
	"crypto/x509"
	"fmt"
)

// Keys travel as SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7).

func marshalKey(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return der, nil
}

func parseKey(der []byte) (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("parsing a key: %w", err)
	}
	return pub, nil
}
