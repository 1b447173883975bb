package cardauth

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// Sizes of a card-verifiable certificate in bytes (card-facts §4).
const (
	CVCertificateSize = 568
	cvBodySize        = 297
	cvSignatureSize   = 256
	cvKeyIDSize       = 16
	cvPublicKeySize   = 265
)

// ErrCVCertificate says that bytes are not a card-verifiable certificate.
var ErrCVCertificate = errors.New("not a card-verifiable certificate")

// The fixed headers of a card-verifiable certificate and of the public key
// inside it: every length in them is known.
var (
	cvOuter     = []byte{0x7F, 0x21, 0x82, 0x02, 0x33}
	cvBody      = []byte{0x5F, 0x4E, 0x82, 0x01, 0x29}
	cvSignature = []byte{0x5F, 0x37, 0x82, 0x01, 0x00}
	cvPublicKey = []byte{0x90, 0x03, 0x01, 0x00, 0x01, 0x91, 0x82, 0x01, 0x00}
)

// A CVCertificate is a card-verifiable certificate:
//
//	7F21 82 0233 { 5F4E 82 0129 body · 5F37 82 0100 signature }
//	body = issuer key id (16) ‖ subject key id (16) ‖ public key (265)
//
// The signature is RSASSA-PKCS1-v1_5 with SHA-256 over the 297 body bytes.
type CVCertificate struct {
	raw []byte
	key cardkey.Key
}

// A CVKeyID names a key of the card-verifiable hierarchy: 7 digits, 08 05, 3
// digits, and 4 bytes of padding. All 16 bytes count.
type CVKeyID [cvKeyIDSize]byte

// ParseCVCertificate accepts exactly the 568 bytes of one certificate.
func ParseCVCertificate(b []byte) (CVCertificate, error) {
	if len(b) != CVCertificateSize {
		return CVCertificate{}, fmt.Errorf("%w: %d bytes, want %d", ErrCVCertificate, len(b), CVCertificateSize)
	}
	c := CVCertificate{raw: bytes.Clone(b)}
	for _, part := range []struct {
		name   string
		offset int
		want   []byte
	}{
		{"tag 7F21", 0, cvOuter},
		{"tag 5F4E", 5, cvBody},
		{"tag 5F37", 10 + cvBodySize, cvSignature},
	} {
		if !bytes.HasPrefix(b[part.offset:], part.want) {
			return CVCertificate{}, fmt.Errorf("%w: no %s of the expected length at offset %d", ErrCVCertificate, part.name, part.offset)
		}
	}
	var err error
	if c.key, err = parseCVPublicKey(c.Body()[2*cvKeyIDSize:]); err != nil {
		return CVCertificate{}, fmt.Errorf("%w: %w", ErrCVCertificate, err)
	}
	return c, nil
}

// parseCVPublicKey reads the 265 bytes 90 03 010001 · 91 82 0100 modulus.
func parseCVPublicKey(b []byte) (cardkey.Key, error) {
	modulus, ok := bytes.CutPrefix(b, cvPublicKey)
	if !ok || len(b) != cvPublicKeySize {
		return cardkey.Key{}, errors.New("no public key of the expected form: tags 90 and 91, e = 65537, modulus of 256 bytes")
	}
	return cardkey.New(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537})
}

// Bytes returns the 568 bytes of the certificate.
func (c CVCertificate) Bytes() []byte { return c.raw }

// BodyObject returns the first 307 bytes, which open the certificate and end
// with its body: what a card is given first (card-facts §6, step 2).
func (c CVCertificate) BodyObject() []byte { return c.raw[:10+cvBodySize] }

// SignatureObject returns the rest, the signature with its header: what a
// card is given second.
func (c CVCertificate) SignatureObject() []byte { return c.raw[10+cvBodySize:] }

// Body returns the 297 bytes that are signed.
func (c CVCertificate) Body() []byte { return c.raw[10 : 10+cvBodySize] }

// Signature returns the 256 bytes of the signature.
func (c CVCertificate) Signature() []byte { return c.raw[CVCertificateSize-cvSignatureSize:] }

// Issuer names the key that made the signature.
func (c CVCertificate) Issuer() CVKeyID { return CVKeyID(c.Body()) }

// Subject names the key that is certified.
func (c CVCertificate) Subject() CVKeyID { return CVKeyID(c.Body()[cvKeyIDSize:]) }

// PublicKey returns the certified key.
func (c CVCertificate) PublicKey() cardkey.Key { return c.key }

// VerifiedBy checks that parent certified c.
func (c CVCertificate) VerifiedBy(parent CVCertificate) error {
	return c.verifiedBy(CVAuthority{parent.Subject(), parent.key})
}

// verifiedBy checks that a made the signature: the issuer key id is a's, all
// 16 bytes of it, and so is the key.
func (c CVCertificate) verifiedBy(a CVAuthority) error {
	if c.Issuer() != a.ID {
		return fmt.Errorf("%w: issuer key id %X, the certificate above has %X", ErrUntrusted, c.Issuer(), a.ID)
	}
	if err := verifyCV(a.Key, c.Body(), c.Signature()); err != nil {
		return fmt.Errorf("%w: card-verifiable certificate: %w", ErrUntrusted, err)
	}
	return nil
}

// verifyCV checks a signature of the card-verifiable hierarchy.
func verifyCV(key cardkey.Key, message, signature []byte) error {
	digest := sha256.Sum256(message)
	return key.Verify(cardkey.PKCS1v15SHA256, digest[:], signature)
}

// A CVAuthority is a key that certifies card-verifiable certificates: the
// trust anchor of the card-surface application, which no card carries.
type CVAuthority struct {
	ID  CVKeyID
	Key cardkey.Key
}

// VerifyCVCertificate reads the certificate that a card carries in its
// card-surface application, exactly 568 bytes, and checks that one of the
// authorities issued it. Whatever is wrong with it, it is ErrUntrusted.
func VerifyCVCertificate(b []byte, authorities []CVAuthority) (CVCertificate, error) {
	c, err := ParseCVCertificate(b)
	if err != nil {
		return CVCertificate{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	for _, a := range authorities {
		if a.ID != c.Issuer() {
			continue
		}
		if err := c.verifiedBy(a); err != nil {
			return CVCertificate{}, err
		}
		return c, nil
	}
	return CVCertificate{}, fmt.Errorf("%w: no configured card-surface authority has the issuer's key id %X", ErrUntrusted, c.Issuer())
}
