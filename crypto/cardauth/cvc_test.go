package cardauth_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// Key ids of 16 bytes: 7 digits, 08 05, 3 digits, 4 bytes of padding.
const (
	rootID         = "6000090\x08\x05001\x00\x00\x00\x00"
	intermediateID = "6000091\x08\x05001\x00\x00\x00\x00"
	terminalID     = "6000092\x08\x05001\x00\x00\x00\x00"
)

// cvCertificate writes a card-verifiable certificate byte by byte
// (card-facts §4), apart from the code under test and from package perso.
func cvCertificate(t testing.TB, issuer, subject string, key *rsa.PublicKey, signer *rsa.PrivateKey) []byte {
	t.Helper()
	body := slices.Concat([]byte(issuer), []byte(subject),
		[]byte{0x90, 0x03, 0x01, 0x00, 0x01, 0x91, 0x82, 0x01, 0x00}, key.N.FillBytes(make([]byte, 256)))
	digest := sha256.Sum256(body)
	signature, err := rsa.SignPKCS1v15(nil, signer, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat([]byte{0x7F, 0x21, 0x82, 0x02, 0x33, 0x5F, 0x4E, 0x82, 0x01, 0x29}, body,
		[]byte{0x5F, 0x37, 0x82, 0x01, 0x00}, signature)
}

// chain is the two certificates of a terminal.
func chain(t testing.TB) (intermediate, terminal []byte) {
	a := loadAuthority(t, "authority.json")
	return cvCertificate(t, rootID, intermediateID, &a.intermediate.PublicKey, a.root),
		cvCertificate(t, intermediateID, terminalID, &terminalKey(t).PublicKey, a.intermediate)
}

func parseCV(t *testing.T, b []byte) cardauth.CVCertificate {
	t.Helper()
	c, err := cardauth.ParseCVCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCVCertificateHasItsParts(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	intermediate, terminal := chain(t)
	surface := image(t, "good.json").Application(vcard.AIDSurface()).File(0x0004).Content
	for _, c := range []struct {
		name            string
		b               []byte
		issuer, subject string // "" is not compared
		key             *rsa.PublicKey
	}{
		{"intermediate", intermediate, rootID, intermediateID, &a.intermediate.PublicKey},
		{"terminal", terminal, intermediateID, terminalID, &terminalKey(t).PublicKey},
		{"of a card's surface application", surface[:cardauth.CVCertificateSize], "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parseCV(t, c.b)
			if !bytes.Equal(got.Bytes(), c.b) {
				t.Error("other bytes")
			}
			if !bytes.Equal(append(bytes.Clone(got.BodyObject()), got.SignatureObject()...), c.b) {
				t.Error("the two objects are not the certificate")
			}
			if n := len(got.BodyObject()); n != 0x133 || len(got.SignatureObject()) != 0x105 {
				t.Errorf("objects of %X and %X bytes, want 133 and 105", n, len(got.SignatureObject()))
			}
			if !bytes.Equal(got.Body(), c.b[10:307]) || !bytes.Equal(got.Signature(), c.b[312:]) {
				t.Error("body or signature stand elsewhere")
			}
			issuer, subject := got.Issuer(), got.Subject()
			if c.issuer != "" && (string(issuer[:]) != c.issuer || string(subject[:]) != c.subject) {
				t.Errorf("issuer %q, subject %q", issuer, subject)
			}
			if c.key != nil && !got.PublicKey().Equal(cardKey(t, c.key)) {
				t.Error("another key")
			}
		})
	}
}

// Every octet of every header counts, and the message names the object.
func TestCVCertificateHeadersAreExact(t *testing.T) {
	_, good := chain(t)
	for _, part := range []struct {
		tag          string
		offset, size int
	}{{"7F21", 0, 5}, {"5F4E", 5, 5}, {"tags 90 and 91", 42, 9}, {"5F37", 307, 5}} {
		for i := part.offset; i < part.offset+part.size; i++ {
			b := bytes.Clone(good)
			b[i] ^= 0x01
			_, err := cardauth.ParseCVCertificate(b)
			if !errors.Is(err, cardauth.ErrCVCertificate) || !strings.Contains(err.Error(), part.tag) {
				t.Errorf("byte %d changed: error %v, want one that names %s", i, err, part.tag)
			}
		}
	}
	for _, n := range []int{0, 1, 307, 567} {
		if _, err := cardauth.ParseCVCertificate(good[:n]); !errors.Is(err, cardauth.ErrCVCertificate) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
	if _, err := cardauth.ParseCVCertificate(append(bytes.Clone(good), 0)); !errors.Is(err, cardauth.ErrCVCertificate) {
		t.Errorf("a byte behind it: error %v", err)
	}
	weak := bytes.Clone(good)
	weak[51] = 0x7F // a modulus of 2047 bits
	if _, err := cardauth.ParseCVCertificate(weak); !errors.Is(err, cardauth.ErrCVCertificate) {
		t.Errorf("weak modulus: error %v", err)
	}
}

// A certificate does not change with the buffer it was read from.
func TestCVCertificateKeepsItsBytes(t *testing.T) {
	_, b := chain(t)
	c := parseCV(t, b)
	want := bytes.Clone(b)
	clear(b)
	if !bytes.Equal(c.Bytes(), want) {
		t.Error("changed")
	}
}

func TestCVChain(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	intermediateBytes, terminalBytes := chain(t)
	intermediate, terminal := parseCV(t, intermediateBytes), parseCV(t, terminalBytes)
	if err := terminal.VerifiedBy(intermediate); err != nil {
		t.Fatal(err)
	}
	refused := func(name string, c, parent cardauth.CVCertificate) {
		t.Helper()
		if err := c.VerifiedBy(parent); !errors.Is(err, cardauth.ErrUntrusted) {
			t.Errorf("%s: error %v, want %v", name, err, cardauth.ErrUntrusted)
		}
	}
	refused("upside down", intermediate, terminal)
	refused("itself", terminal, terminal)

	// All 16 bytes of a key id count, the padding too, even where the
	// signature is right.
	for i := range 16 {
		id := []byte(intermediateID)
		id[i] ^= 0x01
		other := cvCertificate(t, rootID, string(id), &a.intermediate.PublicKey, a.root)
		refused("key id", terminal, parseCV(t, other))
	}
	other := cvCertificate(t, rootID, intermediateID, &a.root.PublicKey, a.root)
	refused("another key of the same key id", terminal, parseCV(t, other))

	// No byte of issuer, subject, modulus and signature can change. (Every
	// tenth, and the ends.)
	changeable := []int{10, 25, 26, 41, 52, 306, 312, 567}
	for i := 60; i < 306; i += 10 {
		changeable = append(changeable, i)
	}
	for _, i := range changeable {
		b := bytes.Clone(terminalBytes)
		b[i] ^= 0x02
		refused("changed byte", parseCV(t, b), intermediate)
	}
}

// FuzzParseCVCertificate: what parses gives back the same bytes, whole and in
// its two objects.
func FuzzParseCVCertificate(f *testing.F) {
	intermediate, terminal := chain(f)
	f.Add(intermediate)
	f.Add(terminal)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := cardauth.ParseCVCertificate(b)
		if err != nil {
			if !errors.Is(err, cardauth.ErrCVCertificate) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !bytes.Equal(c.Bytes(), b) || !bytes.Equal(append(bytes.Clone(c.BodyObject()), c.SignatureObject()...), b) {
			t.Fatalf("%X parses and gives back %X", b, c.Bytes())
		}
		if c.PublicKey().IsZero() {
			t.Fatal("no public key")
		}
	})
}
