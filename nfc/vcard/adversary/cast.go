package adversary

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

// Setting is the gate that the adversaries come to, and who stands behind it.
type Setting struct {
	Now      time.Time
	Deadline time.Duration // of a tap; what is slow measures itself by it

	Scope, Terminal string           // names in the gate's challenges
	Authority       *perso.Authority // whose cards the gate trusts
	Foreign         *perso.Authority // one of the same name that it does not

	// What was overheard at this gate: a card's challenge and the answer of the
	// terminal's key, and the certificates that the terminal shows to everybody.
	Challenge            [32]byte
	Authentication       []byte
	TerminalCertificates [2][]byte
}

// A Cast is the cards and keys that adversaries work with.
type Cast struct {
	Setting

	Victim       *vcard.Image // on the list with both keys and the birth date
	Unregistered *vcard.Image // on the list without keys
	Accomplice   *vcard.Image // genuine, on the list and revoked, born on another day
	Twin         *vcard.Image // genuine, not on the list, born on the day of Victim and newcomers

	// Newcomers are on the list with the birth date and no keys, one for each
	// attempt at first use: a birth date that a card refused is never presented
	// to it again.
	Newcomers []*vcard.Image

	// Misissued are certificates that attempts want on the list, active and
	// without keys: their registration nobody stopped.
	Misissued [][]byte

	key      *rsa.PrivateKey // the attacker's own
	newcomer keys            // of all newcomers
	keys     map[*vcard.Image]keys
}

// keys are the private keys of a genuine card.
type keys struct{ authentication, card *rsa.PrivateKey }

// The birth dates of the cast.
var (
	BirthDate      = time.Date(1990, 4, 1, 0, 0, 0, 0, time.UTC)  // Victim, Twin, newcomers
	otherBirthDate = time.Date(1985, 10, 9, 0, 0, 0, 0, time.UTC) // Accomplice
)

// NewCast makes cards and keys, which takes some seconds.
func NewCast(set Setting) (*Cast, error) {
	c := &Cast{Setting: set, keys: make(map[*vcard.Image]keys)}
	var err error
	if c.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	for _, role := range []struct {
		card **vcard.Image
		born time.Time
	}{
		{&c.Victim, BirthDate}, {&c.Unregistered, BirthDate},
		{&c.Accomplice, otherBirthDate}, {&c.Twin, BirthDate},
	} {
		k, err := newKeys()
		if err != nil {
			return nil, err
		}
		if *role.card, err = c.card(k, role.born); err != nil {
			return nil, err
		}
	}
	if c.newcomer, err = newKeys(); err != nil {
		return nil, err
	}
	return c, nil
}

func newKeys() (k keys, err error) {
	if k.authentication, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
		k.card, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	return k, err
}

// card makes a genuine card.
func (c *Cast) card(k keys, born time.Time) (*vcard.Image, error) {
	img, err := c.Authority.Card(perso.CardOptions{BirthDate: born, AuthenticationKey: k.authentication, CardKey: k.card})
	if err != nil {
		return nil, fmt.Errorf("making a card of the cast: %w", err)
	}
	c.keys[img] = k
	return img, nil
}

// A stage is one attempt's view of the cast. Its first error stays.
type stage struct {
	*Cast
	Newcomer *vcard.Image // at first use
	cards    []genuineCard
	talks    bool // there are rules
	told     bool // some rule has answered
	harm     []string
	err      error
}

type genuineCard struct {
	card  *vcard.Card
	image *vcard.Image
}

func (c *Cast) stage(method string) *stage {
	s := &stage{Cast: c}
	if method == FirstUse {
		s.Newcomer, s.err = c.card(c.newcomer, BirthDate)
		c.Newcomers = append(c.Newcomers, s.Newcomer)
	}
	return s
}

// genuine is a card that is really there, whose PIN tries count.
func (s *stage) genuine(img *vcard.Image) *vcard.Card {
	card := s.emulate(img)
	s.cards = append(s.cards, genuineCard{card, img})
	return card
}

// emulate runs an image that an attacker made.
func (s *stage) emulate(img *vcard.Image) *vcard.Card {
	card, err := vcard.New(img, vcard.Options{})
	s.fail(err)
	return card
}

// copied is a copy of a card: every file, and the attacker's key in the place of
// its own.
func (s *stage) copied(img *vcard.Image) *vcard.Card { return s.emulate(s.copyImage(img)) }

func (s *stage) copyImage(img *vcard.Image) *vcard.Image {
	c, err := perso.Copy(img, s.key, s.key)
	s.fail(err)
	return c
}

// clone is a genuine card whose files can be replaced.
func (s *stage) clone(img *vcard.Image) *vcard.Image {
	k := s.keys[img]
	c, err := perso.Copy(img, k.authentication, k.card)
	s.fail(err)
	return c
}

func (s *stage) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// withFile is a copied card with another content in a file, free to read.
func (s *stage) withFile(img *vcard.Image, aid []byte, id vcard.FileID, content []byte) *vcard.Image {
	if s.err != nil {
		return img
	}
	f := img.Application(aid).File(id)
	f.Content, f.Size, f.Read = content, max(f.Size, len(content)), nil
	return img
}

// withCertificate is a copy of a card with another certificate in EF 000A.
func (s *stage) withCertificate(img *vcard.Image, der []byte) *vcard.Image {
	return s.withFile(s.copyImage(img), vcard.AIDJPKI(), 0x000A, der)
}

// listed asks that a certificate be on the list.
func (s *stage) listed(der []byte) []byte {
	s.Misissued = append(s.Misissued, der)
	return der
}

// triesLost sums up the PIN tries that genuine cards have lost.
func (s *stage) triesLost() int {
	lost := 0
	for _, g := range s.cards {
		g.card.PowerOn()
		for _, app := range g.image.Applications {
			if !succeeded(g.card, append([]byte{0x00, 0xA4, 0x04, 0x0C, byte(len(app.AID))}, app.AID...)) {
				return 1 << 16
			}
			for _, pin := range app.PINs {
				rapdu, err := g.card.Transmit(context.Background(), []byte{0x00, 0x20, 0x00, 0x80 | byte(pin.ID)&0x1F})
				if err != nil || len(rapdu) != 2 {
					return 1 << 16
				}
				if sw := binary.BigEndian.Uint16(rapdu); pin.Limit > 0 {
					lost += pin.Left - int(sw-0x63C0)
				}
			}
		}
		g.card.PowerOff()
	}
	return lost
}

func succeeded(card *vcard.Card, capdu []byte) bool {
	rapdu, err := card.Transmit(context.Background(), capdu)
	return err == nil && bytes.Equal(rapdu, []byte{0x90, 0x00})
}

// digest is that of a challenge (docs/protocol.md) with a nonce that the
// attacker knows: what a card was asked to sign at another time or place.
func digest(scope, terminal, purpose string, nonce [32]byte) []byte {
	h := sha256.New()
	for _, field := range []string{"gate-agent/challenge/v1", scope, terminal, purpose, "", string(nonce[:])} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(field)))
		h.Write([]byte(field))
	}
	return h.Sum(nil)
}
