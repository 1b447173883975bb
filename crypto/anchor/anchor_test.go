package anchor

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// jpki reads the two public J-LIS certificates, PEM.
func jpki(t *testing.T) (ca2015, ca2023 []byte) {
	t.Helper()
	dir := os.Getenv("GATE_SHARED_DATA")
	if dir == "" {
		const msg = "GATE_SHARED_DATA is not set: no J-LIS certificates to test with"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	var out [2][]byte
	for i, name := range []string{"auth_ca_2015.pem", "auth_ca_2023.pem"} {
		var err error
		if out[i], err = os.ReadFile(filepath.Join(dir, "jpki-ca", name)); err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}

// testCA makes a CA certificate that carries the name of the real one; edit
// may spoil it. A nil key means a new P-256 key.
func testCA(t testing.TB, key crypto.Signer, edit func(*x509.Certificate)) []byte {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject: pkix.Name{Country: []string{"JP"}, Organization: []string{"JPKI"}, OrganizationalUnit: []string{
			"JPKI for user authentication", "Japan Agency for Local Authority Information Systems"}},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRealCertificatesMatchTheirPins(t *testing.T) {
	pem2015, pem2023 := jpki(t)
	s, err := Load(Production, nil, pem2015, pem2023)
	if err != nil {
		t.Fatal(err)
	}
	certs := s.Certificates()
	if len(certs) != 2 || s.Hierarchy() != Production {
		t.Fatalf("%d certificates of %v, want 2 of production", len(certs), s.Hierarchy())
	}
	for i, serial := range []int64{0x01, 0x06D18006} {
		if certs[i].SerialNumber.Cmp(big.NewInt(serial)) != 0 {
			t.Errorf("certificate %d has serial %X, want %X", i, certs[i].SerialNumber, serial)
		}
		if sha256.Sum256(certs[i].Raw) != builtin()[i] {
			t.Errorf("certificate %d does not match pin %d", i, i)
		}
	}
}

// The name says nothing about the generation; the signature does.
func TestGenerationsAreToldApartBySignature(t *testing.T) {
	pem2015, pem2023 := jpki(t)
	s, err := Load(Production, nil, append(pem2015, pem2023...))
	if err != nil {
		t.Fatal(err)
	}
	certs := s.Certificates()
	if len(certs) != 2 {
		t.Fatalf("%d certificates, want 2", len(certs))
	}
	if !bytes.Equal(certs[0].RawSubject, certs[1].RawSubject) {
		t.Error("the names differ; the rest of this test has lost its point")
	}
	if certs[0].PublicKey.(*rsa.PublicKey).Equal(certs[1].PublicKey) {
		t.Error("the keys are equal")
	}
	for i, cert := range certs {
		for j, issuer := range certs {
			if err := cert.CheckSignatureFrom(issuer); (err == nil) != (i == j) {
				t.Errorf("certificate %d verified with the key of %d: %v", i, j, err)
			}
		}
	}
}

func TestRealCertificateIsLearnedFromACard(t *testing.T) {
	pem2015, pem2023 := jpki(t)
	s, err := Load(Production, nil, pem2015)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pem2023)
	for range 2 { // the second card brings nothing new
		if s, err = s.Learn(block.Bytes); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Certificates()); n != 2 {
			t.Fatalf("%d certificates, want 2", n)
		}
	}
}

func TestProductionCertificateIsRefusedInTestMode(t *testing.T) {
	pem2015, _ := jpki(t)
	if _, err := Load(Test, nil, testCA(t, nil, nil), pem2015); !errors.Is(err, ErrProduction) {
		t.Errorf("got %v, want ErrProduction", err)
	}
}

func TestTestAnchorIsRefusedInProduction(t *testing.T) {
	der := testCA(t, nil, nil)
	_, err := Load(Production, nil, der)
	if !errors.Is(err, ErrNotPinned) {
		t.Fatalf("got %v, want ErrNotPinned", err)
	}
	if want := fmt.Sprintf("%X", sha256.Sum256(der)); !strings.Contains(err.Error(), want) {
		t.Errorf("error does not give the digest to compare: %v", err)
	}
	s, err := Load(Production, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Learn(der); !errors.Is(err, ErrNotPinned) || len(got.Certificates()) != 0 {
		t.Errorf("from a card: %d certificates, %v; want none, ErrNotPinned", len(got.Certificates()), err)
	}
}

func TestUnsetHierarchyTrustsNoTestAnchor(t *testing.T) {
	var h Hierarchy
	if _, err := Load(h, nil, testCA(t, nil, nil)); !errors.Is(err, ErrNotPinned) {
		t.Errorf("got %v, want ErrNotPinned", err)
	}
	var s Set
	if _, err := s.Learn(testCA(t, nil, nil)); !errors.Is(err, ErrNotPinned) {
		t.Errorf("zero set learned: %v, want ErrNotPinned", err)
	}
	if _, err := Load(Hierarchy(2), nil, testCA(t, nil, nil)); err == nil {
		t.Error("an unknown hierarchy loads")
	}
}

func TestExtraPinIsAProductionPin(t *testing.T) {
	der := testCA(t, nil, nil)
	pin := []Pin{sha256.Sum256(der)}
	if s, err := Load(Production, pin, der); err != nil || len(s.Certificates()) != 1 {
		t.Errorf("production: %d certificates, %v", len(s.Certificates()), err)
	}
	if _, err := Load(Test, pin, der); !errors.Is(err, ErrProduction) {
		t.Errorf("test: %v, want ErrProduction", err)
	}
}

func TestTestTerminalLearnsNothingFromCards(t *testing.T) {
	s, err := Load(Test, nil, testCA(t, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Learn(testCA(t, nil, nil)); err == nil || len(got.Certificates()) != 1 {
		t.Errorf("%d certificates, %v; want 1 and an error", len(got.Certificates()), err)
	}
	if _, err := Load(Test, nil); err == nil {
		t.Error("a test set without anchors loads, though it can never verify anything")
	}
}

func TestSetsDoNotChange(t *testing.T) {
	a, b, c := testCA(t, nil, nil), testCA(t, nil, nil), testCA(t, nil, nil)
	base, err := Load(Production, []Pin{sha256.Sum256(a), sha256.Sum256(b), sha256.Sum256(c)}, a)
	if err != nil {
		t.Fatal(err)
	}
	with := func(der []byte) Set {
		s, err := base.Learn(der)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	withB, withC := with(b), with(c)
	if !bytes.Equal(withB.Certificates()[1].Raw, b) || !bytes.Equal(withC.Certificates()[1].Raw, c) || len(base.Certificates()) != 1 {
		t.Error("learning in one set changed another")
	}
	withB.Certificates()[0] = nil
	if withB.Certificates()[0] == nil {
		t.Error("a caller can change the set")
	}
}

func TestUnfitAnchorIsRefused(t *testing.T) {
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		der        []byte
	}{
		{"leaf", "not a CA", testCA(t, nil, func(c *x509.Certificate) { c.IsCA = false })},
		{"no basic constraints", "not a CA", testCA(t, nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false })},
		{"no keyCertSign", "keyCertSign", testCA(t, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })},
		{"no key usage", "keyCertSign", testCA(t, nil, func(c *x509.Certificate) { c.KeyUsage = 0 })},
		{"short RSA key", "1024 bits", testCA(t, rsa1024, nil)},
		{"other curve", "P-521", testCA(t, p521, nil)},
		{"other algorithm", "Ed25519", testCA(t, ed, nil)},
		{"filler behind", "trailing", append(testCA(t, nil, nil), 0)},
		{"empty", "", nil},
	} {
		for _, h := range []Hierarchy{Production, Test} { // a pin excuses nothing
			var pins []Pin
			if h == Production {
				pins = []Pin{sha256.Sum256(tc.der)}
			}
			if _, err := Load(h, pins, tc.der); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s, %v: %v, want an error with %q", tc.name, h, err, tc.want)
			}
		}
	}
}

func TestFilesHoldCertificatesOnly(t *testing.T) {
	block := func(typ string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: testCA(t, nil, nil)})
	}
	cert := block("CERTIFICATE")
	if s, err := Load(Test, nil, append([]byte("subject=C = JP\n"), cert...)); err != nil || len(s.Certificates()) != 1 {
		t.Errorf("text before a block, as openssl writes it: %v", err)
	}
	for name, file := range map[string][]byte{
		"private key":   append(bytes.Clone(cert), block("PRIVATE KEY")...),
		"damaged block": append(bytes.Clone(cert), cert[:len(cert)/2]...),
		"half a block":  cert[:len(cert)/2],
		"too large":     bytes.Repeat([]byte("x"), 64<<10+1),
	} {
		if _, err := Load(Test, nil, file); err == nil {
			t.Errorf("%s: loads", name)
		}
	}
}

func TestHierarchyNames(t *testing.T) {
	for _, h := range []Hierarchy{Production, Test} {
		text, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		got := Hierarchy(9)
		if err := got.UnmarshalText(text); err != nil || got != h {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	var h Hierarchy
	if err := h.UnmarshalText([]byte("Test")); err == nil {
		t.Error("an unknown name is accepted")
	}
}

// Property: a production set only ever holds certificates whose digest is a pin.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	der := testCA(f, nil, nil)
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.Fuzz(func(t *testing.T, file []byte) {
		if s, err := Load(Production, nil, file); err == nil && len(s.Certificates()) > 0 {
			for _, c := range s.Certificates() {
				if pin := sha256.Sum256(c.Raw); pin != builtin()[0] && pin != builtin()[1] {
					t.Fatalf("accepted %X", pin)
				}
			}
		}
		_, _ = Load(Test, nil, file) // must not panic
	})
}
