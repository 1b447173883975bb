package registration

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

// The names and the instant of testdata/gen/registration_vectors.py.
const scope, terminal = "demo-hall", "desk-1"

var at = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// Fixed keys; they sign nothing but tests.
var (
	identity = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x1D}, 32)) // of the terminal
	another  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x2D}, 32)) // of terminal desk-2
	list     = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x15}, 32)) // signs lists
)

func readFile(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "testdata"}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func image(t testing.TB, name string) *vcard.Image {
	t.Helper()
	img, err := vcard.ParseImage(readFile(t, "cards", name))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func authority(t testing.TB, name string) *perso.Authority {
	t.Helper()
	a, err := perso.ParseAuthority(readFile(t, "cards", name))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trusting is a hub that trusts the terminals of the tests and one hierarchy.
func trusting(t testing.TB, hierarchy string) Trust {
	t.Helper()
	a := authority(t, hierarchy)
	id, public := a.SurfaceCA()
	key, err := cardkey.New(public)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign1.NewKeys(
		sign1.Key{Public: identity.Public(), Role: sign1.RoleRegistration, Scope: scope, Signer: terminal},
		sign1.Key{Public: another.Public(), Role: sign1.RoleRegistration, Scope: scope, Signer: "desk-2"},
		sign1.Key{Public: list.Public(), Role: sign1.RoleList, Scope: scope, Signer: terminal},
	)
	if err != nil {
		t.Fatal(err)
	}
	return Trust{
		Keys: keys, Hierarchy: Test, Anchors: []*x509.Certificate{a.CACertificate(), a.SIMCACertificate(), a.NextCACertificate()},
		SurfaceAuthorities: []cardauth.CVAuthority{{ID: cardauth.CVKeyID(id), Key: key}}, MaxAge: time.Hour,
	}
}

func hub(t testing.TB) Trust { return trusting(t, "authority.json") }

// read has the dialogue of a registration with a card, as a terminal that
// believes everything: what is wrong with a record is for the hub to find.
func read(t testing.TB, medium nfc.Transmitter, ticket string) Record {
	t.Helper()
	return readAs(t, jpki.DefaultProfile(), medium, ticket)
}

func readAs(t testing.TB, profile jpki.Profile, medium nfc.Transmitter, ticket string) Record {
	t.Helper()
	r := Record{Scope: scope, Hierarchy: Test, Terminal: terminal, Ticket: ticket, At: at}
	for i := range r.Nonce {
		r.Nonce[i] = byte(i)
	}
	born, err := cardauth.ParseBirthDate("19900401")
	if err != nil {
		t.Fatal(err)
	}
	d, err := jpki.NewDialogue(profile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Register(t.Context(), "slot", nfc.NewChannel(medium), r.Challenge(), jpki.Registrar{
		CheckAlone:       func() error { return nil },
		CheckCertificate: func(_, _ []byte) error { return nil },
		CheckSigner:      func([]byte) error { return nil },
		Ask: func(context.Context, jpki.Question) (jpki.Answer, error) {
			return jpki.Answer{PIN: []byte("1234"), BirthDate: born}, nil
		},
		CheckProof:  func(jpki.Signed) error { return nil },
		CheckRecord: func([]byte) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Token, r.Marked, r.Certificate, r.Authentication = got.Token, got.CertificatesMarked, got.Certificate, Signed(got.Authentication)
	if got.CardSurface {
		r.Surface = &Surface{got.SurfaceCertificate, got.AgeRecord, Signed(got.Card)}
	}
	return r
}

func card(t testing.TB, img *vcard.Image) *vcard.Card {
	t.Helper()
	c, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// good is the record of a card, with a ticket.
func good(t testing.TB) Record {
	t.Helper()
	return read(t, card(t, image(t, "good.json")), "T-000123")
}

// clone copies a record, so that a test may change any byte of it.
func (r Record) clone() Record {
	r.Marked, r.Certificate = bytes.Clone(r.Marked), bytes.Clone(r.Certificate)
	r.Authentication.Signature = slices.Clone(r.Authentication.Signature)
	if s := r.Surface; s != nil {
		r.Surface = &Surface{bytes.Clone(s.SignerCertificate), bytes.Clone(s.AgeRecord), Signed{s.Card.Scheme, bytes.Clone(s.Card.Signature)}}
	}
	return r
}

func sign(t testing.TB, r Record) []byte {
	t.Helper()
	msg, err := Sign(nil, identity, r)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}
