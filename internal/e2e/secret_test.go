package e2e

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
)

// A secret is what no log may say: its name, and the text.
type secret struct{ what, text string }

// secrets are those of the town: whatever names a card or a person, and the
// scope key.
var secrets = sync.OnceValue(func() []secret {
	w, err := makeTown()
	if err != nil {
		return nil
	}
	all := []secret{
		{"a birth date", "19900401"}, {"a birth date", "1990-04-01"},
		{"a PIN", "ABC123"}, {"a security code", "123456789012"},
	}
	add := func(what string, texts ...string) {
		for _, text := range texts {
			all = append(all, secret{what, text})
		}
	}
	bytes := func(what string, b []byte) {
		add(what, hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), fmt.Sprint(b))
	}
	key := func(what string, public any) {
		if k, ok := public.(*rsa.PublicKey); ok {
			add(what, k.N.Text(16)[:32], k.N.String()[:32], base64.StdEncoding.EncodeToString(k.N.Bytes())[:32])
		}
	}
	for _, p := range w.people {
		der := p.Image.AuthenticationCertificate()
		if der == nil {
			continue // a medium that has none
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err) // the town made it
		}
		head, err := cardauth.ParseHead(der)
		if err != nil {
			panic(err)
		}
		add("a certificate's serial number", certificate.SerialNumber.String(), certificate.SerialNumber.Text(16))
		add("a certificate's subject", certificate.Subject.CommonName)
		key("a card's modulus", p.Image.CardKey())
		key("a card's modulus", p.Image.AuthenticationKey())
		id := w.ScopeKey.ID(head.Bytes())
		bytes("a CardID", id[:])
	}
	for _, r := range w.rows {
		add("an entitlement", r.Row.Entitlements[0].ID)
	}
	bytes("the scope key", w.ScopeSecret)
	bytes("the terminal's private key", w.TerminalKey.D.Bytes()[:32])
	return all
})

// spilt finds the first secret of town or terminal that a text tells.
func spilt(s site, text string) (what string, found bool) {
	lower := strings.ToLower(text)
	all := secrets()
	if b, err := os.ReadFile(s.path("key-source")); err == nil {
		all = append(all[:len(all):len(all)], secret{"the key source", strings.TrimSpace(string(b))})
	}
	for _, secret := range all {
		if strings.Contains(lower, strings.ToLower(secret.text)) {
			return secret.what, true
		}
	}
	return "", false
}

// keepsSecrets fails the test when a text for operators tells a secret.
func keepsSecrets(t testing.TB, s site, text string) {
	t.Helper()
	if what, found := spilt(s, text); found {
		t.Errorf("%s is in:\n%s", what, text)
	}
}

// The scan of all the other tests must be able to fail.
func TestSpiltSecretsAreFound(t *testing.T) {
	t.Parallel()
	w := theTown(t)
	s := install(t, shortDir(t))
	source, err := os.ReadFile(s.path("key-source"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(w.alice(t).AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprintf("serial %X", certificate.SerialNumber), "subject " + certificate.Subject.String(), "for ticket-alice",
		string(source), fmt.Sprintf("%x", w.ScopeSecret), fmt.Sprint(w.bob(t).CardKey()), "born 1990-04-01",
	} {
		if _, found := spilt(s, text); !found {
			t.Errorf("nobody minds %q", text)
		}
	}
	if what, found := spilt(s, `{"msg":"tap","verdict":"admit","elapsed_ms":41}`); found {
		t.Errorf("%s is found where it is not", what)
	}
}
