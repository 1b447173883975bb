package vcard

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
)

// Lengths of the card-verifiable encoding (card-facts §4), in bytes.
const (
	cvKeyIDSize     = 16
	cvPublicKeySize = 265
	cvBodySize      = 2*cvKeyIDSize + cvPublicKeySize // issuer ‖ subject ‖ public key
	cvSignatureSize = 256
)

// Headers of the two halves in which a certificate is sent (card-facts §6), and
// of the public key: 90 exponent 65537, 91 modulus of 256 bytes.
var (
	cvBodyHeader      = []byte{0x7F, 0x21, 0x82, 0x02, 0x33, 0x5F, 0x4E, 0x82, 0x01, 0x29}
	cvSignatureHeader = []byte{0x5F, 0x37, 0x82, 0x01, 0x00}
	cvPublicKeyHeader = []byte{0x90, 0x03, 0x01, 0x00, 0x01, 0x91, 0x82, 0x01, 0x00}
)

// cvKey is a named public key: the subject of a CV certificate, or EF 0016.
type cvKey struct {
	id  [cvKeyIDSize]byte
	key *rsa.PublicKey
}

// parseCVKey reads key id (16) ‖ public key (265).
func parseCVKey(b []byte) (*cvKey, error) {
	if len(b) != cvKeyIDSize+cvPublicKeySize {
		return nil, errors.New("not a key id of 16 bytes and a public key of 265")
	}
	modulus, ok := bytes.CutPrefix(b[cvKeyIDSize:], cvPublicKeyHeader)
	if !ok || modulus[0] < 0x80 || modulus[len(modulus)-1]&1 == 0 {
		return nil, errors.New("public key is not RSA-2048 with exponent 65537")
	}
	return &cvKey{
		id:  [cvKeyIDSize]byte(b),
		key: &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537},
	}, nil
}

// terminalTrust is what the card has accepted of a terminal's certificate chain.
//
//	root ──body, signature──▶ intermediate ──body, signature──▶ terminal
//	  ▲──────────────── a body issued by the root starts again ────────┘
//
// There are exactly two levels (card-facts §10): a terminal key certifies nothing.
type terminalTrust struct {
	intermediate *cvKey
	terminal     *cvKey

	// The body that waits for its signature.
	body    []byte
	issuer  *cvKey
	subject *cvKey
}

// putBody takes `80 A2 06 C1`.
func (t *terminalTrust) putBody(root *cvKey, data []byte) statusWord {
	t.body, t.issuer, t.subject = nil, nil, nil
	body, ok := bytes.CutPrefix(data, cvBodyHeader)
	if !ok || len(body) != cvBodySize {
		return swWrongData
	}
	subject, err := parseCVKey(body[cvKeyIDSize:])
	if err != nil {
		return swWrongData
	}
	issuerID := [cvKeyIDSize]byte(body)
	switch {
	case issuerID == root.id:
		t.issuer = root
	case t.intermediate != nil && t.terminal == nil && issuerID == t.intermediate.id:
		t.issuer = t.intermediate
	default:
		return swReferenceNotFound
	}
	t.body, t.subject = bytes.Clone(body), subject
	return swOK
}

// putSignature takes `80 A2 00 C1`. Right or wrong, it uses up the body.
func (t *terminalTrust) putSignature(root *cvKey, data []byte) statusWord {
	if t.body == nil {
		return swConditions
	}
	body, issuer, subject := t.body, t.issuer, t.subject
	t.body, t.issuer, t.subject = nil, nil, nil

	signature, ok := bytes.CutPrefix(data, cvSignatureHeader)
	if !ok || len(signature) != cvSignatureSize {
		return swWrongData
	}
	digest := sha256.Sum256(body)
	if rsa.VerifyPKCS1v15(issuer.key, crypto.SHA256, digest[:], signature) != nil {
		return swBadCertificate
	}
	if issuer == root {
		t.intermediate, t.terminal = subject, nil
	} else {
		t.terminal = subject
	}
	return swOK
}
