package enrol

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func certificate(t *testing.T, key ed25519.PrivateKey, from, to time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func identity(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func anEnrolment(t *testing.T, c *x509.Certificate) Enrolment {
	return Enrolment{
		Hub: Hub{Version: 1, Name: "Arena", HTTPS: "https://hub.example.jp:8443", NATS: []string{"tls://hub.example.jp:4222"}, Scope: "arena", Terminal: "gate-1",
			AckKeys: [][]byte{{1}}, Trust: Trust{Lists: [][]byte{{2}, {3}}, Leases: [][]byte{{4}}}},
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), Certificate: c,
	}
}

func TestEnrolmentIsReadAsItWasKept(t *testing.T) {
	state, key := t.TempDir(), identity(t)
	if _, err := Read(state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
	c := certificate(t, key, time.Now(), time.Now().Add(time.Hour))
	kept := anEnrolment(t, c)
	if err := kept.Write(state); err != nil {
		t.Fatal(err)
	}
	got, err := Read(state)
	if err != nil {
		t.Fatal(err)
	}
	if got.Hub.Name != "Arena" || got.Hub.NATS[0] != kept.Hub.NATS[0] || string(got.Hub.AckKeys[0]) != "\x01" || string(got.Hub.Trust.Lists[1]) != "\x03" || !got.Certificate.Equal(c) {
		t.Errorf("read as %+v", got)
	}
	for _, path := range append(got.Hub.Trust.Files(state).Lists, got.Hub.Trust.Files(state).Leases...) {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	for name, bad := range map[string]string{
		"no JSON": "{", "a newer version": `{"version":2,"https":"https://h","scope":"a","terminal":"b"}`, "no names": `{"version":1,"https":"https://h"}`,
		"plain http": `{"version":1,"https":"http://h","scope":"a","terminal":"b"}`, "a threshold of none": `{"version":1,"https":"https://h","scope":"a","terminal":"b","trust":{"root_keys":["AA=="]}}`,
	} {
		if err := os.WriteFile(filepath.Join(state, Folder, HubFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(state); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A certificate is shown to the hub alone, as long as it is in force and for this key.
func TestCertificateIsShownToItsHubAlone(t *testing.T) {
	state, key := t.TempDir(), identity(t)
	asks := func(authorities ...[]byte) *tls.CertificateRequestInfo {
		return &tls.CertificateRequestInfo{AcceptableCAs: authorities, SignatureSchemes: []tls.SignatureScheme{tls.Ed25519}, Version: tls.VersionTLS13}
	}
	credential := Credential{State: state, Signer: key}
	shown := func(c Credential, info *tls.CertificateRequestInfo) bool {
		t.Helper()
		got, err := c.ForTLS(info)
		if err != nil {
			t.Fatal(err)
		}
		return len(got.Certificate) > 0
	}
	if shown(credential, asks()) {
		t.Error("a certificate is shown before there is one")
	}
	c := certificate(t, key, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err := anEnrolment(t, c).Write(state); err != nil {
		t.Fatal(err)
	}
	if !shown(credential, asks(c.RawIssuer)) {
		t.Error("it is not shown to the hub")
	}
	if shown(credential, asks([]byte("somebody else"))) {
		t.Error("it is shown to somebody else")
	}
	if _, err := (Credential{State: state, Signer: identity(t)}).ForTLS(asks(c.RawIssuer)); !errors.Is(err, ErrOtherKey) {
		t.Errorf("a certificate of another key: %v", err)
	}
	ended := certificate(t, key, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	if err := anEnrolment(t, ended).Write(state); err != nil {
		t.Fatal(err)
	}
	if shown(credential, asks(ended.RawIssuer)) {
		t.Error("it is shown after its end")
	}
	credential.Ended = true
	if !shown(credential, asks(ended.RawIssuer)) {
		t.Error("it is not shown to be renewed")
	}
}

func TestCertificateIsRenewedAtTwoThirds(t *testing.T) {
	at := time.Unix(1800000000, 0)
	if got := RenewAt(&x509.Certificate{NotBefore: at, NotAfter: at.Add(30 * time.Hour)}); !got.Equal(at.Add(20 * time.Hour)) {
		t.Errorf("renewed at %v", got)
	}
}
