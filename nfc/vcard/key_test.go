package vcard_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// The vectors hold what the card must answer byte for byte; the standard
// library says that it is a signature.
func TestSignaturesOfTheNextGenerationVerify(t *testing.T) {
	img := image(t, "next-generation.json")
	clock := &vcard.Clock{KeyOperation: 123 * time.Millisecond, Turnaround: -1}
	card := newCard(t, img, vcard.Options{Clock: clock})
	message := []byte("any message")
	digest := sha512.Sum384(message)
	sign := func(p1, p2 byte, data []byte) []byte {
		before := clock.Elapsed()
		signature := send(t, card, []byte{0x80, 0x2A, p1, p2, byte(len(data))}, data, []byte{0x00})
		if spent := clock.Elapsed() - before; spent < 123*time.Millisecond {
			t.Errorf("P1 = %02X: %v, less than the key takes", p1, spent)
		}
		return signature
	}
	verify := func(key crypto.PublicKey, signature []byte) {
		t.Helper()
		if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("%X is no signature", signature)
		}
	}
	send(t, card, selectDF(vcard.AIDJPKI()))
	send(t, card, []byte("\x00\x20\x00\x98\x041234"))
	send(t, card, selectDF(vcard.AIDSurface()))
	verify(img.CardKey(), sign(0x01, 0x00, digest[:]))
	verify(img.CardKey(), sign(0x03, 0x00, message))
	send(t, card, selectDF(vcard.AIDJPKI()))
	verify(img.AuthenticationKey(), sign(0x02, 0x97, digest[:]))
}

func TestKeysThatNoCardHasAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[string]crypto.Signer{"1024": small, "P-256": p256, "missing": edwards} {
		img := image(t, "good.json")
		img.Application(vcard.AIDSurface()).InternalKey = &vcard.PrivateKey{Signer: key}
		if _, err := vcard.New(img, vcard.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: error %v does not say %q", key, err, want)
		}
	}
}

// A missing key is nil and nothing else, so that a caller can compare.
func TestNoKeyIsNil(t *testing.T) {
	for _, name := range []string{"juki.json", "felica.json", "no-certificate.json"} {
		if key := image(t, name).AuthenticationKey(); key != nil {
			t.Errorf("%s: authentication key %v", name, key)
		}
	}
	for _, name := range []string{"sim.json", "emv.json"} {
		if key := image(t, name).CardKey(); key != nil {
			t.Errorf("%s: card key %v", name, key)
		}
	}
}
