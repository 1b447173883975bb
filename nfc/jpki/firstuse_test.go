package jpki_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// born is the birth date of everybody in testdata/cards.
const born = "19900401"

func TestFirstUseProvesTheCardByItsAgeRecord(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  vcard.Options
		want nfc.Stats
	}{
		// SELECT, head, rest, SELECT, EF 0004, tries, birth date, EF 0001, signature.
		{"reads of extended length", vcard.Options{}, nfc.Stats{Commands: 9, Bytes: 612 + 7 + 1327 + 2 + 7 + 568 + 2 + 6 + 11 + 2 + 7 + 547 + 2}},
		// The first long read is refused, and no other is tried.
		{"reads by 256 bytes", vcard.Options{NoExtendedLength: true}, nfc.Stats{Commands: 5 + 1 + 6 + 3 + 1 + 3, Bytes: 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := image(t, "good.json")
			var key cardkey.Key
			r := &recorder{Transmitter: newCard(t, img, c.opt)}
			e, stats, err := newTerminal(t).tap(t, r, first(t, born, &key))
			if err != nil {
				t.Fatal(err)
			}
			prove(t, e, img)
			if !key.Equal(cardKey(t, img)) {
				t.Error("another card key")
			}
			if stats.Commands != c.want.Commands || c.want.Bytes != 0 && stats.Bytes != c.want.Bytes {
				t.Errorf("%+v, want %+v", stats, c.want)
			}
			if n := valuesPresented(t, r); n != 1 {
				t.Errorf("%d values presented", n)
			}
			if e.BirthDateRefused {
				t.Error("the birth date counts as refused")
			}
		})
	}
}

// valuesPresented counts VERIFY commands with a value.
func valuesPresented(t testing.TB, r *recorder) (n int) {
	t.Helper()
	for _, capdu := range r.commands {
		cmd, err := nfc.ParseCommand(capdu)
		if err != nil {
			t.Fatal(err)
		}
		if cmd.INS == 0x20 && len(cmd.Data) > 0 {
			n++
		}
	}
	return n
}

// The birth date is a PIN of the card: it goes out once at most, not when one
// try is left, and not before everything free has been checked.
func TestBirthDateIsPresentedOnceAtMost(t *testing.T) {
	tries := func(left int) func(*vcard.Image) {
		return func(img *vcard.Image) { img.Application(vcard.AIDSurface()).PINs[0].Left = left }
	}
	for _, c := range []struct {
		name      string
		image     string
		born      string
		change    func(*vcard.Image)
		answer    func(n int, capdu []byte) []byte
		want      error
		presented int
		left      int // tries of the birth date afterwards
		refused   bool
	}{
		{name: "in order", born: born, presented: 1, left: 10},
		{name: "another day", born: "19900402", want: jpki.ErrRefused, presented: 1, left: 9, refused: true},
		// Heisei 2 and Reiwa 2 are one PIN: only the record tells them apart.
		{name: "the same digits in another era", born: "20200401", want: cardauth.ErrNotGenuine, presented: 1, left: 10},
		{name: "two tries left", born: born, change: tries(2), presented: 1, left: 10},
		{name: "one try left", born: born, change: tries(1), want: jpki.ErrRefused, left: 1},
		{name: "blocked", born: born, change: tries(0), want: jpki.ErrRefused, left: 0},
		{name: "no limit", born: born, change: func(img *vcard.Image) {
			img.Application(vcard.AIDSurface()).PINs[0].Limit, img.Application(vcard.AIDSurface()).PINs[0].Left = 0, 0
		}, presented: 1, left: 0},
		{name: "no limit, another day", born: "19900402", change: func(img *vcard.Image) {
			img.Application(vcard.AIDSurface()).PINs[0].Limit, img.Application(vcard.AIDSurface()).PINs[0].Left = 0, 0
		}, want: jpki.ErrRefused, presented: 1, refused: true},
		{name: "PIN 0018 is blocked", born: born, change: func(img *vcard.Image) {
			img.Application(vcard.AIDJPKI()).PINs[0].Left = 0
		}, presented: 1, left: 10},
		{name: "a card of a foreign hierarchy", image: "forged.json", born: born, want: cardauth.ErrUntrusted, left: 10},
		{name: "signer of a foreign hierarchy", born: born, change: func(img *vcard.Image) {
			img.Application(vcard.AIDSurface()).File(0x0004).Content = image(t, "forged.json").Application(vcard.AIDSurface()).File(0x0004).Content
		}, want: cardauth.ErrUntrusted, left: 10},
		{name: "no signer's certificate", born: born, change: func(img *vcard.Image) {
			app := img.Application(vcard.AIDSurface())
			app.Files = app.Files[:2] // 0001 and 0003
		}, want: jpki.ErrUnsupported, left: 10},
		{name: "a SIM", image: "sim.json", born: born, want: jpki.ErrUnsupported, left: -1},
		{name: "a phone", image: "android.json", born: born, want: jpki.ErrPINRequired, left: -1},
		{name: "tries that are told as success", born: born, answer: func(_ int, capdu []byte) []byte {
			if bytes.Equal(capdu, []byte{0x00, 0x20, 0x00, 0x91}) {
				return []byte{0x90, 0x00}
			}
			return nil
		}, want: jpki.ErrUnsupported, left: 10},
		{name: "tries that are not told", born: born, answer: func(_ int, capdu []byte) []byte {
			if bytes.Equal(capdu, []byte{0x00, 0x20, 0x00, 0x91}) {
				return []byte{0x6D, 0x00}
			}
			return nil
		}, want: jpki.ErrRefused, left: 10},
		{name: "any birth date is right, and the record somebody's", born: "19770401", answer: func(_ int, capdu []byte) []byte {
			if len(capdu) == 11 && capdu[1] == 0x20 {
				return []byte{0x90, 0x00}
			}
			return nil
		}, want: jpki.ErrRefused, presented: 1, left: 10}, // the card itself keeps the record shut
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.image == "" {
				c.image = "good.json"
			}
			img := image(t, c.image)
			if c.change != nil {
				c.change(img)
			}
			var medium nfctest.Medium = newCard(t, img, vcard.Options{})
			r := &recorder{}
			if r.Transmitter = medium; c.answer != nil {
				r.Transmitter = bend(medium, c.answer)
			}
			term := newTerminal(t)
			e, _, err := term.tap(t, r, first(t, c.born, new(cardkey.Key)))
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if n := valuesPresented(t, r); n != c.presented {
				t.Errorf("%d values presented, want %d", n, c.presented)
			}
			if e.BirthDateRefused != c.refused {
				t.Errorf("refused: %v", e.BirthDateRefused)
			}
			if term.signer.signatures != 0 {
				t.Error("the terminal's key signed")
			}
			if c.left >= 0 {
				if got := triesLeft(t, medium, vcard.AIDSurface(), 0x91); got != c.left {
					t.Errorf("%d tries left, want %d", got, c.left)
				}
			}
		})
	}
}

// A card that leaves at any command of first use is a card that left.
func TestCardPulledDuringFirstUse(t *testing.T) {
	for at := 1; at <= 9; at++ {
		_, stats, err := newTerminal(t).tap(t, nfctest.Pulled(good(t), at), first(t, born, new(cardkey.Key)))
		if !errors.Is(err, nfc.ErrRemoved) || stats.Commands != at {
			t.Errorf("command %d: %v after %d", at, err, stats.Commands)
		}
	}
}

// Every status word at every command is a refusal, and none leads to a second
// VERIFY.
func TestStatusWordsDuringFirstUse(t *testing.T) {
	for _, sw := range []uint16{0x6282, 0x6300, 0x63C0, 0x63C2, 0x6700, 0x6982, 0x6983, 0x6984, 0x6985, 0x6A82, 0x6A86, 0x6B00, 0x6D00, 0x6E00, 0x6F00} {
		for at := 1; at <= 9; at++ {
			r := &recorder{Transmitter: bend(good(t), func(n int, _ []byte) []byte {
				if n < at {
					return nil
				}
				return []byte{byte(sw >> 8), byte(sw)}
			})}
			_, stats, err := newTerminal(t).tap(t, r, first(t, born, new(cardkey.Key)))
			if err == nil || stats.Commands > at+2 {
				t.Errorf("%04X to command %d: %v after %d commands", sw, at, err, stats.Commands)
			}
			if !errors.Is(err, jpki.ErrUnsupported) && !errors.Is(err, jpki.ErrRefused) && !errors.Is(err, jpki.ErrPINRequired) {
				t.Errorf("%04X to command %d: %v says nothing of the card", sw, at, err)
			}
			if n := valuesPresented(t, r); n > 1 {
				t.Errorf("%04X to command %d: %d values presented", sw, at, n)
			}
		}
	}
}

func TestProfileWithoutFirstUseHasNone(t *testing.T) {
	profile := jpki.DefaultProfile()
	profile.FirstUse = nil
	d := newTerminal(t).dialogue(t, profile)
	if d.CanFirstUse() || !newTerminal(t).dialogue(t, jpki.DefaultProfile()).CanFirstUse() {
		t.Error("CanFirstUse does not tell what the profile has")
	}
	r := &recorder{Transmitter: good(t)}
	if _, _, err := tap(t, d, r, first(t, born, new(cardkey.Key))); err == nil || valuesPresented(t, r) != 0 {
		t.Errorf("error %v", err)
	}
}

// A file that a card does not have says nothing about its reader: long reads
// are tried again with the next card.
func TestMissingFileDoesNotMakeReadsShort(t *testing.T) {
	d := newTerminal(t).dialogue(t, jpki.DefaultProfile())
	img := image(t, "good.json")
	app := img.Application(vcard.AIDSurface())
	app.Files = app.Files[:2]
	if _, _, err := tap(t, d, newCard(t, img, vcard.Options{}), first(t, born, new(cardkey.Key))); !errors.Is(err, jpki.ErrUnsupported) {
		t.Fatal(err)
	}
	_, stats, err := tap(t, d, good(t), first(t, born, new(cardkey.Key)))
	if err != nil || stats.Commands != 9 {
		t.Errorf("%d commands, %v", stats.Commands, err)
	}
}

// A recorded birth date would be a PIN in a log.
func TestErrorsOfFirstUseTellNoBirthDate(t *testing.T) {
	for _, answer := range []uint16{0x63C3, 0x6984, 0x6700, 0x6F00} {
		m := &nfctest.Faulty{Medium: good(t), Bend: func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
			return []byte{byte(answer >> 8), byte(answer)}, nil, n == 7
		}}
		_, _, err := newTerminal(t).tap(t, m, first(t, born, new(cardkey.Key)))
		for _, secret := range []string{"1990", "020401", fmt.Sprintf("%x", "020401")} {
			if err == nil || bytes.Contains([]byte(err.Error()), []byte(secret)) {
				t.Errorf("%v", err)
			}
		}
	}
}
