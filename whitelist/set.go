package whitelist

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"fmt"
)

// SetStateSize is the length of a Set's state, in bytes: 1024 lanes of 16 bits.
const SetStateSize = 2 * setLanes

const setLanes = 1024

// A Set is a digest over sealed rows that does not depend on their order, and
// that a changed row changes by itself: a million rows need not be read again for
// one of them. The zero Set is that of no rows.
//
// It is LtHash with 1024 lanes of 16 bits (Lewi, Kim, Maykov, Weis: Securing
// Update Propagation with Homomorphic Hashing, IACR ePrint 2019/227): each row is
// expanded to 2048 bytes by SHAKE128 (FIPS 202), and these are added to the lanes,
// modulo 2^16. Finding other rows of the same digest is as hard as a lattice
// problem; the authors estimate more than 200 bits.
//
// A row that is added twice counts twice: whoever uses a Set sees to it that a
// CardID comes once.
type Set struct {
	lanes   [setLanes]uint16
	element [SetStateSize]byte // scratch
	item    []byte             // scratch
}

// Add adds a row.
func (s *Set) Add(r SealedRow) {
	s.expand(r)
	for i := range s.lanes {
		s.lanes[i] += binary.LittleEndian.Uint16(s.element[2*i:])
	}
}

// Remove takes away a row that was added.
func (s *Set) Remove(r SealedRow) {
	s.expand(r)
	for i := range s.lanes {
		s.lanes[i] -= binary.LittleEndian.Uint16(s.element[2*i:])
	}
}

func (s *Set) expand(r SealedRow) {
	s.item = AppendRow(s.item[:0], r)
	h := sha3.NewSHAKE128()
	h.Write(s.item)
	h.Read(s.element[:])
}

// Digest is the SHA-256 of the state.
func (s *Set) Digest() [32]byte { return sha256.Sum256(s.State()) }

// State returns the lanes, little-endian. SetOfState reads them again.
func (s *Set) State() []byte {
	b := make([]byte, 0, SetStateSize)
	for _, lane := range s.lanes {
		b = binary.LittleEndian.AppendUint16(b, lane)
	}
	return b
}

// SetOfState returns the Set of a state.
func SetOfState(b []byte) (*Set, error) {
	if len(b) != SetStateSize {
		return nil, fmt.Errorf("%w: the state of a set has %d bytes, want %d", ErrMalformed, len(b), SetStateSize)
	}
	s := new(Set)
	for i := range s.lanes {
		s.lanes[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return s, nil
}
