package listdb

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A pointer is list.head: which list is in force above a base, and how much of the
// overlay counts. Without one, and where it is of another base, the base's own
// manifest is in force.
//
// On disk it is a CBOR array and the SHA-256 of its bytes, against a disk that
// forgets. What it says of the list is signed: the head, whose digest the state fits.
type pointer struct {
	_      struct{} `cbor:",toarray"`
	Head   []byte   // delegation and signed manifest
	Base   [32]byte // SHA-256 of the base's manifest
	Length uint64   // bytes of the overlay
	SHA256 [32]byte // of these
	State  []byte   // of the set
}

var headCodec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

// maxPointer is more than a pointer has bytes.
const maxPointer = whitelist.MaxHead + whitelist.SetStateSize + 1<<10

// readPointer returns nil when there is no file.
func (s *Store) readPointer() (p *pointer, f *os.File, err error) {
	f, err = s.root.Open(headFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPointer))
	if err == nil {
		p, err = parsePointer(b)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: %w", ErrUnreadable, err), f.Close())
	}
	return p, f, nil
}

func parsePointer(b []byte) (*pointer, error) {
	content, err := checksummed(b)
	if err != nil {
		return nil, err
	}
	p := new(pointer)
	if err := headCodec.Unmarshal(content, p); err != nil {
		return nil, err
	}
	if again, err := p.encode(); err != nil || !bytes.Equal(again, b) {
		return nil, errors.New("not in its one encoding")
	}
	if p.Length > maxOverlay || len(p.State) != whitelist.SetStateSize {
		return nil, errors.New("not the head of a list")
	}
	return p, nil
}

func (p pointer) encode() ([]byte, error) {
	b, err := headCodec.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", headFile, err)
	}
	return withChecksum(b), nil
}

// withChecksum appends the SHA-256 of b.
func withChecksum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// checksummed returns b without the SHA-256 at its end.
func checksummed(b []byte) ([]byte, error) {
	n := len(b) - sha256.Size
	if n < 0 {
		return nil, errors.New("too short")
	}
	if sha256.Sum256(b[:n]) != [32]byte(b[n:]) {
		return nil, errors.New("the checksum does not match")
	}
	return b[:n], nil
}

// stageFile writes a small file beside the one of that name, durable but not yet
// in its place.
func (s *Store) stageFile(name string, content []byte) error {
	file, err := s.root.OpenFile(name+staged, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("staging %s: %w", name, err)
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("staging %s: %w", name, err)
	}
	return nil
}
