package enrol

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// A Credential shows a terminal's certificate to its hub, as
// tls.Config.GetClientCertificate. It reads the file anew for each connection, so that
// one which was renewed, by whichever process, counts at once.
type Credential struct {
	State  string        // the state folder
	Signer crypto.Signer // the identity key

	// Ended shows the certificate also after its end: a hub renews it then as well.
	Ended bool
}

// ForTLS returns the certificate, or an empty one for a server that asks for other
// authorities' and where there is none or it has ended: then the server decides
// what nobody in particular gets.
func (c Credential) ForTLS(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	leaf, err := readCertificate(c.State)
	if err != nil || !c.Ended && time.Now().After(leaf.NotAfter) {
		return new(tls.Certificate), nil
	}
	public := c.Signer.Public()
	if public == nil { // of a medium that has not been there yet
		return nil, errors.New("the identity key is not there: see gate-agent doctor")
	}
	if err := Fits(leaf, public); err != nil {
		return nil, err
	}
	shown := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: c.Signer, Leaf: leaf}
	if info.SupportsCertificate(shown) != nil {
		return new(tls.Certificate), nil
	}
	return shown, nil
}

// ErrOtherKey says that a certificate is not for the identity key: the key was replaced
// since, and the terminal has to enrol again.
var ErrOtherKey = errors.New("the certificate from the hub is for another key than the identity key: enrol again")

// Fits says whether a certificate is for a key.
func Fits(leaf *x509.Certificate, public crypto.PublicKey) error {
	if k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(public) {
		return nil
	}
	return ErrOtherKey
}

// RenewAt is when a certificate is due to be renewed: when two thirds of its life are
// over.
func RenewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

// verify checks a certificate that a hub issued: for this key, by that authority, and
// for nothing but a client.
func verify(leaf *x509.Certificate, public crypto.PublicKey, roots *x509.CertPool, at time.Time) error {
	if err := Fits(leaf, public); err != nil {
		return err
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("the certificate from the hub: %w", err)
	}
	return nil
}
