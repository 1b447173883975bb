package hub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// How long certificates of a hub's own authority last, and when one of a server
// is due to be replaced.
const (
	authorityYears = 20
	serverLasts    = 90 * 24 * time.Hour
	serverRenewed  = 30 * 24 * time.Hour // before its end
	backdated      = time.Hour           // terminals whose clock is a little behind
)

// An Authority issues the certificate of a hub's server, where there is no
// other authority to do it. Terminals trust its certificate for HTTPS and nothing
// else: what they fetch is signed by others.
type Authority struct {
	Certificate []byte // PEM; public
	Key         []byte // PEM, PKCS #8; stays on the hub
}

// NewAuthority makes an authority, with a key on P-256.
func NewAuthority(name string, at time.Time) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, fmt.Errorf("making an authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: at.Add(-backdated), NotAfter: at.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := Authority{}
	if a.Certificate, a.Key, err = issue(template, template, key, key); err != nil {
		return Authority{}, fmt.Errorf("making an authority: %w", err)
	}
	return a, nil
}

// Issue makes a certificate for a server that is reached by these names or
// addresses, and its key, both PEM.
func (a Authority) Issue(hosts []string, at time.Time) (certificate, key []byte, err error) {
	if len(hosts) == 0 {
		return nil, nil, errors.New("issuing a server's certificate: it is reached by no name")
	}
	pair, err := tls.X509KeyPair(a.Certificate, a.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing a server's certificate: %w", err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing a server's certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: at.Add(-backdated), NotAfter: at.Add(serverLasts),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if certificate, key, err = issue(template, pair.Leaf, own, pair.PrivateKey); err != nil {
		return nil, nil, fmt.Errorf("issuing a server's certificate: %w", err)
	}
	return certificate, key, nil
}

func issue(template, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.PrivateKey) (certificate, private []byte, err error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7F
	b[0] |= 0x40 // 20 octets at most, positive, never short (RFC 5280 §4.1.2.2)
	return new(big.Int).SetBytes(b)
}

// Due says whether a server's certificate has to be issued anew: near its end,
// or for other hosts, or not by this authority.
func (a Authority) Due(certificate []byte, hosts []string, at time.Time) bool {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return true
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || at.After(c.NotAfter.Add(-serverRenewed)) || len(c.DNSNames)+len(c.IPAddresses) != len(hosts) {
		return true
	}
	for _, h := range hosts {
		if c.VerifyHostname(h) != nil {
			return true
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Certificate)
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at})
	return err != nil
}
