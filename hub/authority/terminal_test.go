package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"
)

func terminalOf(t *testing.T, a Authority, at time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Terminal(key.Public(), "an-id", at)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A terminal cannot stand in for the hub, nor the hub's server for a terminal.
func TestCertificateOfATerminalIsForNothingElse(t *testing.T) {
	a := create(t, "arena")
	c := terminalOf(t, a, now)
	if err := a.CheckTerminal(c, now, false); err != nil {
		t.Error(err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a terminal's certificate is good for a server")
	}
	path, _ := serve(t, a, hosts)
	block, _ := pem.Decode(read(t, path))
	server, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if a.CheckTerminal(server, now, true) == nil {
		t.Error("the server's certificate is good for a terminal")
	}
	if create(t, "arena").CheckTerminal(c, now, true) == nil {
		t.Error("another authority of the same name takes it")
	}
}

func TestCertificateThatHasEndedIsGoodForRenewalAlone(t *testing.T) {
	a, err := Create(t.TempDir(), "arena", now.AddDate(-3, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		age            time.Duration
		serves, renews bool
	}{{0, true, true}, {TerminalLasts - time.Second, true, true}, {TerminalLasts + 2*time.Second, false, true}, {200 * 24 * time.Hour, false, true}, {2 * 366 * 24 * time.Hour, false, false}} {
		leaf := terminalOf(t, a, now.Add(-c.age))
		if got := a.CheckTerminal(leaf, now, false) == nil; got != c.serves {
			t.Errorf("%v old: serves %v", c.age, got)
		}
		if got := a.CheckTerminal(leaf, now, true) == nil; got != c.renews {
			t.Errorf("%v old: renews %v", c.age, got)
		}
	}
}

func TestAuthorityIsMadeOnce(t *testing.T) {
	dir := t.TempDir() + "/tls"
	first, err := Need(dir, "arena", now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Need(dir, "arena", now)
	if err != nil || string(again.Root()) != string(first.Root()) {
		t.Errorf("another authority: %v", err)
	}
}
