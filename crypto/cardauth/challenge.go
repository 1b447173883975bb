package cardauth

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
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

// Purposes of a challenge.
const (
	PurposeGate = "gate" // a tap at a gate

	// The two of a registration: what the authentication key signs, once its
	// PIN was given, and then the card's own key.
	PurposeRegistration     = "registration"
	PurposeRegistrationCard = "registration-card"
)

// ForCardKey is the challenge that the card's own key signs in a registration,
// after the authentication key signed c. It has the same nonce, and in the place
// of the ticket it names that signature: it cannot have been signed before, nor
// for another registration.
func (c Challenge) ForCardKey(signature []byte) Challenge {
	sum := sha256.Sum256(signature)
	c.Purpose, c.Ticket = PurposeRegistrationCard, hex.EncodeToString(sum[:])
	return c
}

// Fresh fills the nonce from rand.
func (c *Challenge) Fresh(rand io.Reader) error {
	if _, err := io.ReadFull(rand, c.Nonce[:]); err != nil {
		return fmt.Errorf("drawing a challenge: %w", err)
	}
	return nil
}

// Digest is the hash h, that of the scheme the card signs with, over the label
// and every field, each with its length as four bytes, big-endian, before it.
// It is nil when h is not available.
func (c Challenge) Digest(h crypto.Hash) []byte {
	if !h.Available() {
		return nil
	}
	b := make([]byte, 0, 256)
	for _, field := range [...]string{challengeLabel, c.Scope, c.Terminal, c.Purpose, c.Ticket, string(c.Nonce[:])} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// VerifiedBy checks that key signed the challenge under the scheme.
func (c Challenge) VerifiedBy(key cardkey.Key, s cardkey.Scheme, signature []byte) error {
	return key.Verify(s, c.Digest(s.Hash()), signature)
}
