package perso_test

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

func TestTwinHasACertificateOfItsOwn(t *testing.T) {
	a, err := perso.NewAuthority(nil, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	for kind, ca := range map[vcard.Kind]*x509.Certificate{vcard.KindCard: a.CACertificate(), vcard.KindSIM: a.SIMCACertificate()} {
		card, err := a.Card(perso.CardOptions{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		before := card.AuthenticationCertificate()
		twin, err := a.Twin(card, 0x40000001, "TEST0000000000000000001")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(card.AuthenticationCertificate(), before) || bytes.Equal(twin.AuthenticationCertificate()[:256], before[:256]) {
			t.Errorf("%s: the two have one certificate", kind)
		}
		cert, err := x509.ParseCertificate(twin.AuthenticationCertificate())
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(ca); err != nil || cert.Subject.CommonName != "TEST0000000000000000001" {
			t.Errorf("%s: %s, %v", kind, cert.Subject, err)
		}
		if _, err := twin.Encode(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if card, err := a.Card(perso.CardOptions{Kind: vcard.KindJuki}); err != nil {
		t.Fatal(err)
	} else if _, err := a.Twin(card, 1, "TEST0000000000000000001"); err == nil {
		t.Error("a card without a certificate has a twin")
	}
}
