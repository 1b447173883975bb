package authority

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// TerminalLasts is how long a terminal's certificate lasts.
const TerminalLasts = 30 * 24 * time.Hour

// renewable is how long after its end it can still be renewed: terminals lie in a box
// from one season to the next.
const renewable = 366 * 24 * time.Hour

// Need opens the authority of a folder, and makes it where there is none: a hub whose
// server has the certificate of another authority needs its own for terminals.
func Need(folder, name string, at time.Time) (Authority, error) {
	a, err := Open(folder)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Authority{}, fmt.Errorf("making an authority: %w", err)
	}
	if a, err = Create(folder, name, at); errors.Is(err, fs.ErrExist) {
		a, err = Open(folder) // another process was faster, or half of it is missing
	}
	return a, err
}

// Root is the certificate of the authority, DER.
func (a Authority) Root() []byte {
	block, _ := pem.Decode(a.root)
	if block == nil {
		return nil
	}
	return bytes.Clone(block.Bytes)
}

// Pool has the authority alone.
func (a Authority) Pool() *x509.CertPool { return a.roots() }

// Terminal issues a certificate for the identity key of a terminal, DER. Its name is the
// terminal's ID and says nothing: what a terminal may do stands in the registry.
func (a Authority) Terminal(public crypto.PublicKey, id string, at time.Time) ([]byte, error) {
	pair, err := tls.X509KeyPair(a.root, a.key)
	if err == nil {
		var der []byte
		if der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: serial(), Subject: pkix.Name{CommonName: id},
			NotBefore: at.Add(-backdated), NotAfter: at.Add(TerminalLasts), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, pair.Leaf, public, pair.PrivateKey); err == nil {
			return der, nil
		}
	}
	return nil, fmt.Errorf("issuing a terminal's certificate: %w", err)
}

// CheckTerminal says whether a certificate is one of a terminal, by this authority, in
// force at an instant. renewal takes one as well that has ended within a year.
func (a Authority) CheckTerminal(c *x509.Certificate, at time.Time, renewal bool) error {
	if renewal && at.After(c.NotAfter) && at.Before(c.NotAfter.Add(renewable)) {
		at = c.NotAfter
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: a.roots(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("certificate of a terminal: %w", err)
	}
	return nil
}
