package cardauth

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// VerifyCertificate checks that the whole certificate der belongs to head and
// was issued by one of the anchors for authentication, valid at the instant,
// and returns its key.
//
// All generations of the JPKI authority carry the same name, so the issuer is
// chosen by signature, never by name (card-facts §7). x509.Verify then checks
// the chain: validity of both, CA basic constraints and certificate signing
// of the anchor, unhandled critical extensions.
func VerifyCertificate(head Head, der []byte, anchors []*x509.Certificate, at time.Time) (cardkey.Key, error) {
	if !SameHead(head, der) {
		return cardkey.Key{}, fmt.Errorf("%w: certificate does not continue its head", ErrNotGenuine)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return cardkey.Key{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if !oneEncoding(leaf) {
		return cardkey.Key{}, fmt.Errorf("%w: it has more, or other, bytes than its authority signed", ErrUntrusted)
	}
	if err := CheckValidity(head, at); err != nil {
		return cardkey.Key{}, err
	}
	if leaf.IsCA {
		return cardkey.Key{}, fmt.Errorf("%w: it is the certificate of an authority", ErrUntrusted)
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return cardkey.Key{}, fmt.Errorf("%w: its key usage lacks digitalSignature", ErrUntrusted)
	}
	roots, err := issuers(leaf, anchors)
	if err != nil {
		return cardkey.Key{}, err
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: at,
		// A leaf may carry an extended key usage that says nothing to us;
		// Go would ask for serverAuth.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return cardkey.Key{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	key, err := cardkey.New(leaf.PublicKey)
	if err != nil {
		return cardkey.Key{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return key, nil
}

// oneEncoding reports whether a certificate is its three parts and nothing else,
// its signature in whole bytes. The outer length is in the head, so it names the
// credential, and no signature covers it: crypto/x509 lets objects pass behind the
// signature, and with them one certificate could get onto a list several times.
func oneEncoding(leaf *x509.Certificate) bool {
	var outer, part asn1.RawValue
	if _, err := asn1.Unmarshal(leaf.Raw, &outer); err != nil {
		return false
	}
	rest := outer.Bytes
	for range 3 { // tbsCertificate, signatureAlgorithm, signatureValue (RFC 5280 §4.1)
		var err error
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			return false
		}
	}
	signature, whole := bytes.CutPrefix(part.Bytes, []byte{0}) // unused bits: none
	return len(rest) == 0 && whole && bytes.Equal(signature, leaf.Signature)
}

// issuers returns the anchors whose key made the leaf's signature. There are
// several when an authority was certified anew for the key it had; each has a
// validity of its own.
func issuers(leaf *x509.Certificate, anchors []*x509.Certificate) (*x509.CertPool, error) {
	if len(anchors) == 0 {
		return nil, fmt.Errorf("%w: no trust anchor is configured", ErrUntrusted)
	}
	pool, found := x509.NewCertPool(), false
	for _, a := range anchors {
		// CheckSignatureFrom asks for the basic constraints of a CA, but lets a
		// certificate without key usage pass, and one of version 1.
		if a.KeyUsage&x509.KeyUsageCertSign != 0 && leaf.CheckSignatureFrom(a) == nil {
			pool.AddCert(a)
			found = true
		}
	}
	if !found {
		return nil, fmt.Errorf("%w: no trust anchor signed it", ErrUntrusted)
	}
	return pool, nil
}
