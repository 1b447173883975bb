package cardauth

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
)

// Sizes of a card-verifiable certificate in bytes (card-facts §4).
const (
	CVCertificateSize = 568
	cvBodySize        = 297
	cvSignatureSize   = 256
	cvKeyIDSize       = 16
	cvModulusSize     = 256
)

// ErrCVCertificate says that bytes are not a card-verifiable certificate.
var ErrCVCertificate = errors.New("not a card-verifiable certificate")

// The fixed headers of a card-verifiable certificate and of the public key
// inside it: every length in them is known.
var (
	cvOuter     = []byte{0x7F, 0x21, 0x82, 0x02, 0x33}
	cvBody      = []byte{0x5F, 0x4E, 0x82, 0x01, 0x29}
	cvSignature = []byte{0x5F, 0x37, 0x82, 0x01, 0x00}
	cvExponent  = []byte{0x90, 0x03, 0x01, 0x00, 0x01}
	cvModulus   = []byte{0x91, 0x82, 0x01, 0x00}
)

// A CVCertificate is a card-verifiable certificate:
//
//	7F21 82 0233 { 5F4E 82 0129 body · 5F37 82 0100 signature }
//	body = issuer key id (16) ‖ subject key id (16) ‖ public key (265)
//
// The signature is RSASSA-PKCS1-v1_5 with SHA-256 over the 297 body bytes.
type CVCertificate struct {
	raw []byte
	key *rsa.PublicKey
}

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
		{"tag 90", 10 + 2*cvKeyIDSize, cvExponent},
		{"tag 91", 15 + 2*cvKeyIDSize, cvModulus},
		{"tag 5F37", 10 + cvBodySize, cvSignature},
	} {
		if !bytes.HasPrefix(b[part.offset:], part.want) {
			return CVCertificate{}, fmt.Errorf("%w: no %s of the expected length at offset %d", ErrCVCertificate, part.name, part.offset)
		}
	}
	modulus := c.Body()[cvBodySize-cvModulusSize:]
	c.key = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	if err := checkKey(c.key); err != nil {
		return CVCertificate{}, fmt.Errorf("%w: %w", ErrCVCertificate, err)
	}
	return c, nil
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

// Issuer returns the 16 bytes of the key id that checks the signature.
func (c CVCertificate) Issuer() [cvKeyIDSize]byte { return [cvKeyIDSize]byte(c.Body()) }

// Subject returns the 16 bytes of the key id that is certified.
func (c CVCertificate) Subject() [cvKeyIDSize]byte { return [cvKeyIDSize]byte(c.Body()[cvKeyIDSize:]) }

// PublicKey returns the certified key.
func (c CVCertificate) PublicKey() *rsa.PublicKey { return c.key }

// VerifiedBy checks that parent certified c: the issuer key id is parent's
// subject, all 16 bytes of it, and parent's key made the signature.
func (c CVCertificate) VerifiedBy(parent CVCertificate) error {
	if c.Issuer() != parent.Subject() {
		return fmt.Errorf("%w: issuer key id %X, the certificate above has %X", ErrUntrusted, c.Issuer(), parent.Subject())
	}
	digest := sha256.Sum256(c.Body())
	if err := rsa.VerifyPKCS1v15(parent.key, crypto.SHA256, digest[:], c.Signature()); err != nil {
		return fmt.Errorf("%w: card-verifiable certificate: %w", ErrUntrusted, err)
	}
	return nil
}
