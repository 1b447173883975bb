package link

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// Files of the folder that enrolment leaves in a terminal's state. docs/link.md
// describes them. hub.json comes last: without it there is no enrolment.
const (
	folderName      = "hub"
	certificateFile = "certificate.pem" // of the identity key, with its chain
	authorityFile   = "ca.pem"          // who vouches for the hub
	hubFile         = "hub.json"

	maxFile    = 64 << 10 // bytes
	hubVersion = 1
)

// ErrNotEnrolled says that the terminal has no hub yet.
var ErrNotEnrolled = errors.New("this terminal is not enrolled")

// A Hub is the hub that a terminal is enrolled with, as hub.json has it.
type Hub struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	HTTPS    string   `json:"https"` // https://HOST:PORT
	NATS     []string `json:"nats"`  // tls://HOST:PORT, tried in this order
	Scope    string   `json:"scope"`
	Terminal string   `json:"terminal"`
	AckKeys  [][]byte `json:"ack_keys"` // keys that acknowledge events, SubjectPublicKeyInfo in DER
}

// A Folder is what enrolment has left. Make one with FolderOf.
type Folder struct{ path string }

// FolderOf is the folder in a terminal's state.
func FolderOf(state string) Folder { return Folder{filepath.Join(state, folderName)} }

// Path is where the folder is.
func (f Folder) Path() string { return f.path }

func (f Folder) file(name string) string { return filepath.Join(f.path, name) }

// Hub reads hub.json. The error is ErrNotEnrolled where there is none.
func (f Folder) Hub() (h Hub, err error) {
	b, err := smallfile.Read(f.file(hubFile), maxFile, 0o022)
	if errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("%w: there is no %s", ErrNotEnrolled, f.file(hubFile))
	}
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return Hub{}, fmt.Errorf("%s: %w", f.file(hubFile), err)
	}
	if h.Version != hubVersion {
		return Hub{}, fmt.Errorf("%s: version %d, want %d", f.file(hubFile), h.Version, hubVersion)
	}
	return h, nil
}

// Chain reads the terminal's certificate, leaf first, in DER.
func (f Folder) Chain() (chain [][]byte, err error) {
	b, err := smallfile.Read(f.file(certificateFile), maxFile, 0o022)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			chain = append(chain, block.Bytes)
		}
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s: no certificate found", f.file(certificateFile))
	}
	return chain, nil
}

// Authorities reads who vouches for the hub.
func (f Folder) Authorities() (*x509.CertPool, error) {
	b, err := smallfile.Read(f.file(authorityFile), maxFile, 0o022)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: no certificate found", f.file(authorityFile))
	}
	return pool, nil
}

// Renew replaces the terminal's certificate, PEM. A connection that is made from now on
// shows it.
func (f Folder) Renew(certificate []byte) error {
	return wholefile.Replace(f.file(certificateFile), certificate)
}

// Keep writes all that enrolment has brought, PEM.
func (f Folder) Keep(h Hub, certificate, authority []byte) error {
	h.Version = hubVersion
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.path, 0o700); err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{authorityFile, authority}, {certificateFile, certificate}, {hubFile, append(b, '\n')}} {
		if err := wholefile.Replace(f.file(file.name), file.content); err != nil {
			return fmt.Errorf("keeping the enrolment: %w", err)
		}
	}
	return nil
}
