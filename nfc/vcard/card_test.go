package vcard_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// send returns the data of a command that must succeed.
func send(t testing.TB, card *vcard.Card, capdu ...[]byte) []byte {
	t.Helper()
	rapdu, err := card.Transmit(context.Background(), bytes.Join(capdu, nil))
	if err != nil {
		t.Fatal(err)
	}
	data, ok := bytes.CutSuffix(rapdu, []byte{0x90, 0x00})
	if !ok {
		t.Fatalf("%X: %X", capdu, rapdu)
	}
	return data
}

func selectDF(aid []byte) []byte {
	return append([]byte{0x00, 0xA4, 0x04, 0x0C, byte(len(aid))}, aid...)
}

func digestInfo(digest [32]byte) []byte {
	return append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)
}

func TestTapUseTakesFourCommands(t *testing.T) {
	img := image(t, "good.json")
	card := newCard(t, img, vcard.Options{})

	send(t, card, selectDF(vcard.AIDJPKI()))
	if head := send(t, card, []byte{0x00, 0xB0, 0x8A, 0x00, 0x00}); !bytes.Equal(head, img.AuthenticationCertificate()[:256]) {
		t.Error("head is not that of the certificate")
	}
	send(t, card, selectDF(vcard.AIDSurface()))
	digest := sha256.Sum256([]byte("challenge"))
	info := digestInfo(digest)
	signature := send(t, card, []byte{0x80, 0x2A, 0x00, 0x00, byte(len(info))}, info, []byte{0x00})
	if err := rsa.VerifyPKCS1v15(img.CardKey().(*rsa.PublicKey), crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
}

func TestSignaturesVerify(t *testing.T) {
	img := image(t, "good.json")
	card := newCard(t, img, vcard.Options{})
	send(t, card, selectDF(vcard.AIDJPKI()))
	send(t, card, []byte("\x00\x20\x00\x98\x041234"))

	message := []byte("any message")
	digest := sha256.Sum256(message)
	pss := &rsa.PSSOptions{SaltLength: 32}
	pub := img.AuthenticationKey().(*rsa.PublicKey)
	pkcs1 := func(sig []byte) error { return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) }
	for p1, c := range map[byte]struct {
		data   []byte
		verify func(sig []byte) error
	}{
		0x00: {digestInfo(digest), pkcs1},
		0x01: {digest[:], func(sig []byte) error { return rsa.VerifyPKCS1v15(pub, 0, digest[:], sig) }},
		0x02: {digest[:], pkcs1},
		0x03: {message, pkcs1},
		0x04: {digest[:], func(sig []byte) error { return rsa.VerifyPSS(pub, crypto.SHA256, digest[:], sig, pss) }},
		0x05: {message, func(sig []byte) error { return rsa.VerifyPSS(pub, crypto.SHA256, digest[:], sig, pss) }},
	} {
		signature := send(t, card, []byte{0x80, 0x2A, p1, 0x97, byte(len(c.data))}, c.data, []byte{0x00})
		if err := c.verify(signature); err != nil {
			t.Errorf("P1 = %02X: %v", p1, err)
		}
	}
}

func TestFillerStandsBehindTheCertificate(t *testing.T) {
	img := image(t, "good.json")
	card := newCard(t, img, vcard.Options{})
	send(t, card, selectDF(vcard.AIDJPKI()))
	whole := send(t, card, []byte{0x00, 0xB0, 0x8A, 0x00, 0x00, 0x00, 0x00})
	filler, ok := bytes.CutPrefix(whole, img.AuthenticationCertificate())
	if !ok || len(filler) == 0 || len(bytes.Trim(filler, "\xFF")) != 0 {
		t.Errorf("file of %d bytes does not end in filler", len(whole))
	}
}

func TestFileControlInformationComesOnRequest(t *testing.T) {
	card := newCard(t, image(t, "good.json"), vcard.Options{})
	withFCI := selectDF(vcard.AIDJPKI())
	withFCI[3] = 0x00
	want := slices.Concat([]byte{0x6F, 0x0C, 0x84, 0x0A}, vcard.AIDJPKI())
	if got := send(t, card, withFCI, []byte{0x00}); !bytes.Equal(got, want) {
		t.Errorf("FCI is %X, want %X", got, want)
	}
	if got := send(t, card, withFCI); len(got) != 0 {
		t.Errorf("without Le: %X", got)
	}
	if got := send(t, card, []byte{0x00, 0xA4, 0x02, 0x00, 0x02, 0x00, 0x08, 0x00}); !bytes.Equal(got, []byte{0x6F, 0x08, 0x80, 0x02, 0x00, 0x03, 0x83, 0x02, 0x00, 0x08}) {
		t.Errorf("FCI of 0008 is %X", got)
	}
}

func TestUnpoweredCardIsSilent(t *testing.T) {
	card := newCard(t, image(t, "good.json"), vcard.Options{})
	send(t, card, selectDF(vcard.AIDJPKI())) // powers up by itself
	card.PowerOff()
	if _, err := card.Transmit(t.Context(), selectDF(vcard.AIDJPKI())); !errors.Is(err, vcard.ErrUnpowered) {
		t.Errorf("error is %v, want ErrUnpowered", err)
	}
	card.Reset() // an unpowered card has no warm reset
	send(t, card, selectDF(vcard.AIDJPKI()))
}

func TestPoweringUpTwiceEndsNothing(t *testing.T) {
	card := newCard(t, image(t, "good.json"), vcard.Options{})
	send(t, card, selectDF(vcard.AIDJPKI()))
	card.PowerOn()
	send(t, card, []byte{0x00, 0xB0, 0x86, 0x00, 0x00})
}

func TestCardLeavesItsImageAlone(t *testing.T) {
	img := image(t, "good.json")
	before, err := img.Encode()
	if err != nil {
		t.Fatal(err)
	}
	card := newCard(t, img, vcard.Options{})
	send(t, card, selectDF(vcard.AIDJPKI()))
	for range 3 {
		if _, err := card.Transmit(t.Context(), []byte("\x00\x20\x00\x98\x040000")); err != nil {
			t.Fatal(err)
		}
	}
	after, err := img.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("a wrong PIN changed the image")
	}
	other := newCard(t, img, vcard.Options{})
	send(t, other, selectDF(vcard.AIDJPKI()))
	send(t, other, []byte("\x00\x20\x00\x98\x041234"))
}

func TestPINWithoutLimitAnswers6300(t *testing.T) {
	img := image(t, "good.json")
	img.Application(vcard.AIDJPKI()).PINs[0].Limit = 0
	img.Application(vcard.AIDJPKI()).PINs[0].Left = 0
	card := newCard(t, img, vcard.Options{})
	send(t, card, selectDF(vcard.AIDJPKI()))
	for _, capdu := range []string{"\x00\x20\x00\x98", "\x00\x20\x00\x98\x040000", "\x00\x20\x00\x98"} {
		if got, err := card.Transmit(t.Context(), []byte(capdu)); err != nil || !bytes.Equal(got, []byte{0x63, 0x00}) {
			t.Errorf("%q: %X, %v", capdu, got, err)
		}
	}
	send(t, card, []byte("\x00\x20\x00\x98\x041234"))
}

func TestFailingGeneratorGivesNoChallenge(t *testing.T) {
	card := newCard(t, image(t, "good.json"), vcard.Options{Rand: bytes.NewReader(nil)})
	if got, err := card.Transmit(t.Context(), []byte{0x00, 0x84, 0x00, 0x00, 0x20}); err != nil || !bytes.Equal(got, []byte{0x6F, 0x00}) {
		t.Errorf("%X, %v", got, err)
	}
}

// FuzzTransmit: whatever commands come, the card answers each with at least a
// status word and never signs for EF 0017 while nobody knows its PIN.
func FuzzTransmit(f *testing.F) {
	img := image(f, "good.json")
	f.Add(selectDF(vcard.AIDJPKI()), []byte{0x00, 0xB0, 0x8A, 0x00, 0x00}, []byte{0x80, 0x2A, 0x00, 0x97, 0x01, 0x00, 0x00})
	f.Add(selectDF(vcard.AIDJPKI()), []byte{0x00, 0xA4, 0x02, 0x0C, 0x02, 0x00, 0x16}, []byte{0x80, 0xA2, 0x06, 0xC1, 0x01, 0x7F})
	f.Add(selectDF(vcard.AIDSurface()), []byte{0x00, 0x20, 0x00, 0x91}, []byte{0x00, 0xC0, 0x00, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		for _, opt := range []vcard.Options{{}, {GetResponse: true, ResponsePart: 7, ExactLe: true}} {
			card := newCard(t, img, opt)
			for _, capdu := range [][]byte{a, b, c} {
				rapdu, err := card.Transmit(t.Context(), capdu)
				if err != nil || len(rapdu) < 2 {
					t.Fatalf("%X: %X, %v", capdu, rapdu, err)
				}
			}
			known := bytes.Contains(bytes.Join([][]byte{a, b, c}, nil), []byte("1234"))
			send(t, card, selectDF(vcard.AIDJPKI()))
			rapdu, err := card.Transmit(t.Context(), []byte{0x80, 0x2A, 0x00, 0x97, 0x01, 0x00, 0x00})
			if !known && (err != nil || !bytes.Equal(rapdu, []byte{0x69, 0x82})) {
				t.Fatalf("%X, %X, %X: then SIGN answers %X, %v", a, b, c, rapdu, err)
			}
		}
	})
}
