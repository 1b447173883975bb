package registry

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/registration"
)

// A pki is the test hierarchy with the key of its CA, which signs CRLs.
type pki struct {
	*perso.Authority
	key crypto.Signer
}

func testdata(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "testdata"}, parts...)...))
	must(t, err)
	return b
}

func testPKI(t testing.TB, name string) pki {
	t.Helper()
	b := testdata(t, "cards", name)
	a, err := perso.ParseAuthority(b)
	must(t, err)
	var file struct {
		Key []byte `json:"ca_key"`
	}
	must(t, json.Unmarshal(b, &file))
	key, err := x509.ParsePKCS8PrivateKey(file.Key)
	must(t, err)
	return pki{a, key.(crypto.Signer)}
}

// keys are made once: an RSA key takes a while.
var cardKeys = sync.OnceValue(func() (keys [4]*rsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

// card makes a card whose own key is number key; certificates with other serial
// numbers are of other people, or renewed.
func (p pki) card(t testing.TB, serial uint32, key int) *vcard.Image {
	t.Helper()
	img, err := p.Card(perso.CardOptions{
		Serial: serial, NotBefore: at.AddDate(0, 0, -1), NotAfter: at.AddDate(5, 0, 0),
		AuthenticationKey: cardKeys()[0], CardKey: cardKeys()[key],
	})
	must(t, err)
	return img
}

// certificate is what a card of p carries.
func (p pki) certificate(t testing.TB, serial uint32) []byte {
	t.Helper()
	return p.card(t, serial, 1).Application(vcard.AIDJPKI()).File(0x000A).Content
}

// identity signs the records of terminal desk-1.
var identity = ed25519.NewKeyFromSeed(make([]byte, 32))

// trust is a hub that trusts terminal desk-1 of the registry.
func (p pki) trust(t testing.TB, r *Registry) registration.Trust {
	t.Helper()
	keys, err := r.TerminalKeys(t.Context(), hall)
	must(t, err)
	id, public := p.SurfaceCA()
	key, err := cardkey.New(public)
	must(t, err)
	return registration.Trust{
		Keys: keys, Hierarchy: registration.Test, Anchors: []*x509.Certificate{p.CACertificate()},
		SurfaceAuthorities: []cardauth.CVAuthority{{ID: cardauth.CVKeyID(id), Key: key}}, MaxAge: time.Hour,
	}
}

func addDesk(t testing.TB, r *Registry) {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(identity.Public())
	must(t, err)
	must(t, r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "desk-1", Identity: spki}))
}

// record is what terminal desk-1 signs of a card; nonce makes it one of its own.
func record(t testing.TB, img *vcard.Image, ticket string, nonce byte) []byte {
	t.Helper()
	card, err := vcard.New(img, vcard.Options{})
	must(t, err)
	rec := registration.Record{Scope: hall, Hierarchy: registration.Test, Terminal: "desk-1", Ticket: ticket, At: at, Nonce: [32]byte{nonce}}
	born, err := cardauth.ParseBirthDate("19900401")
	must(t, err)
	d, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
	must(t, err)
	got, err := d.Register(t.Context(), "slot", nfc.NewChannel(card), rec.Challenge(), jpki.Registrar{
		CheckAlone:       func() error { return nil },
		CheckCertificate: func(_, _ []byte) error { return nil },
		CheckSigner:      func([]byte) error { return nil },
		Ask: func(context.Context, jpki.Question) (jpki.Answer, error) {
			return jpki.Answer{PIN: []byte("1234"), BirthDate: born}, nil
		},
		CheckProof:  func(jpki.Signed) error { return nil },
		CheckRecord: func([]byte) error { return nil },
	})
	must(t, err)
	rec.Token, rec.Marked, rec.Certificate, rec.Authentication = got.Token, got.CertificatesMarked, got.Certificate, registration.Signed(got.Authentication)
	rec.Surface = &registration.Surface{SignerCertificate: got.SurfaceCertificate, AgeRecord: got.AgeRecord, Card: registration.Signed(got.Card)}
	msg, err := registration.Sign(nil, identity, rec)
	must(t, err)
	return msg
}

// A crl is what goes into a list.
type crl struct {
	number  int64
	update  time.Time // nextUpdate is a day later
	revoked []uint32
	held    []uint32
	point   []byte // GeneralName of an issuing distribution point
	change  func(*x509.RevocationList)
}

func (p pki) crl(t testing.TB, c crl) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(c.number), ThisUpdate: c.update, NextUpdate: c.update.AddDate(0, 0, 1)}
	add := func(serial uint32, reason int) {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(int64(serial)), RevocationTime: c.update, ReasonCode: reason,
		})
	}
	for _, s := range c.revoked {
		add(s, 0)
	}
	for _, s := range c.held {
		add(s, certificateHold)
	}
	if c.point != nil {
		list.ExtraExtensions = append(list.ExtraExtensions, pkix.Extension{
			Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: tlv(0x30, tlv(0xA0, tlv(0xA0, c.point))),
		})
	}
	if c.change != nil {
		c.change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, p.CACertificate(), p.key)
	must(t, err)
	return der
}

// tlv is a DER object of up to 64 KiB.
func tlv(tag byte, content []byte) []byte {
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}
