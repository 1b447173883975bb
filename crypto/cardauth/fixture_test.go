package cardauth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const cardDir = "../../testdata/cards"

// at is an instant at which the valid certificates of testdata/cards are valid.
var at = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func image(t testing.TB, name string) *vcard.Image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cardDir, name))
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// certificates gives the authentication certificates of the images in testdata/cards.
func certificates(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cardDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]byte)
	for _, file := range files {
		name := filepath.Base(file)
		if name == "authority.json" || name == "foreign-authority.json" {
			continue
		}
		if der := image(t, name).AuthenticationCertificate(); der != nil { // not every medium has one
			found[name] = der
		}
	}
	if found["good.json"] == nil {
		t.Fatalf("no card images in %s", cardDir)
	}
	return found
}

// An authority is a hierarchy with its private keys, so that a test can issue
// what an honest authority would not.
type authority struct {
	ca           *x509.Certificate
	caKey        *rsa.PrivateKey
	intermediate *rsa.PrivateKey
	root         *rsa.PrivateKey
	surface      *rsa.PrivateKey // certifies the key that signs age records,
	record       *rsa.PrivateKey // which is this one
}

func loadAuthority(t testing.TB, name string) authority {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cardDir, name))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		CA           []byte `json:"ca_certificate"`
		CAKey        []byte `json:"ca_key"`
		Root         []byte `json:"terminal_root_key"`
		Intermediate []byte `json:"intermediate_key"`
		Surface      []byte `json:"surface_ca_key"`
		Record       []byte `json:"record_key"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	return authority{ca, rsaKey(t, f.CAKey), rsaKey(t, f.Intermediate), rsaKey(t, f.Root), rsaKey(t, f.Surface), rsaKey(t, f.Record)}
}

// surfaceAuthorities is what a terminal that accepts a's cards is told.
func (a authority) surfaceAuthorities(t testing.TB) []cardauth.CVAuthority {
	t.Helper()
	key, err := cardkey.New(&a.surface.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return []cardauth.CVAuthority{{ID: cardauth.CVKeyID([]byte("6000023\x08\x05001\x00\x00\x00\x00")), Key: key}}
}

func rsaKey(t testing.TB, pkcs8 []byte) *rsa.PrivateKey {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

// terminalKey is a key of its own, which no certificate of a card has.
func terminalKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cardDir, "terminal.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatal("terminal.pem is no PEM file")
	}
	return rsaKey(t, block.Bytes)
}

var weakKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	return key
})

// issue makes a certificate that is in order, unless change says otherwise.
func (a authority) issue(t testing.TB, key any, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x12345678),
		Subject:      pkix.Name{Country: []string{"JP"}, CommonName: "1TEST000000000000000001"},
		NotBefore:    at.AddDate(-1, 0, 0),
		NotAfter:     at.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, key, a.caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// selfSigned makes an anchor with the authority's name and key that is in
// order, unless change says otherwise.
func (a authority) selfSigned(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		RawSubject:            a.ca.RawSubject,
		NotBefore:             a.ca.NotBefore,
		NotAfter:              a.ca.NotAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.caKey.PublicKey, a.caKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// sharedCAs gives the real J-LIS certificates by file name. They are not part
// of the repository.
func sharedCAs(t testing.TB) map[string]*x509.Certificate {
	t.Helper()
	dir := os.Getenv("GATE_SHARED_DATA")
	if dir == "" {
		const msg = "GATE_SHARED_DATA is not set: no J-LIS certificates to test with"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	files, err := filepath.Glob(filepath.Join(dir, "jpki-ca", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Fatalf("%d J-LIS certificates in %s, want two generations", len(files), dir)
	}
	found := make(map[string]*x509.Certificate)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			t.Fatalf("%s is no PEM file", file)
		}
		if found[filepath.Base(file)], err = x509.ParseCertificate(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	return found
}
