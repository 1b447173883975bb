// Package perso personalises virtual cards: it holds a test hierarchy that
// stands in for J-LIS and makes card images that a terminal configured with that
// hierarchy accepts, together with the images of people who cheat.
//
// X.509 certificates follow card-facts §7, card-verifiable certificates §4. The
// names are those of the real hierarchy, so that nothing can tell the two apart
// by name; what makes them a test is their keys, and a notice in each X.509
// certificate. Every private key lies open in the files this package writes.
package perso

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const authorityFormat = "gate-agent test authority v1"

// Authority is a test hierarchy: four X.509 CAs, and four CV keys.
type Authority struct {
	rand io.Reader

	userCA      *ca // user authentication, EF 000A and 000B
	signatureCA *ca // digital signature, EF 0001 and 0002
	simCA       *ca // of the SP-TSM: user authentication in a SIM
	nextCA      *ca // user authentication of the next generation, P-384

	// Every card carries this one signature key: a terminal never uses it, and
	// a key for each card would only cost time.
	signatureKey *rsa.PrivateKey

	surfaceCA    *rsa.PrivateKey // certifies the record key in EF 0004
	recordKey    *rsa.PrivateKey // signs the records of the card-surface AP
	terminalRoot *rsa.PrivateKey // in EF 0016 of every card
	intermediate *rsa.PrivateKey // certifies terminals
}

// NewAuthority makes a hierarchy whose CA certificates are valid for ten years
// from at, and twenty where leaves live for ten. The serial numbers come from
// random; keys always come from the system. A nil random is crypto/rand.
func NewAuthority(random io.Reader, at time.Time) (*Authority, error) {
	a := &Authority{rand: random}
	if a.rand == nil {
		a.rand = rand.Reader
	}
	var keys [8]*rsa.PrivateKey
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return nil, fmt.Errorf("making a key of the test hierarchy: %w", err)
		}
		keys[i] = key
	}
	var err error
	if a.userCA, err = newCA(a.rand, keys[0], userCAName, at, 10); err != nil {
		return nil, fmt.Errorf("making the user-authentication CA: %w", err)
	}
	if a.signatureCA, err = newCA(a.rand, keys[1], signatureCAName, at, 10); err != nil {
		return nil, fmt.Errorf("making the digital-signature CA: %w", err)
	}
	if a.simCA, err = newCA(a.rand, keys[7], simCAName, at, 10); err != nil {
		return nil, fmt.Errorf("making the CA of the SP-TSM: %w", err)
	}
	next, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key of the test hierarchy: %w", err)
	}
	if a.nextCA, err = newCA(a.rand, next, userCAName, at, 20); err != nil {
		return nil, fmt.Errorf("making the user-authentication CA of the next generation: %w", err)
	}
	a.signatureKey, a.surfaceCA, a.recordKey = keys[2], keys[3], keys[4]
	a.terminalRoot, a.intermediate = keys[5], keys[6]
	return a, nil
}

// CACertificate returns the self-signed certificate of the user-authentication
// CA: the anchor of a terminal that should accept the cards of a.
func (a *Authority) CACertificate() *x509.Certificate { return a.userCA.cert }

// SIMCACertificate returns the self-signed certificate of the SP-TSM's CA: the
// anchor of a terminal that should accept the SIMs of a.
func (a *Authority) SIMCACertificate() *x509.Certificate { return a.simCA.cert }

// NextCACertificate returns the self-signed certificate of the user-authentication
// CA of the next generation, which has the name of the one before and a P-384
// key: the anchor of a terminal that should accept those cards of a.
func (a *Authority) NextCACertificate() *x509.Certificate { return a.nextCA.cert }

// SurfaceCA returns the key that certifies EF 0004, under its key id of 16
// bytes: the card-surface anchor of a terminal that should accept the cards of a.
func (a *Authority) SurfaceCA() (keyID []byte, key *rsa.PublicKey) {
	return bytes.Clone(surfaceCAID[:]), &a.surfaceCA.PublicKey
}

// TerminalCertificates returns the two CV certificates, 568 bytes each, with
// which a terminal that holds the private half of pub authenticates itself to
// the cards of a (card-facts §6).
func (a *Authority) TerminalCertificates(pub *rsa.PublicKey) (intermediate, terminal []byte, err error) {
	intermediate, err = cvCertificate(a.terminalRoot, terminalRootID, intermediateID, &a.intermediate.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("certifying the intermediate key: %w", err)
	}
	terminal, err = cvCertificate(a.intermediate, intermediateID, terminalID, pub)
	if err != nil {
		return nil, nil, fmt.Errorf("certifying the terminal key: %w", err)
	}
	return intermediate, terminal, nil
}

// authorityFile is the JSON form: keys are base64 of PKCS #8, certificates
// base64 of DER.
type authorityFile struct {
	Format               string            `json:"format"`
	CACertificate        []byte            `json:"ca_certificate"`
	CAKey                *vcard.PrivateKey `json:"ca_key"`
	SignatureCertificate []byte            `json:"signature_ca_certificate"`
	SignatureCAKey       *vcard.PrivateKey `json:"signature_ca_key"`
	SIMCACertificate     []byte            `json:"sim_ca_certificate"`
	SIMCAKey             *vcard.PrivateKey `json:"sim_ca_key"`
	NextCACertificate    []byte            `json:"next_ca_certificate"`
	NextCAKey            *vcard.PrivateKey `json:"next_ca_key"`
	SignatureKey         *vcard.PrivateKey `json:"signature_key"`
	SurfaceCAKey         *vcard.PrivateKey `json:"surface_ca_key"`
	RecordKey            *vcard.PrivateKey `json:"record_key"`
	TerminalRootKey      *vcard.PrivateKey `json:"terminal_root_key"`
	IntermediateKey      *vcard.PrivateKey `json:"intermediate_key"`
}

// Encode gives the JSON form, private keys included, ending in a newline.
func (a *Authority) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(authorityFile{
		Format:               authorityFormat,
		CACertificate:        a.userCA.cert.Raw,
		CAKey:                &vcard.PrivateKey{Signer: a.userCA.key},
		SignatureCertificate: a.signatureCA.cert.Raw,
		SignatureCAKey:       &vcard.PrivateKey{Signer: a.signatureCA.key},
		SIMCACertificate:     a.simCA.cert.Raw,
		SIMCAKey:             &vcard.PrivateKey{Signer: a.simCA.key},
		NextCACertificate:    a.nextCA.cert.Raw,
		NextCAKey:            &vcard.PrivateKey{Signer: a.nextCA.key},
		SignatureKey:         &vcard.PrivateKey{Signer: a.signatureKey},
		SurfaceCAKey:         &vcard.PrivateKey{Signer: a.surfaceCA},
		RecordKey:            &vcard.PrivateKey{Signer: a.recordKey},
		TerminalRootKey:      &vcard.PrivateKey{Signer: a.terminalRoot},
		IntermediateKey:      &vcard.PrivateKey{Signer: a.intermediate},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("test authority: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseAuthority reads what Encode wrote; unknown members are refused.
func ParseAuthority(b []byte) (*Authority, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f authorityFile
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("test authority: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("test authority: data after the JSON value")
	}
	if f.Format != authorityFormat {
		return nil, fmt.Errorf("test authority: format is %q, want %q", f.Format, authorityFormat)
	}
	a := &Authority{rand: rand.Reader}
	for _, k := range []struct {
		name string
		from *vcard.PrivateKey
		to   **rsa.PrivateKey
	}{
		{"signature_key", f.SignatureKey, &a.signatureKey},
		{"surface_ca_key", f.SurfaceCAKey, &a.surfaceCA},
		{"record_key", f.RecordKey, &a.recordKey},
		{"terminal_root_key", f.TerminalRootKey, &a.terminalRoot},
		{"intermediate_key", f.IntermediateKey, &a.intermediate},
	} {
		key := k.from.RSA()
		if key == nil || key.N.BitLen() != keyBits {
			return nil, fmt.Errorf("test authority: %s: want an RSA key of %d bits", k.name, keyBits)
		}
		*k.to = key
	}
	for _, c := range []struct {
		name string
		cert []byte
		key  *vcard.PrivateKey
		to   **ca
	}{
		{"ca_certificate", f.CACertificate, f.CAKey, &a.userCA},
		{"signature_ca_certificate", f.SignatureCertificate, f.SignatureCAKey, &a.signatureCA},
		{"sim_ca_certificate", f.SIMCACertificate, f.SIMCAKey, &a.simCA},
		{"next_ca_certificate", f.NextCACertificate, f.NextCAKey, &a.nextCA},
	} {
		if c.cert == nil {
			return nil, fmt.Errorf("test authority: %s: missing: the file is of an older version, make a new one", c.name)
		}
		var err error
		if *c.to, err = parseCA(c.cert, c.key); err != nil {
			return nil, fmt.Errorf("test authority: %s: %w", c.name, err)
		}
	}
	return a, nil
}
