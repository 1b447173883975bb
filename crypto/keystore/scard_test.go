package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// A slot is a reader in process. bend, where it is set, may answer a command in
// the card's place.
type slot struct {
	card  *vcard.Card // nil: empty
	pulls int         // when above 0, the card leaves instead of answering that command
	bend  func(capdu []byte) []byte

	verified int // VERIFY commands that carried something
	commands int
	powered  int // cards that were connected and not released
}

func (s *slot) connect(context.Context, string) (Card, error) {
	if s.card == nil {
		return nil, fmt.Errorf("%w: no card in the reader", ErrAbsent)
	}
	s.powered++
	s.card.PowerOn()
	return &slotCard{s, s.card}, nil
}

type slotCard struct {
	*slot
	card *vcard.Card
}

func (c *slotCard) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	if c.pulls > 0 {
		if c.pulls--; c.pulls == 0 {
			c.pull()
		}
	}
	if c.slot.card != c.card {
		return nil, nfc.ErrRemoved
	}
	c.commands++
	if len(capdu) > 5 && capdu[1] == 0x20 {
		c.verified++
	}
	if c.bend != nil {
		if rapdu := c.bend(capdu); rapdu != nil {
			return rapdu, nil
		}
	}
	return c.card.Transmit(ctx, capdu)
}

func (c *slotCard) Release() error {
	c.powered--
	c.card.PowerOff()
	return nil
}

func (s *slot) pull() {
	s.card.PowerOff()
	s.card = nil
}

func (s *slot) put(t testing.TB, img *vcard.Image) {
	t.Helper()
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.card = card
}

// cardImage is an image of testdata/cards.
func cardImage(t testing.TB, name string) *vcard.Image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../testdata/cards", name))
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// A bench is a slot with a card, a PIN source, and a key on the card.
type bench struct {
	*slot
	pin   string // the file
	uri   string
	store Store
}

const (
	jpki = "D392F000260100000001"
	piv  = "A000000308000010000100"
)

func newBench(t testing.TB, image, aid, key, pin string) *bench {
	t.Helper()
	b := &bench{slot: new(slot), pin: filepath.Join(t.TempDir(), "pin")}
	b.store.Card = b.connect
	b.uri = fmt.Sprintf("scard:reader=SAM;aid=%s;key=%s?pin-source=%s", aid, key, b.pin)
	t.Cleanup(func() {
		if b.powered != 0 {
			t.Errorf("%d cards were left with power", b.powered)
		}
	})
	b.write(t, pin)
	if image != "" {
		b.put(t, cardImage(t, image))
	}
	return b
}

func (b *bench) write(t testing.TB, pin string) {
	t.Helper()
	if err := os.WriteFile(b.pin, []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) key(t testing.TB) *Key {
	t.Helper()
	k, err := b.store.Signer(b.uri, ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func (b *bench) open(t testing.TB) *Key {
	t.Helper()
	k := b.key(t)
	if err := k.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	digest256 = sha256.Sum256([]byte("message"))
	digest384 = sha512.Sum384([]byte("message"))
	digest512 = sha512.Sum512([]byte("message"))
	pssOfHash = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
)

// pinError is what err says of the PIN.
func pinError(t testing.TB, err error) *PINError {
	t.Helper()
	e, ok := errors.AsType[*PINError](err)
	if !ok {
		t.Fatalf("%v, want a PINError", err)
	}
	return e
}

// A JPKI key signs what a card can, and says so of what it cannot.
func TestKeysOfJPKICardsSign(t *testing.T) {
	for _, c := range []struct{ image, key, pin string }{
		{"good.json", "17", "1234"},
		{"good.json", "1A", "ABC123"},
		{"good.json", "1a", "ABC123"},
		{"sim.json", "17", "1234"},
	} {
		t.Run(c.image+" "+c.key, func(t *testing.T) {
			b := newBench(t, c.image, jpki, c.key, c.pin)
			k := b.open(t)
			for _, opts := range []crypto.SignerOpts{crypto.SHA256, pssOfHash} {
				signature, err := k.Sign(nil, digest256[:], opts)
				if err != nil {
					t.Fatal(err)
				}
				if !verifies(k.Public(), digest256[:], opts, signature) {
					t.Errorf("%T: the signature does not verify", opts)
				}
			}
			for _, cannot := range []struct {
				digest []byte
				opts   crypto.SignerOpts
			}{
				{digest384[:], crypto.SHA384},
				{digest384[:], crypto.SHA256},
				{digest256[:], crypto.Hash(0)},
				{digest256[:], &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256}},
			} {
				if _, err := k.Sign(nil, cannot.digest, cannot.opts); !errors.Is(err, ErrCannot) {
					t.Errorf("%d bytes, %v: %v", len(cannot.digest), cannot.opts, err)
				}
			}
			if exportable, err := k.Exportable(t.Context()); err != nil || exportable {
				t.Errorf("exportable %v (%v)", exportable, err)
			}
			if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
				t.Errorf("after looking for a way out: %v", err)
			}
			if b.verified != 1 {
				t.Errorf("the PIN was sent %d times, want 1", b.verified)
			}
		})
	}
}

func TestCardThatReturnsIsOpenedAnew(t *testing.T) {
	b := newBench(t, "good.json", jpki, "17", "1234")
	k := b.open(t)
	img := cardImage(t, "good.json")
	for range 3 {
		if err := signs(k); err != nil {
			t.Fatal(err)
		}
		b.pull()
		if err := signs(k); !errors.Is(err, ErrAbsent) {
			t.Errorf("pulled: %v", err)
		}
		if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) {
			t.Errorf("the reader is empty: %v", err)
		}
		b.put(t, img)
		if err := k.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.pull()
	b.put(t, cardImage(t, "expired.json"))
	before := b.verified
	for range 2 {
		if err := k.Check(t.Context()); !errors.Is(err, ErrWrongKey) {
			t.Errorf("another card: %v", err)
		}
	}
	if b.verified != before {
		t.Error("another card was sent the PIN")
	}
}

// Whenever a card goes, the key is absent, and opens when the card is back.
func TestCardMayBePulledAtAnyCommand(t *testing.T) {
	for _, c := range []struct{ image, aid, key, pin string }{
		{"good.json", jpki, "1A", "ABC123"},
		{"piv.json", piv, "9A", "123456"},
		{"piv.json", piv, "9C", "123456"},
	} {
		b := newBench(t, c.image, c.aid, c.key, c.pin)
		img := cardImage(t, c.image)
		for at := 1; ; at++ {
			k := b.key(t)
			b.put(t, img)
			b.commands, b.pulls = 0, at
			err := k.Check(t.Context())
			if err == nil {
				err = signs(k)
			}
			if err == nil {
				if at < 6 {
					t.Errorf("all of it took %d commands", at)
				}
				break
			}
			if !errors.Is(err, ErrAbsent) {
				t.Errorf("pulled at command %d: %v", at, err)
			}
			b.put(t, img)
			if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
				t.Fatalf("after it was pulled at command %d: %v", at, err)
			}
			k.Close()
		}
		b.pulls = 0
	}
}

func TestCardThatWasResetIsOpenedAnew(t *testing.T) {
	b := newBench(t, "good.json", jpki, "17", "1234")
	k := b.open(t)
	b.card.PowerOff()
	b.card.PowerOn()
	if err := signs(k); err == nil {
		t.Fatal("signed without a PIN")
	}
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Fatal(err)
	}
	b.card.PowerOff()
	b.card.PowerOn()
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Errorf("Check does not see it: %v", err)
	}
}

func TestCardWithoutTheKeySaysSo(t *testing.T) {
	for _, c := range []struct {
		image, aid, key, pin string
		want                 error
	}{
		{"good.json", jpki, "18", "1234", ErrNoKey},
		{"sim.json", jpki, "1A", "ABC123", ErrNoKey},
		{"no-certificate.json", jpki, "17", "1234", ErrNoKey},
		{"empty-certificate.json", jpki, "17", "1234", ErrNoKey},
		{"next-generation.json", jpki, "17", "1234", ErrWrongKeyType},
		{"emv.json", jpki, "17", "1234", ErrNoKey},
		{"good.json", piv, "9A", "123456", ErrNoKey},
		{"piv.json", piv, "9B", "123456", ErrNoKey},
		{"piv.json", jpki, "17", "1234", ErrNoKey},
		{"good.json", "D3921000310001010402", "17", "1234", ErrCannot},
	} {
		b := newBench(t, c.image, c.aid, c.key, c.pin)
		k := b.key(t)
		err := k.Check(t.Context())
		if err == nil {
			err = signs(k)
		}
		if !errors.Is(err, c.want) || errors.Is(err, ErrAbsent) {
			t.Errorf("%v: %v, want %v", c, err, c.want)
		}
		if strings.Contains(fmt.Sprint(err), c.pin) {
			t.Errorf("the error tells the PIN: %v", err)
		}
	}
}

func TestProgramWithoutReadersSaysSo(t *testing.T) {
	b := newBench(t, "", jpki, "17", "1234")
	if err := b.key(t).Check(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("empty reader: %v", err)
	}
	b.store.Card = nil
	if err := b.key(t).Check(t.Context()); !errors.Is(err, ErrCannot) {
		t.Errorf("no readers: %v", err)
	}
}

// A card that computes wrongly gives nothing away.
func TestWrongSignatureStaysHere(t *testing.T) {
	b := newBench(t, "copied.json", jpki, "17", "1234") // its key is not that of its certificate
	k := b.open(t)
	for range 2 {
		if signature, err := k.Sign(nil, digest256[:], crypto.SHA256); err == nil || signature != nil {
			t.Errorf("signature %X, error %v", signature, err)
		}
	}
}

// A key that can be read is told from one that cannot.
func TestKeyThatCanBeReadIsExportable(t *testing.T) {
	b := newBench(t, "good.json", jpki, "17", "1234")
	k := b.open(t)
	b.bend = func(capdu []byte) []byte {
		if bytes.HasPrefix(capdu, []byte{0x00, 0xB0, 0x00, 0x00}) {
			return []byte{0x30, 0x90, 0x00}
		}
		return nil
	}
	if exportable, err := k.Exportable(t.Context()); err != nil || !exportable {
		t.Errorf("exportable %v (%v)", exportable, err)
	}
	b.bend = nil
	b.pull()
	if exportable, err := k.Exportable(t.Context()); !errors.Is(err, ErrAbsent) || exportable {
		t.Errorf("without a card: exportable %v (%v)", exportable, err)
	}
}

func TestKeysOfACardAreListedWithoutItsPIN(t *testing.T) {
	for _, c := range []struct {
		image, aid string
		want       []string
	}{
		{"good.json", jpki, []string{"17 user authentication rsa-2048 true", "1A digital signature behind its PIN false"}},
		{"sim.json", jpki, []string{"17 user authentication rsa-2048 true"}},
		{"juki.json", jpki, []string{"1A digital signature behind its PIN false"}},
		{"next-generation.json", jpki, []string{"17 user authentication p-384 true"}},
		{"piv.json", piv, []string{
			"9A PIV authentication rsa-2048 true", "9C digital signature rsa-2048 true",
			"9D key management p-384 true", "9E card authentication p-256 true",
		}},
	} {
		b := newBench(t, c.image, c.aid, "17", "")
		entries, err := b.store.List(t.Context(), fmt.Sprintf("scard:reader=SAM;aid=%s?pin-source=%s", c.aid, b.pin))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			u, err := ParseURI(e.URI)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s %s %s %v", u.Get("key"), e.Label, e.Type, e.Public != nil))
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s has %q, want %q", c.image, got, c.want)
		}
		if b.verified != 0 || b.powered != 0 {
			t.Errorf("%d PINs sent, %d cards left with power", b.verified, b.powered)
		}
	}
}

func TestCardMakesNoKeys(t *testing.T) {
	b := newBench(t, "good.json", jpki, "17", "1234")
	_, err := b.store.Generate(t.Context(), b.uri, ExternalAuth, RSA2048)
	_, err2 := b.store.OpenWrapper(t.Context(), b.uri)
	for _, err := range []error{err, err2, b.store.GenerateWrapper(t.Context(), b.uri)} {
		if !errors.Is(err, ErrCannot) {
			t.Error(err)
		}
	}
}
