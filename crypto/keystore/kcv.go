package keystore

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
)

// KCV is the key check value of a key pair, for two people to compare: the first
// eight bytes of the SHA-256 of its SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7),
// as four groups of four hexadecimal digits. The kid of a signature (package
// sign1) begins with the same bytes.
func KCV(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("key check value: %w", err)
	}
	d := sha256.Sum256(der)
	return fmt.Sprintf("%04X-%04X-%04X-%04X", d[0:2], d[2:4], d[4:6], d[6:8]), nil
}
