package cardauth

import (
	"crypto/x509"
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
