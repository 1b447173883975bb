package jpki_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// withSubject is a good card whose certificate has a subject of some n bytes
// more. Nobody trusts it.
func withSubject(t *testing.T, n int) *vcard.Image {
	t.Helper()
	img := image(t, "good.json")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{Organization: []string{strings.Repeat("x", n)}},
		NotBefore:    at.AddDate(-1, 0, 0),
		NotAfter:     at.AddDate(1, 0, 0),
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, img.AuthenticationKey(), newTerminal(t).signer.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	f := img.Application(vcard.AIDJPKI()).File(0x000A)
	f.Content, f.Size = der, max(f.Size, len(der))
	return img
}

func TestLongHeadIsReadOn(t *testing.T) {
	for n, commands := range map[int]int{10: 4, 300: 5, 600: 6} {
		img := withSubject(t, n)
		e, stats, err := newTerminal(t).tap(t, newCard(t, img, vcard.Options{}), registered(jpki.TapUse))
		if err != nil {
			t.Fatal(err)
		}
		prove(t, e, img)
		if stats.Commands != commands {
			t.Errorf("subject of %d bytes: %d commands, want %d", n, stats.Commands, commands)
		}
	}
	_, stats, err := newTerminal(t).tap(t, newCard(t, withSubject(t, 3000), vcard.Options{}), registered(jpki.TapUse))
	if !errors.Is(err, jpki.ErrUnsupported) || stats.Commands > 6 {
		t.Errorf("head of 3 kB: error %v after %d commands", err, stats.Commands)
	}
}

func TestShortReadsArePutTogether(t *testing.T) {
	for _, most := range []int{1, 2, 100, 255} {
		img := image(t, "good.json")
		var key cardkey.Key
		e, stats, err := newTerminal(t).tap(t, shortReads(t, newCard(t, img, vcard.Options{}), most), chained(t, jpki.ExternalAuth, &key))
		if err != nil {
			t.Fatalf("%d bytes at a time: %v", most, err)
		}
		prove(t, e, img)
		if size := len(img.AuthenticationCertificate()); stats.Commands > 9+(size+most-1)/most+1 {
			t.Errorf("%d bytes at a time: %d commands for %d bytes", most, stats.Commands, size)
		}
	}
}

// A card cannot keep a terminal busy for ever, nor fill its memory.
func TestReadsThatGoNowhereEnd(t *testing.T) {
	whole := image(t, "good.json").AuthenticationCertificate()
	ok := func(b []byte) []byte { return append(slices.Clone(b), 0x90, 0x00) }
	for name, c := range map[string]struct {
		answer   func(at int) []byte // to READ BINARY at an offset
		commands int
	}{
		"empty at once":       {func(int) []byte { return ok(nil) }, 2},
		"empty in the head":   {func(at int) []byte { return ok(whole[at:min(at+100, 200)]) }, 4},
		"empty in the rest":   {func(at int) []byte { return ok(whole[at:min(at+256, 512)]) }, 4},
		"certificate of 60kB": {func(int) []byte { return ok(append([]byte{0x30, 0x82, 0xEA, 0x60}, whole[4:256]...)) }, 2},
		"filler":              {func(int) []byte { return ok(slices.Repeat([]byte{0xFF}, 256)) }, 2},
		"a head without end": {func(at int) []byte {
			if at == 0 {
				return ok([]byte{0x30, 0x82, 0x0F, 0xFC, 0x30, 0x82, 0x0F, 0x00, 0xA0, 0x82, 0x03, 0x00})
			}
			return ok([]byte{0})
		}, 1024},
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t)
			medium := bend(good(t), func(_ int, capdu []byte) []byte {
				if capdu[1] != 0xB0 {
					return nil
				}
				if capdu[2]&0x80 != 0 {
					return c.answer(0)
				}
				return c.answer(int(capdu[2])<<8 | int(capdu[3]))
			})
			_, stats, err := term.tap(t, medium, chained(t, jpki.ExternalAuth, new(cardkey.Key)))
			if !errors.Is(err, jpki.ErrUnsupported) {
				t.Errorf("error %v, want %v", err, jpki.ErrUnsupported)
			}
			if stats.Commands > c.commands {
				t.Errorf("%d commands, want at most %d", stats.Commands, c.commands)
			}
			if term.signer.signatures != 0 {
				t.Error("the terminal's key signed")
			}
		})
	}
}

// A reader or a card that does not take extended length costs one command,
// once for each slot.
func TestExtendedReadIsTriedOncePerSlot(t *testing.T) {
	for name, refusal := range map[string]struct {
		rapdu []byte
		err   error
	}{
		"by the card, 6700": {rapdu: []byte{0x67, 0x00}},
		"by the card, 6B00": {rapdu: []byte{0x6B, 0x00}},
		"by the card, 6F00": {rapdu: []byte{0x6F, 0x00}},
		"by the reader":     {err: nfc.ErrExtendedLength},
		"by nobody":         {}, // control: tried at every tap
	} {
		t.Run(name, func(t *testing.T) {
			refused := refusal.rapdu != nil || refusal.err != nil
			d := newTerminal(t).dialogue(t, jpki.DefaultProfile())
			img := image(t, "good.json")
			for i, c := range []struct {
				slot  string
				tried int
			}{{"left", 1}, {"left", 0}, {"right", 1}, {"right", 0}, {"left", 0}} {
				r := &recorder{Transmitter: &nfctest.Faulty{Medium: newCard(t, img, vcard.Options{}), Bend: func(_ context.Context, _ int, capdu []byte) ([]byte, error, bool) {
					return refusal.rapdu, refusal.err, refused && isExtendedRead(capdu)
				}}}
				var key cardkey.Key
				e, err := d.Run(t.Context(), c.slot, nfc.NewChannel(r), chained(t, jpki.TapUse, &key))
				if err != nil {
					t.Fatalf("tap %d: %v", i+1, err)
				}
				prove(t, e, img)
				tried := 0
				for _, capdu := range r.commands {
					if isExtendedRead(capdu) {
						tried++
					}
				}
				if !refused {
					c.tried = 1
				}
				if tried != c.tried {
					t.Errorf("tap %d, slot %s: %d extended reads, want %d", i+1, c.slot, tried, c.tried)
				}
			}
		})
	}
}

// Some cards give 256 bytes whatever Le says: the read goes on behind them.
func TestExtendedReadThatGivesLessIsContinued(t *testing.T) {
	img := image(t, "good.json")
	var key cardkey.Key
	e, stats, err := newTerminal(t).tap(t, shortReads(t, newCard(t, img, vcard.Options{}), 256), chained(t, jpki.TapUse, &key))
	if err != nil {
		t.Fatal(err)
	}
	prove(t, e, img)
	if stats.Commands != 4+6 {
		t.Errorf("%d commands, want 10", stats.Commands)
	}
}

// A card that leaves in an extended read has left; the slot keeps its length.
func TestRemovalIsNoRefusalOfLength(t *testing.T) {
	d := newTerminal(t).dialogue(t, jpki.DefaultProfile())
	tapWith := func(m nfc.Transmitter) error {
		_, _, err := tap(t, d, m, chained(t, jpki.TapUse, new(cardkey.Key)))
		return err
	}
	if err := tapWith(nfctest.Pulled(good(t), 3)); !errors.Is(err, nfc.ErrRemoved) {
		t.Errorf("error %v, want %v", err, nfc.ErrRemoved)
	}
	r := &recorder{Transmitter: good(t)}
	if err := tapWith(r); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.commands, isExtendedRead) {
		t.Error("the next tap did not try an extended read")
	}
}

// What a file carries behind its certificate is not part of it.
func TestFillerIsNoPartOfTheCertificate(t *testing.T) {
	// A certificate that the first read has whole, with filler behind it.
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: at, NotAfter: at}
	small, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	if len(small) >= 256 {
		t.Fatalf("small certificate of %d bytes", len(small))
	}
	for _, der := range [][]byte{image(t, "good.json").AuthenticationCertificate(), small} {
		img := image(t, "good.json")
		f := img.Application(vcard.AIDJPKI()).File(0x000A)
		f.Content, f.Size = der, len(der)+500
		checked := false
		resolve := func(cardauth.Head) (jpki.Expected, error) {
			return jpki.Expected{Method: jpki.TapUse, Challenge: challenge, CheckCertificate: func(got []byte) error {
				checked = true
				if !bytes.Equal(got, der) {
					t.Errorf("%d bytes, want the %d of the certificate", len(got), len(der))
				}
				return nil
			}}, nil
		}
		// By 256 bytes, so that the last read could go past the end.
		if _, _, err := newTerminal(t).tap(t, newCard(t, img, vcard.Options{NoExtendedLength: true}), resolve); err != nil || !checked {
			t.Errorf("checked: %v, error %v", checked, err)
		}
	}
}

// One card that refuses a long read, as a hostile one may, does not make the
// reads of those behind it short, once the reader has shown that it carries them.
func TestOneCardDoesNotMakeReadsShortForOthers(t *testing.T) {
	d := newTerminal(t).dialogue(t, jpki.DefaultProfile())
	commands := func(m nfctest.Medium) int {
		t.Helper()
		_, stats, err := tap(t, d, m, chained(t, jpki.TapUse, new(cardkey.Key)))
		if err != nil {
			t.Fatal(err)
		}
		return stats.Commands
	}
	long := commands(good(t))
	if short := commands(refusesExtendedReads(good(t))); short != long+6 {
		t.Errorf("%d commands where a long read is refused, %d else", short, long)
	}
	if again := commands(good(t)); again != long {
		t.Errorf("%d commands behind it, want %d", again, long)
	}
}
