package perso

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	keyBits = 2048 // of every key of card-facts
	keyE    = 65537
)

// keyID names a CV key: 7 digits, 08 05, 3 digits, 4 bytes of padding
// (card-facts §4).
type keyID [16]byte

// Key ids of the test hierarchy. All begin with 6, as test ids do; that of the
// surface CA is the one real test cards use, with another key.
var (
	surfaceCAID    = newKeyID("6000023", "001")
	recordKeyID    = newKeyID("6000101", "001")
	terminalRootID = newKeyID("6000090", "001")
	intermediateID = newKeyID("6000091", "001")
	terminalID     = newKeyID("6000092", "001")
)

func newKeyID(name, number string) (id keyID) {
	copy(id[:], name+"\x08\x05"+number)
	return id
}

// cvPublicKey is 90 exponent ‖ 91 modulus, 265 bytes.
func cvPublicKey(pub *rsa.PublicKey) ([]byte, error) {
	if pub.N.BitLen() != keyBits || pub.E != keyE {
		return nil, fmt.Errorf("want RSA-%d with exponent %d", keyBits, keyE)
	}
	return slices.Concat(
		object(0x90, []byte{0x01, 0x00, 0x01}),
		object(0x91, pub.N.Bytes()),
	), nil
}

// cvCertificate is 7F21 { 5F4E body · 5F37 signature }, 568 bytes.
func cvCertificate(issuerKey *rsa.PrivateKey, issuer, subject keyID, pub *rsa.PublicKey) ([]byte, error) {
	encoded, err := cvPublicKey(pub)
	if err != nil {
		return nil, err
	}
	body := slices.Concat(issuer[:], subject[:], encoded)
	signature, err := signSHA256(issuerKey, body)
	if err != nil {
		return nil, err
	}
	return object(0x7F21, object(0x5F4E, body), object(0x5F37, signature)), nil
}

func signSHA256(key *rsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
}

// object is a BER-TLV data object (ISO/IEC 7816-4:2020 §6.3) with the shortest
// length field, as DER has it. A tag above FF is two bytes long.
func object(tag uint16, parts ...[]byte) []byte {
	var b []byte
	if tag > 0xFF {
		b = append(b, byte(tag>>8))
	}
	b = append(b, byte(tag))
	value := slices.Concat(parts...)
	switch n := len(value); {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x82), uint16(n))
	}
	return append(b, value...)
}
