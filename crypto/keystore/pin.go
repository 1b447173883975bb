package keystore

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// A pinSource is the file that the PIN of a medium comes from: a PIN is in no
// URI, flag or variable. It remembers which PIN was called wrong.
type pinSource struct {
	path  string
	retry bool // Store.RetryPIN

	// key is the public half that the medium must hold, nil when it is not known:
	// a medium that shows another one before its PIN is not sent any.
	key crypto.PublicKey

	wrong   [sha256.Size]byte // of the PIN that was called wrong
	refused bool              // there was one
}

func (s *Store) pins(u URI) *pinSource {
	return &pinSource{path: u.Get("pin-source"), retry: s.RetryPIN}
}

// read gives the PIN, 1 to 64 bytes without control characters, to be cleared after
// its use: nil where no source is named. medium is for the error, which is a *PINError without a try
// spent when the PIN is the one that was called wrong before.
func (p *pinSource) read(medium string) ([]byte, error) {
	if p.path == "" {
		return nil, nil
	}
	pin, err := readSecret("PIN source", p.path, 64)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(pin, []byte("\xEF\xBB\xBF")) || bytes.ContainsFunc(pin, unicode.IsControl) {
		clear(pin)
		return nil, fmt.Errorf("%w: %s holds a byte order mark or a control character, as a text editor of another system puts into it; the PIN was not sent. Write the PIN and nothing else", ErrKeySource, p.path)
	}
	if p.refused && sha256.Sum256(pin) == p.wrong {
		clear(pin)
		return nil, &PINError{Medium: medium, NotSent: true}
	}
	return pin, nil
}

// mayTry reports whether a PIN may be sent to a medium that has seen a wrong one
// since the last right one.
func (p *pinSource) mayTry() bool { return p.retry && !p.refused }

// called remembers that the medium called pin wrong.
func (p *pinSource) called(pin []byte) { p.wrong, p.refused = sha256.Sum256(pin), true }

// readSecret reads a secret from a file that is closed to others: up to most
// bytes, of which one trailing newline does not count. "credential:NAME" is the
// file of that name in the folder that systemd gives a service (systemd.exec(5),
// "Credentials"); "file:" before a path is RFC 7512's way to write one.
func readSecret(what, path string, most int64) ([]byte, error) {
	file, err := secretPath(path)
	if err != nil {
		return nil, err
	}
	secret, err := readPrivate(what, file, most+1, ErrKeySource)
	if err != nil {
		return nil, err
	}
	secret = bytes.TrimSuffix(secret, []byte("\n"))
	switch {
	case len(secret) == 0:
		return nil, fmt.Errorf("%w: %s is empty", ErrKeySource, path)
	case int64(len(secret)) > most:
		clear(secret)
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrKeySource, path, most)
	}
	return secret, nil
}

// secretPath is the file that a key-source or pin-source names.
func secretPath(source string) (string, error) {
	if name, ok := strings.CutPrefix(source, "credential:"); ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		switch {
		case dir == "":
			return "", fmt.Errorf("%w: %s: CREDENTIALS_DIRECTORY is not set: it names the credentials of a systemd service (LoadCredential=, LoadCredentialEncrypted=)", ErrKeySource, source)
		case name == "" || name != filepath.Base(name):
			return "", fmt.Errorf("%w: %s: want the name of a credential, without a folder", ErrKeySource, source)
		}
		return filepath.Join(dir, name), nil
	}
	return strings.TrimPrefix(source, "file:"), nil
}
