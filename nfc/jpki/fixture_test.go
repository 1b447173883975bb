package jpki_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

const cardDir = "../../testdata/cards"

// at is an instant at which the valid certificates of testdata/cards are valid.
var at = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

var challenge = cardauth.Challenge{Scope: "arena", Terminal: "gate-1-left", Purpose: cardauth.PurposeGate}

var methods = []jpki.Method{jpki.TapUse, jpki.ExternalAuth}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cardDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func image(t testing.TB, name string) *vcard.Image {
	t.Helper()
	img, err := vcard.ParseImage(readFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func newCard(t testing.TB, img *vcard.Image, opt vcard.Options) *vcard.Card {
	t.Helper()
	card, err := vcard.New(img, opt)
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// good is the card of a listed person.
func good(t testing.TB) *vcard.Card { return newCard(t, image(t, "good.json"), vcard.Options{}) }

func authority(t testing.TB, name string) *perso.Authority {
	t.Helper()
	a, err := perso.ParseAuthority(readFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A signer is the terminal's key. It counts what it signs.
type signer struct {
	*rsa.PrivateKey
	signatures int
}

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.signatures++
	return s.PrivateKey.Sign(rand, digest, opts)
}

// A terminal holds the key of testdata/cards/terminal.pem.
type terminal struct {
	signer       *signer
	certificates []cardauth.CVCertificate
	key          *jpki.TerminalKey
}

func newTerminal(t testing.TB) terminal {
	t.Helper()
	block, _ := pem.Decode(readFile(t, "terminal.pem"))
	if block == nil {
		t.Fatal("terminal.pem is no PEM file")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s := terminal{signer: &signer{PrivateKey: key.(*rsa.PrivateKey)}}
	s.certificates = certify(t, authority(t, "authority.json"), &s.signer.PublicKey)
	if s.key, err = jpki.NewTerminalKey(s.signer, s.certificates...); err != nil {
		t.Fatal(err)
	}
	return s
}

// certify gives the two certificates that a has for a terminal's key.
func certify(t testing.TB, a *perso.Authority, key *rsa.PublicKey) []cardauth.CVCertificate {
	t.Helper()
	intermediate, last, err := a.TerminalCertificates(key)
	if err != nil {
		t.Fatal(err)
	}
	var certificates []cardauth.CVCertificate
	for _, b := range [][]byte{intermediate, last} {
		c, err := cardauth.ParseCVCertificate(b)
		if err != nil {
			t.Fatal(err)
		}
		certificates = append(certificates, c)
	}
	return certificates
}

func (s terminal) dialogue(t testing.TB, profile jpki.Profile) *jpki.Dialogue {
	t.Helper()
	d, err := jpki.NewDialogue(profile, s.key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tap runs the default dialogue once and gives what the channel carried.
func (s terminal) tap(t testing.TB, medium nfc.Transmitter, resolve jpki.Resolve) (jpki.Evidence, nfc.Stats, error) {
	t.Helper()
	return tap(t, s.dialogue(t, jpki.DefaultProfile()), medium, resolve)
}

func tap(t testing.TB, d *jpki.Dialogue, medium nfc.Transmitter, resolve jpki.Resolve) (jpki.Evidence, nfc.Stats, error) {
	t.Helper()
	ch := nfc.NewChannel(medium)
	evidence, err := d.Run(t.Context(), "slot", ch, resolve)
	return evidence, ch.Stats(), err
}

// registered resolves every head as that of a person whose keys are registered.
func registered(method jpki.Method) jpki.Resolve {
	return func(cardauth.Head) (jpki.Expected, error) {
		return jpki.Expected{Method: method, Challenge: challenge}, nil
	}
}

// chained resolves every head as that of a person whose certificate is to be
// verified, and puts the certified key into key.
func chained(t testing.TB, method jpki.Method, key *cardkey.Key) jpki.Resolve {
	a := authority(t, "authority.json")
	anchors := []*x509.Certificate{a.CACertificate(), a.SIMCACertificate(), a.NextCACertificate()}
	return func(head cardauth.Head) (jpki.Expected, error) {
		return jpki.Expected{Method: method, Challenge: challenge, CheckCertificate: func(der []byte) (err error) {
			*key, err = cardauth.VerifyCertificate(head, der, anchors, at)
			return err
		}}, nil
	}
}

// firstUse is that of a person born on that day, under the authorities of
// testdata/cards. It puts the key of the card's age record into key.
func firstUse(t testing.TB, born string, key *cardkey.Key) *jpki.FirstUse {
	t.Helper()
	date, err := cardauth.ParseBirthDate(born)
	if err != nil {
		t.Fatal(err)
	}
	id, public := authority(t, "authority.json").SurfaceCA()
	authorities := []cardauth.CVAuthority{{ID: cardauth.CVKeyID(id), Key: newKey(t, public)}}
	var signer cardauth.CVCertificate
	return &jpki.FirstUse{
		BirthDate: date,
		CheckSigner: func(cvc []byte) (err error) {
			signer, err = cardauth.VerifyCVCertificate(cvc, authorities)
			return err
		},
		CheckRecord: func(record []byte) (err error) {
			*key, err = cardauth.VerifyAgeRecord(record, signer, date)
			return err
		},
	}
}

// first resolves every head as that of a person of that birth date whose keys
// are not registered.
func first(t testing.TB, born string, key *cardkey.Key) jpki.Resolve {
	chain := chained(t, jpki.TapUse, new(cardkey.Key))
	return func(head cardauth.Head) (jpki.Expected, error) {
		want, err := chain(head)
		want.FirstUse = firstUse(t, born, key)
		return want, err
	}
}

// cardKey and authenticationKey are what the row of a registered card has.
func cardKey(t testing.TB, img *vcard.Image) cardkey.Key {
	t.Helper()
	return newKey(t, img.CardKey())
}

func authenticationKey(t testing.TB, img *vcard.Image) cardkey.Key {
	t.Helper()
	return newKey(t, img.AuthenticationKey())
}

func newKey(t testing.TB, public crypto.PublicKey) cardkey.Key {
	t.Helper()
	key, err := cardkey.New(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// prove verifies the evidence with the key that the image's row would hold.
func prove(t testing.TB, e jpki.Evidence, img *vcard.Image) {
	t.Helper()
	registered := cardKey
	if e.Method == jpki.ExternalAuth {
		registered = authenticationKey
	}
	key := registered(t, img)
	proof := cardauth.Proof{Head: e.Head, Challenge: challenge, Signature: e.Signature, Scheme: e.Scheme}
	holder, err := cardauth.Verify(proof, key, at)
	if err != nil {
		t.Fatal(err)
	}
	if !cardauth.SameHead(holder.Head(), img.AuthenticationCertificate()) {
		t.Fatal("holder of another certificate")
	}
}

// A recorder keeps the commands that it carries.
type recorder struct {
	nfc.Transmitter
	commands [][]byte
}

func (r *recorder) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	r.commands = append(r.commands, bytes.Clone(capdu))
	return r.Transmitter.Transmit(ctx, capdu)
}

// bend answers in the place of the medium where answer gives a response.
func bend(m nfctest.Medium, answer func(n int, capdu []byte) []byte) nfctest.Medium {
	return &nfctest.Faulty{Medium: m, Bend: func(_ context.Context, n int, capdu []byte) ([]byte, error, bool) {
		rapdu := answer(n, capdu)
		return rapdu, nil, rapdu != nil
	}}
}

// shortReads is a card that gives at most most bytes to a READ BINARY,
// whatever Le says.
func shortReads(t testing.TB, m nfctest.Medium, most int) nfctest.Medium {
	return &nfctest.Faulty{Medium: m, Bend: func(ctx context.Context, _ int, capdu []byte) ([]byte, error, bool) {
		cmd, err := nfc.ParseCommand(capdu)
		if err != nil {
			t.Fatal(err)
		}
		if cmd.INS != 0xB0 || cmd.Ne <= most {
			return nil, nil, false
		}
		cmd.Ne = most
		short, err := cmd.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		rapdu, err := m.Transmit(ctx, short)
		return rapdu, err, true
	}}
}

// isExtendedRead reports whether capdu is a READ BINARY in extended length.
func isExtendedRead(capdu []byte) bool { return len(capdu) == 7 && capdu[1] == 0xB0 }
