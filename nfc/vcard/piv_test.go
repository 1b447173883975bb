package vcard_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// The exchanges are written from NIST SP 800-73-4 part 2.

var (
	selectPIV   = []byte("\x00\xA4\x04\x00\x05\xA0\x00\x00\x03\x08\x00")
	verifyPIV   = []byte("\x00\x20\x00\x80\x08123456\xFF\xFF")
	wrongPIV    = []byte("\x00\x20\x00\x80\x08654321\xFF\xFF")
	triesPIV    = []byte("\x00\x20\x00\x80")
	getResponse = []byte("\x00\xC0\x00\x00\x00")
)

// word sends a command and gives the status word alone.
func word(t testing.TB, card *vcard.Card, capdu []byte) uint16 {
	t.Helper()
	rapdu, err := card.Transmit(t.Context(), capdu)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(rapdu[len(rapdu)-2])<<8 | uint16(rapdu[len(rapdu)-1])
}

func TestPIVApplicationIsFoundByPartOfItsName(t *testing.T) {
	img := image(t, "piv.json")
	want := []byte{0x61, 0x11, 0x4F, 6, 0, 0, 0x10, 0, 1, 0, 0x79, 7, 0x4F, 5, 0xA0, 0, 0, 3, 8}
	for _, n := range []int{5, 9, 11} {
		aid := img.Applications[0].AID[:n]
		card := newCard(t, img, vcard.Options{})
		if got := send(t, card, []byte{0x00, 0xA4, 0x04, 0x00, byte(n)}, aid, []byte{0}); !bytes.Equal(got, want) {
			t.Errorf("%X: %X", aid, got)
		}
	}
	card := newCard(t, img, vcard.Options{})
	if sw := word(t, card, []byte("\x00\xA4\x04\x00\x04\xA0\x00\x00\x03\x00")); sw != 0x6A82 {
		t.Errorf("four bytes: %04X", sw)
	}
}

func TestPIVPINIsCountedAsTheStandardSays(t *testing.T) {
	card := newCard(t, image(t, "piv.json"), vcard.Options{})
	send(t, card, selectPIV)
	for i, step := range []struct {
		capdu []byte
		want  uint16
	}{
		{triesPIV, 0x63C3},
		{[]byte("\x00\x20\x00\x80\x06123456"), 0x6A80}, // not counted
		{wrongPIV, 0x63C2},
		{triesPIV, 0x63C2},
		{verifyPIV, 0x9000},
		{triesPIV, 0x9000},
		{wrongPIV, 0x63C2}, // and no longer verified
		{triesPIV, 0x63C2},
		{wrongPIV, 0x63C1},
		{wrongPIV, 0x63C0},
		{verifyPIV, 0x6983},
		{triesPIV, 0x6983},
	} {
		if sw := word(t, card, step.capdu); sw != step.want {
			t.Errorf("step %d: %04X, want %04X", i, sw, step.want)
		}
	}
}

// challenge is a template around an RSA block, in the two commands of a chain.
func challenge(key byte, block []byte) (first, last []byte) {
	template := slices.Concat([]byte{0x7C, 0x82, 0x01, 0x06, 0x82, 0x00, 0x81, 0x82, 0x01, 0x00}, block)
	first = slices.Concat([]byte{0x10, 0x87, 0x07, key, 0xFF}, template[:255])
	last = slices.Concat([]byte{0x00, 0x87, 0x07, key, byte(len(template) - 255)}, template[255:], []byte{0})
	return first, last
}

func TestPIVSignatureComesInTwoParts(t *testing.T) {
	img := image(t, "piv.json")
	card := newCard(t, img, vcard.Options{})
	digest := sha256.Sum256([]byte("message"))
	info := digestInfo(digest)
	block := slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, 253-len(info)), []byte{0}, info)
	first, last := challenge(0x9A, block)

	send(t, card, selectPIV)
	send(t, card, first)
	if sw := word(t, card, last); sw != 0x6982 {
		t.Errorf("without the PIN: %04X", sw)
	}
	if sw := word(t, card, last); sw != 0x6A80 {
		t.Errorf("the end of a chain that nobody began: %04X", sw)
	}
	send(t, card, verifyPIV)
	send(t, card, first)
	rapdu, err := card.Transmit(t.Context(), last)
	if err != nil || len(rapdu) != 258 || !bytes.HasSuffix(rapdu, []byte{0x61, 0x08}) {
		t.Fatalf("%X, %v", rapdu, err)
	}
	answer := append(rapdu[:256:256], send(t, card, getResponse)...)
	signature, ok := bytes.CutPrefix(answer, []byte{0x7C, 0x82, 0x01, 0x04, 0x82, 0x82, 0x01, 0x00})
	public := img.Applications[0].Keys[0].Private.Public().(*rsa.PublicKey)
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); !ok || err != nil {
		t.Errorf("%X: %v", answer, err)
	}
}

// The digital signature key wants its PIN in the command before; others do not.
func TestPIVSignatureKeyWantsThePINEachTime(t *testing.T) {
	card := newCard(t, image(t, "piv.json"), vcard.Options{})
	send(t, card, selectPIV)
	sign := func(key byte) uint16 {
		first, last := challenge(key, make([]byte, 256))
		send(t, card, first)
		return word(t, card, last)
	}
	send(t, card, verifyPIV)
	for i, step := range []struct {
		key    byte
		verify bool
		want   uint16
	}{
		{0x9C, false, 0x6108}, {0x9C, false, 0x6982}, {0x9C, true, 0x6108},
		{0x9A, false, 0x6108}, {0x9A, false, 0x6108}, {0x9C, false, 0x6982}, {0x9B, false, 0x6A88},
	} {
		if step.verify {
			send(t, card, verifyPIV)
		}
		if sw := sign(step.key); sw != step.want {
			t.Errorf("step %d: %04X, want %04X", i, sw, step.want)
		}
	}
}

// FuzzPIV: no command, chained or not, makes the card panic or answer less than a
// status word.
func FuzzPIV(f *testing.F) {
	img := image(f, "piv.json")
	f.Add([]byte("\x00\xCB\x3F\xFF\x05\x5C\x03\x5F\xC1\x05\x00"), []byte("\x00\xC0\x00\x00\x00"))
	f.Add([]byte("\x00\x87\x11\x9E\x26\x7C\x24\x82\x00\x81\x20"+string(make([]byte, 32))+"\x00"), []byte{})
	first, last := challenge(0x9A, make([]byte, 256))
	f.Add(first, last)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		card := newCard(t, img, vcard.Options{})
		for _, capdu := range [][]byte{selectPIV, verifyPIV, a, b, triesPIV} {
			rapdu, err := card.Transmit(t.Context(), capdu)
			if err != nil || len(rapdu) < 2 {
				t.Fatalf("%X: %X, %v", capdu, rapdu, err)
			}
		}
	})
}
