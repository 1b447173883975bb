package vcard_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

func TestTapUseTakesFourCommands(t *testing.T) {
	a, err := perso.NewAuthority(nil, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	img, err := a.Card(perso.CardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	transmit := func(capdu ...[]byte) []byte {
		t.Helper()
		rapdu, err := card.Transmit(t.Context(), bytes.Join(capdu, nil))
		if err != nil {
			t.Fatal(err)
		}
		data, ok := bytes.CutSuffix(rapdu, []byte{0x90, 0x00})
		if !ok {
			t.Fatalf("%X: %X", capdu, rapdu[len(rapdu)-2:])
		}
		return data
	}
	transmit([]byte{0x00, 0xA4, 0x04, 0x0C, 0x0A}, vcard.AIDJPKI())
	if head := transmit([]byte{0x00, 0xB0, 0x8A, 0x00, 0x00}); !bytes.HasPrefix(img.AuthenticationCertificate(), head) {
		t.Error("head is not that of the certificate")
	}
	transmit([]byte{0x00, 0xA4, 0x04, 0x0C, 0x0A}, vcard.AIDSurface())
	digest := sha256.Sum256([]byte("challenge"))
	digestInfo := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)
	signature := transmit([]byte{0x80, 0x2A, 0x00, 0x00, byte(len(digestInfo))}, digestInfo, []byte{0x00})
	if err := rsa.VerifyPKCS1v15(img.CardKey(), crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
}
