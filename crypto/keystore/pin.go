package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
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

// alone runs f, which may send a PIN, while no other program that takes its PIN from
// the same file does: two that read together that no try is missing would spend two.
// It waits until ctx ends.
func (p *pinSource) alone(ctx context.Context, f func() error) error {
	if p.path == "" {
		return f()
	}
	name, err := secretPath(p.path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return f() // which says what is wrong with it, if it needs it
	}
	defer file.Close() // only locked
	for {
		// A file system without locks is no reason to do without the key.
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return f()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: another program is opening a key with the PIN of %s", ErrAbsent, p.path)
		}
	}
}

// mayTry reports whether a PIN may be sent to a medium that has seen a wrong one
// since the last right one, and has so many tries left, where it tells. Nobody spends
// the last one here, for a locked token is a terminal that needs a visit.
func (p *pinSource) mayTry(left int, known bool) bool {
	return p.retry && !p.refused && !(known && left <= 1)
}

// called remembers that the medium called pin wrong.
func (p *pinSource) called(pin []byte) { p.wrong, p.refused = sha256.Sum256(pin), true }
