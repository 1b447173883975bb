package enrol

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// Folder is where in its state folder a terminal keeps what it knows of its hub.
const Folder = "hub"

// Files of that folder. None is a secret.
const (
	CertificateFile = "certificate.pem" // of the identity key
	CAFile          = "ca.pem"          // who vouches for the hub's servers
	HubFile         = "hub.json"        // a Hub
)

// Names of the public keys of Trust there, PEM, each kind numbered from 1.
const (
	listKeyFile    = "list-%d.pem"
	leaseKeyFile   = "lease-%d.pem"
	commandKeyFile = "command-%d.pem"
	rootKeyFile    = "root-%d.pem"
)

// A TrustFiles has the paths of the public keys of a Trust, kind by kind.
type TrustFiles struct{ Lists, Leases, Commands, Root []string }

// Files are those of a Trust, below a state folder.
func (t Trust) Files(state string) TrustFiles {
	paths := func(name string, keys [][]byte) (all []string) {
		for i := range keys {
			all = append(all, filepath.Join(state, Folder, fmt.Sprintf(name, i+1)))
		}
		return all
	}
	return TrustFiles{paths(listKeyFile, t.Lists), paths(leaseKeyFile, t.Leases), paths(commandKeyFile, t.Commands), paths(rootKeyFile, t.Root)}
}

func (t Trust) write(state string) error {
	f := t.Files(state)
	for _, kind := range []struct {
		paths []string
		keys  [][]byte
	}{{f.Lists, t.Lists}, {f.Leases, t.Leases}, {f.Commands, t.Commands}, {f.Root, t.Root}} {
		for i, path := range kind.paths {
			if err := wholefile.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: kind.keys[i]})); err != nil {
				return err
			}
		}
	}
	return nil
}

// An Enrolment is what a terminal has from its hub.
type Enrolment struct {
	Hub         Hub
	CA          []byte            // PEM, one or more
	Certificate *x509.Certificate // of the identity key
}

// Read reads the enrolment below a state folder. The error is fs.ErrNotExist where
// there is none.
func Read(state string) (e Enrolment, err error) {
	dir := filepath.Join(state, Folder)
	text, err := smallfile.Read(filepath.Join(dir, HubFile), MaxAnswer, 0)
	if err == nil {
		if err = json.Unmarshal(text, &e.Hub); err == nil {
			err = e.Hub.check()
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", filepath.Join(dir, HubFile), err)
		}
	}
	if err == nil {
		e.CA, err = smallfile.Read(filepath.Join(dir, CAFile), MaxAnswer, 0)
	}
	if err == nil {
		e.Certificate, err = readCertificate(state)
	}
	if err != nil {
		return Enrolment{}, fmt.Errorf("reading the enrolment: %w", err)
	}
	return e, nil
}

func readCertificate(state string) (*x509.Certificate, error) {
	path := filepath.Join(state, Folder, CertificateFile)
	text, err := smallfile.Read(path, MaxAnswer, 0)
	if err != nil {
		return nil, err
	}
	c, err := parseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not one certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// Write keeps an enrolment below a state folder. The certificate comes last: without it
// there is none.
func (e Enrolment) Write(state string) error {
	dir := filepath.Join(state, Folder)
	text, err := json.MarshalIndent(e.Hub, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = wholefile.Replace(filepath.Join(dir, CAFile), e.CA)
	}
	if err == nil {
		err = e.Hub.Trust.write(state)
	}
	if err == nil {
		err = wholefile.Replace(filepath.Join(dir, HubFile), append(text, '\n'))
	}
	if err == nil {
		err = wholefile.Replace(filepath.Join(dir, CertificateFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate.Raw}))
	}
	if err == nil {
		err = wholefile.SyncFolder(dir)
	}
	if err != nil {
		return fmt.Errorf("keeping the enrolment: %w", err)
	}
	return nil
}

// Roots are who vouches for the hub's servers.
func (e Enrolment) Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CA)
	return roots
}
