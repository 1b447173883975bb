// Package authority is the certificate authority of a hub: a root certificate and its
// key in a folder, and beside them the certificate of the hub's server, where that has no
// other. It vouches for that server, and for the identity keys of terminals.
//
// Terminals trust the root for the hub's servers and nothing else: what they fetch is
// signed by others.
package authority

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
	"io/fs"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// How long certificates last, and when that of a server is due to be replaced.
const (
	rootYears     = 20
	serverLasts   = 90 * 24 * time.Hour
	serverRenewed = 30 * 24 * time.Hour // before its end
	backdated     = time.Hour           // terminals whose clock is a little behind
)

// Names in the folder; all are PEM. Keys are PKCS #8 on P-256, and stay on the hub.
const (
	RootFile = "ca.pem" // public

	rootKeyFile   = "ca.key"
	serverFile    = "server.pem"
	serverKeyFile = "server.key"

	maxFile = 1 << 20 // bytes
)

// An Authority issues certificates. Make one with Create or Open.
type Authority struct {
	folder    string
	root, key []byte // PEM
}

// Create makes an authority in a folder that has none. It overwrites nothing.
func Create(folder, name string, at time.Time) (Authority, error) {
	a := Authority{folder: folder}
	if err := a.create(name, at); err != nil {
		return Authority{}, fmt.Errorf("making an authority: %w", err)
	}
	return a, nil
}

func (a *Authority) create(name string, at time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: at.Add(-backdated), NotAfter: at.AddDate(rootYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if a.root, a.key, err = issue(template, template, key, key); err != nil {
		return err
	}
	if err := wholefile.New(a.path(rootKeyFile), a.key); err != nil {
		return err
	}
	return wholefile.New(a.path(RootFile), a.root)
}

// Open reads the authority of a folder. Its key must be nobody else's to read.
func Open(folder string) (Authority, error) {
	a := Authority{folder: folder}
	var err error
	if a.root, err = smallfile.Read(a.path(RootFile), maxFile, 0); err == nil {
		a.key, err = smallfile.Read(a.path(rootKeyFile), maxFile, 0o077)
	}
	if err != nil {
		return Authority{}, fmt.Errorf("the hub's authority: %w", err)
	}
	return a, nil
}

func (a Authority) path(name string) string { return filepath.Join(a.folder, name) }

// Server names the files with the certificate and the key of a server that is reached by
// these names or addresses. They are issued anew when that is due. The key comes first:
// cut short in between, the pair does not fit, and is due again.
func (a Authority) Server(hosts []string, at time.Time) (certificate, key string, err error) {
	certificate, key = a.path(serverFile), a.path(serverKeyFile)
	old, err := smallfile.Read(certificate, maxFile, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	private, err := smallfile.Read(key, maxFile, 0o077)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	if _, err := tls.X509KeyPair(old, private); err == nil && !a.due(old, hosts, at) {
		return certificate, key, nil
	}
	fresh, private, err := a.issueServer(hosts, at)
	if err != nil {
		return "", "", fmt.Errorf("issuing a server's certificate: %w", err)
	}
	if err := wholefile.Replace(key, private); err != nil {
		return "", "", err
	}
	return certificate, key, wholefile.Replace(certificate, fresh)
}

func (a Authority) issueServer(hosts []string, at time.Time) (certificate, key []byte, err error) {
	if len(hosts) == 0 {
		return nil, nil, errors.New("it is reached by no name")
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: at.Add(-backdated), NotAfter: at.Add(serverLasts),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return a.issueTo(template, hosts)
}

// issueTo issues a certificate for these names and addresses, and makes its key.
func (a Authority) issueTo(template *x509.Certificate, hosts []string) (certificate, key []byte, err error) {
	pair, err := tls.X509KeyPair(a.root, a.key)
	if err != nil {
		return nil, nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return issue(template, pair.Leaf, own, pair.PrivateKey)
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

// due says whether a server's certificate has to be issued anew: near its end,
// or for other hosts, or not by this authority.
func (a Authority) due(certificate []byte, hosts []string, at time.Time) bool {
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
	_, err = c.Verify(x509.VerifyOptions{Roots: a.roots(), CurrentTime: at})
	return err != nil
}

func (a Authority) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.root)
	return roots
}
