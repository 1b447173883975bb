package listdb

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A floor is the newest list that was in force: no older one comes after it.
// The zero floor admits every list.
//
// On disk it is a CBOR array and the SHA-256 of its bytes. It is not signed:
// whoever can write it can as well remove it, and a signature would make it
// unreadable when the list key changes.
type floor struct {
	_         struct{} `cbor:",toarray"`
	Scope     string
	Hierarchy string
	Epoch     uint64
	Seq       uint64
	Manifest  [32]byte // SHA-256 of the manifest's bytes
}

var floorCodec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

func floorOf(m whitelist.Manifest, p sign1.Payload) floor {
	return floor{Scope: m.Scope, Hierarchy: m.Hierarchy, Epoch: m.Epoch, Seq: m.Seq, Manifest: sha256.Sum256(p.Bytes())}
}

// admit says whether next may be in force after f.
func (f floor) admit(next floor) error {
	if f.Scope == "" {
		return nil
	}
	switch c := f.compare(next); {
	case f.Scope != next.Scope || f.Hierarchy != next.Hierarchy:
		return fmt.Errorf("%w: this folder is of scope %q (%s): use another folder", whitelist.ErrScope, f.Scope, f.Hierarchy)
	case c > 0:
		return fmt.Errorf("%w: epoch %d, sequence number %d, after %d, %d", ErrOlder, next.Epoch, next.Seq, f.Epoch, f.Seq)
	case c == 0 && f.Manifest != next.Manifest:
		return fmt.Errorf("%w: epoch %d, sequence number %d", ErrConflict, f.Epoch, f.Seq)
	}
	return nil
}

func (f floor) compare(g floor) int {
	return whitelist.Manifest{Epoch: f.Epoch, Seq: f.Seq}.Compare(whitelist.Manifest{Epoch: g.Epoch, Seq: g.Seq})
}

// readFloor returns the zero floor when there is none.
func (s *Store) readFloor() (floor, error) {
	file, err := s.root.Open(floorFile)
	if errors.Is(err, os.ErrNotExist) {
		return floor{}, nil
	}
	if err != nil {
		return floor{}, fmt.Errorf("%w: %w", ErrFloor, err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, 1<<10))
	if err != nil {
		return floor{}, fmt.Errorf("%w: %w", ErrFloor, err)
	}
	f, err := parseFloor(b)
	if err != nil {
		return floor{}, fmt.Errorf("%w: %w", ErrFloor, err)
	}
	return f, nil
}

func parseFloor(b []byte) (floor, error) {
	n := len(b) - sha256.Size
	if n < 0 {
		return floor{}, errors.New("too short")
	}
	if sha256.Sum256(b[:n]) != [32]byte(b[n:]) {
		return floor{}, errors.New("the checksum does not match")
	}
	var f floor
	if err := floorCodec.Unmarshal(b[:n], &f); err != nil {
		return floor{}, err
	}
	if again, err := f.encode(); err != nil || !bytes.Equal(again, b) || f.Scope == "" {
		return floor{}, errors.New("not a list floor")
	}
	return f, nil
}

func (f floor) encode() ([]byte, error) {
	b, err := floorCodec.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encoding list floor: %w", err)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// stageFloor writes f beside list.floor, durable but not yet in its place.
func (s *Store) stageFloor(f floor) error {
	b, err := f.encode()
	if err != nil {
		return err
	}
	file, err := s.root.OpenFile(floorFile+staged, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("staging list floor: %w", err)
	}
	_, err = file.Write(b)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("staging list floor: %w", err)
	}
	return nil
}
