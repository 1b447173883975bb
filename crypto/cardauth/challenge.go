package cardauth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// challengeLabel keeps our challenges apart from everything else a card might
// be asked to sign.
const challengeLabel = "gate-agent/challenge/v1"

// A Challenge is what we ask a card to sign. Its digest binds the answer to
// the place and purpose it was made for, so that a signature made for us is
// worth nothing elsewhere, and to 32 fresh random bytes, so that it is worth
// nothing later. docs/protocol.md has the encoding and vectors.
type Challenge struct {
	Scope    string // the list scope, such as a venue or an event
	Terminal string // the terminal that asks
	Purpose  string // PurposeGate
	Ticket   string // ticket reference at a kiosk, "" at a gate
	Nonce    [32]byte
}

// PurposeGate is the purpose of a tap at a gate.
const PurposeGate = "gate"

// Fresh fills the nonce from rand.
func (c *Challenge) Fresh(rand io.Reader) error {
	if _, err := io.ReadFull(rand, c.Nonce[:]); err != nil {
		return fmt.Errorf("drawing a challenge: %w", err)
	}
	return nil
}

// Digest is SHA-256 over the label and every field, each with its length as
// four bytes, big-endian, before it.
func (c Challenge) Digest() [sha256.Size]byte {
	h := sha256.New()
	for _, field := range [][]byte{
		[]byte(challengeLabel), []byte(c.Scope), []byte(c.Terminal),
		[]byte(c.Purpose), []byte(c.Ticket), c.Nonce[:],
	} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(field)))
		h.Write(n[:])
		h.Write(field)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
