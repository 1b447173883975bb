package cardauth

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// VerifyCertificate checks that the whole certificate der belongs to head and
// was issued by one of the anchors for authentication, valid at the instant,
// and returns its key.
//
// All generations of the JPKI authority carry the same name, so the issuer is
// chosen by signature, never by name (card-facts §7). x509.Verify then checks
// the chain: validity of both, CA basic constraints and certificate signing
// of the anchor, unhandled critical extensions.
func VerifyCertificate(head Head, der []byte, anchors []*x509.Certificate, at time.Time) (*rsa.PublicKey, error) {
	if !SameHead(head, der) {
		return nil, fmt.Errorf("%w: certificate does not continue its head", ErrNotGenuine)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if err := CheckValidity(head, at); err != nil {
		return nil, err
	}
	if leaf.IsCA {
		return nil, fmt.Errorf("%w: it is the certificate of an authority", ErrUntrusted)
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, fmt.Errorf("%w: its key usage lacks digitalSignature", ErrUntrusted)
	}
	issuer, err := findIssuer(leaf, anchors)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(issuer)
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: at,
		// A leaf may carry an extended key usage that says nothing to us;
		// Go would ask for serverAuth.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	key, ok := leaf.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: its key is not RSA", ErrUntrusted)
	}
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return key, nil
}

// findIssuer returns the anchor whose key made the leaf's signature.
func findIssuer(leaf *x509.Certificate, anchors []*x509.Certificate) (*x509.Certificate, error) {
	if len(anchors) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, errors.New("no trust anchor is configured"))
	}
	for _, a := range anchors {
		if leaf.CheckSignatureFrom(a) == nil {
			return a, nil
		}
	}
	return nil, fmt.Errorf("%w: no trust anchor signed it", ErrUntrusted)
}
