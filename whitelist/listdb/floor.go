package listdb

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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

	// Delegation is the version of the newest delegation by which a list came into
	// force, 0 when none did: then the array ends before it, as it always did before
	// there were delegations.
	Delegation uint64
}

// floorWithoutDelegation is the shorter array.
type floorWithoutDelegation struct {
	_         struct{} `cbor:",toarray"`
	Scope     string
	Hierarchy string
	Epoch     uint64
	Seq       uint64
	Manifest  [32]byte
}

var floorCodec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

func floorOf(h whitelist.Head) floor {
	m := h.Manifest
	return floor{
		Scope: m.Scope, Hierarchy: m.Hierarchy, Epoch: m.Epoch, Seq: m.Seq,
		Manifest: sha256.Sum256(h.Payload().Bytes()), Delegation: h.Delegation(),
	}
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
	case next.Delegation != 0 && next.Delegation < f.Delegation:
		return fmt.Errorf("%w: delegation %d, after %d", ErrOlder, next.Delegation, f.Delegation)
	}
	return nil
}

// Bounds of what may come next. A hub whose clock is wrong, or whose list key was stolen
// and is taken back, has then not put lists out of reach for ever: no terminal takes an
// older one than it has had, and none goes by a time before that of its list.
const (
	maxStep  = 1 << 42 // of epoch or seq: numbers may be times in milliseconds
	maxAhead = 366 * 24 * time.Hour
)

// reaches says whether next is near enough to f to come after it.
func (f floor) reaches(next floor) error {
	seq := f.Seq
	if next.Epoch > f.Epoch {
		seq = 0
	}
	if next.Epoch > f.Epoch+maxStep || next.Seq > seq+maxStep {
		return fmt.Errorf("%w: epoch %d, sequence number %d, after %d, %d", ErrFar, next.Epoch, next.Seq, f.Epoch, f.Seq)
	}
	return nil
}

// raised is next, and the newest delegation of both.
func (f floor) raised(next floor) floor {
	next.Delegation = max(next.Delegation, f.Delegation)
	return next
}

// same says whether other is the same list by the same delegation.
func (f floor) same(other floor) bool {
	return f.compare(other) == 0 && f.Manifest == other.Manifest && f.Delegation == other.Delegation
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
	content, err := checksummed(b)
	if err != nil {
		return floor{}, err
	}
	var f floor
	var short floorWithoutDelegation
	if floorCodec.Unmarshal(content, &short) == nil {
		f = floor{Scope: short.Scope, Hierarchy: short.Hierarchy, Epoch: short.Epoch, Seq: short.Seq, Manifest: short.Manifest}
	} else if err := floorCodec.Unmarshal(content, &f); err != nil {
		return floor{}, err
	}
	if again, err := f.encode(); err != nil || !bytes.Equal(again, b) || f.Scope == "" {
		return floor{}, errors.New("not a list floor")
	}
	return f, nil
}

func (f floor) encode() ([]byte, error) {
	var v any = f
	if f.Delegation == 0 {
		v = floorWithoutDelegation{Scope: f.Scope, Hierarchy: f.Hierarchy, Epoch: f.Epoch, Seq: f.Seq, Manifest: f.Manifest}
	}
	b, err := floorCodec.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding list floor: %w", err)
	}
	return withChecksum(b), nil
}

// stageFloor writes f beside list.floor.
func (s *Store) stageFloor(f floor) error {
	b, err := f.encode()
	if err != nil {
		return err
	}
	return s.stageFile(floorFile, b)
}
