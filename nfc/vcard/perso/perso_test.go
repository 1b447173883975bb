package perso

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const cardDir = "../../../testdata/cards"

var day = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func authority(t *testing.T, name string) *Authority {
	t.Helper()
	a, err := ParseAuthority(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func image(t *testing.T, name string) *vcard.Image {
	t.Helper()
	img, err := vcard.ParseImage(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cardDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keysOf gives the options of a card that has the keys of img.
func keysOf(img *vcard.Image) CardOptions {
	opt := CardOptions{AuthenticationKey: img.Application(vcard.AIDJPKI()).Keys[0].Private.Signer}
	if surface := img.Application(vcard.AIDSurface()); surface != nil {
		opt.CardKey = surface.InternalKey.Signer
	}
	return opt
}

// equal reports whether two public keys are the same.
func equal(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

func makeCard(t *testing.T, a *Authority, opt CardOptions) *vcard.Image {
	t.Helper()
	img, err := a.Card(opt)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func verify(t *testing.T, a *Authority, img *vcard.Image, at time.Time) error {
	t.Helper()
	return verifyUnder(t, a.CACertificate(), img, at)
}

func verifyUnder(t *testing.T, ca *x509.Certificate, img *vcard.Image, at time.Time) error {
	t.Helper()
	leaf, err := x509.ParseCertificate(img.AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// The head that a terminal reads ends where the public key begins (card-facts
// §5), and the whole certificate is as long as the one §8 measures with.
func TestLeafHasTheLayoutOfCardFacts(t *testing.T) {
	a := authority(t, "authority.json")
	img := makeCard(t, a, keysOf(image(t, "good.json")))
	der := img.AuthenticationCertificate()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Index(der, leaf.RawSubjectPublicKeyInfo); got != 248 {
		t.Errorf("public key begins at byte %d, want 248", got)
	}
	if len(der) != 1583 {
		t.Errorf("certificate is %d bytes, want 1583", len(der))
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("key usage %v, algorithm %v", leaf.KeyUsage, leaf.SignatureAlgorithm)
	}
	if len(leaf.PolicyIdentifiers) != 1 || !leaf.PolicyIdentifiers[0].Equal(oidPolicy) {
		t.Errorf("policies %v", leaf.PolicyIdentifiers)
	}
	if len(leaf.CRLDistributionPoints) != 0 {
		t.Errorf("a URL for revocation: %v", leaf.CRLDistributionPoints)
	}
	if !equal(img.AuthenticationKey(), leaf.PublicKey) {
		t.Error("certificate and key EF do not belong together")
	}
}

func TestCertificateChainsToItsOwnAuthorityOnly(t *testing.T) {
	ours, foreign := authority(t, "authority.json"), authority(t, "foreign-authority.json")
	if !bytes.Equal(ours.CACertificate().RawSubject, foreign.CACertificate().RawSubject) {
		t.Fatal("the two authorities have different names")
	}
	img := image(t, "good.json")
	if err := verify(t, ours, img, day); err != nil {
		t.Error(err)
	}
	if err := verify(t, foreign, img, day); err == nil {
		t.Error("verifies under another authority of the same name")
	}
	var invalid x509.CertificateInvalidError
	if err := verify(t, ours, image(t, "expired.json"), day); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("expired certificate: %v", err)
	}
}

// TestCANameIsThatOfTheRealCA compares with the certificates that are not part
// of this project (card-facts §7).
func TestCANameIsThatOfTheRealCA(t *testing.T) {
	shared := os.Getenv("GATE_SHARED_DATA")
	if shared == "" {
		t.Skip("GATE_SHARED_DATA is not set: no J-LIS certificate to compare with")
	}
	b, err := os.ReadFile(filepath.Join(shared, "jpki-ca", "auth_ca_2023.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatal("no PEM in the certificate file")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(cert.RawSubject, userCAName) {
		t.Errorf("name is %X, want %X", userCAName, cert.RawSubject)
	}
}

func TestForgedCertificateHasTheHeadOfItsVictim(t *testing.T) {
	ours, foreign := authority(t, "authority.json"), authority(t, "foreign-authority.json")
	victim := image(t, "good.json")
	forged, err := foreign.Forge(victim, keysOf(image(t, "forged.json")))
	if err != nil {
		t.Fatal(err)
	}
	a, b := victim.AuthenticationCertificate(), forged.AuthenticationCertificate()
	// Up to the modulus, 33 bytes into the SubjectPublicKeyInfo.
	if n := 248 + 33; !bytes.Equal(a[:n], b[:n]) {
		t.Error("the heads differ")
	}
	if equal(forged.AuthenticationKey(), victim.AuthenticationKey()) || equal(forged.CardKey(), victim.CardKey()) {
		t.Error("a key is the victim's")
	}
	if verify(t, ours, forged, day) == nil {
		t.Error("our authority vouches for a forgery")
	}
	if err := verify(t, foreign, forged, day); err != nil {
		t.Error(err)
	}
	id := vcard.FileID(0x0016)
	if !bytes.Equal(forged.Application(vcard.AIDJPKI()).File(id).Content, victim.Application(vcard.AIDJPKI()).File(id).Content) {
		t.Error("our terminals cannot authenticate themselves to the forgery")
	}
}

func TestCopiedCardHasTheFilesAndNotTheKeys(t *testing.T) {
	victim := image(t, "good.json")
	other := keysOf(image(t, "forged.json"))
	copied, err := Copy(victim, other.AuthenticationKey, other.CardKey)
	if err != nil {
		t.Fatal(err)
	}
	for i, app := range victim.Applications {
		for _, f := range app.Files {
			if !bytes.Equal(copied.Applications[i].File(f.ID).Content, f.Content) {
				t.Errorf("%v differs", f.ID)
			}
		}
	}
	if equal(copied.AuthenticationKey(), victim.AuthenticationKey()) || equal(copied.CardKey(), victim.CardKey()) {
		t.Error("a key is the victim's")
	}
	if !equal(victim.AuthenticationKey(), image(t, "good.json").AuthenticationKey()) {
		t.Error("copying changed the victim")
	}
}

func TestTerminalCertificatesAreCardVerifiable(t *testing.T) {
	a := authority(t, "authority.json")
	pub := image(t, "good.json").CardKey().(*rsa.PublicKey) // any RSA-2048 key
	intermediate, terminal, err := a.TerminalCertificates(pub)
	if err != nil {
		t.Fatal(err)
	}
	checkCV(t, intermediate, &a.terminalRoot.PublicKey, terminalRootID, intermediateID, &a.intermediate.PublicKey)
	checkCV(t, terminal, &a.intermediate.PublicKey, intermediateID, terminalID, pub)
	small := &rsa.PublicKey{N: pub.N, E: 3}
	if _, _, err := a.TerminalCertificates(small); err == nil {
		t.Error("an exponent that the encoding cannot carry was certified")
	}
}

// checkCV takes a certificate apart at the offsets of card-facts §4.
func checkCV(t *testing.T, cert []byte, issuerKey *rsa.PublicKey, issuer, subject keyID, pub *rsa.PublicKey) {
	t.Helper()
	if len(cert) != 568 {
		t.Fatalf("%d bytes, want 568", len(cert))
	}
	body, signature := cert[10:307], cert[312:]
	if got := string(cert[:10]) + string(cert[307:312]); got != "\x7F\x21\x82\x02\x33\x5F\x4E\x82\x01\x29\x5F\x37\x82\x01\x00" {
		t.Errorf("headers %X", got)
	}
	if !bytes.Equal(body[:16], issuer[:]) || !bytes.Equal(body[16:32], subject[:]) {
		t.Errorf("key ids %q", body[:32])
	}
	if string(body[32:41]) != "\x90\x03\x01\x00\x01\x91\x82\x01\x00" || !bytes.Equal(body[41:], pub.N.Bytes()) {
		t.Error("public key is encoded otherwise")
	}
	digest := sha256.Sum256(body)
	if err := rsa.VerifyPKCS1v15(issuerKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
}

func TestAgeRecordIsSignedByTheCertifiedKey(t *testing.T) {
	a, img := authority(t, "authority.json"), image(t, "good.json")
	surface := img.Application(vcard.AIDSurface())
	caID, caKey := a.SurfaceCA()
	if string(caID) != "6000023\x08\x05001\x00\x00\x00\x00" {
		t.Errorf("surface CA is %q", caID)
	}
	cert := surface.File(0x0004).Content
	checkCV(t, cert, caKey, keyID(caID), recordKeyID, &a.recordKey.PublicKey)

	record := surface.File(0x0001).Content
	if len(record) != 547 || string(record[:16]) != "\xFF\x10\x82\x02\x1E\xDF\x11\x0819900401" {
		t.Fatalf("record of %d bytes begins %X", len(record), record[:16])
	}
	if !bytes.Equal(record[30:286], img.CardKey().(*rsa.PublicKey).N.Bytes()) {
		t.Error("the record names another card key")
	}
	digest := sha256.Sum256(record[5:286])
	if err := rsa.VerifyPKCS1v15(&a.recordKey.PublicKey, crypto.SHA256, digest[:], record[291:]); err != nil {
		t.Error(err)
	}
}

func TestBirthDatePINFollowsTheEras(t *testing.T) {
	for date, want := range map[string]string{
		"1990-04-01": "020401", // Heisei 2
		"2019-05-01": "010501", // Reiwa 1
		"2019-04-30": "310430", // Heisei 31
		"1989-01-08": "010108", // Heisei 1
		"1989-01-07": "640107", // Showa 64
		"1926-12-25": "011225", // Showa 1
		"1926-12-24": "151224", // Taisho 15
		"1912-07-30": "010730", // Taisho 1
		"1912-07-29": "450729", // Meiji 45
		"1868-01-25": "010125", // Meiji 1
	} {
		birth, err := time.Parse(time.DateOnly, date)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := eraDate(birth); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", date, got, err, want)
		}
	}
	if _, err := eraDate(time.Date(1868, 1, 24, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a date before Meiji has an era")
	}
}

// Given the keys, cards depend on nothing but the options and Rand.
func TestPersonalisationIsDeterministic(t *testing.T) {
	a := authority(t, "authority.json")
	card := func(seed byte) []byte {
		opt := keysOf(image(t, "good.json"))
		opt.Rand = rand.NewChaCha8([32]byte{seed})
		b, err := makeCard(t, a, opt).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(card(1), card(1)) {
		t.Error("the same options give two cards")
	}
	if bytes.Equal(card(1), card(2)) {
		t.Error("the generator is not used")
	}
}

func TestNewAuthorityEncodesAndParses(t *testing.T) {
	a, err := NewAuthority(nil, day)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.CACertificate().CheckSignatureFrom(a.CACertificate()); err != nil {
		t.Error(err)
	}
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseAuthority(b)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := again.Encode(); err != nil || !bytes.Equal(c, b) {
		t.Errorf("parse then encode gives other bytes (%v)", err)
	}
	img := makeCard(t, again, CardOptions{}) // every default, fresh keys
	if err := verify(t, a, img, day); err != nil {
		t.Error(err)
	}
}

func TestBadAuthorityIsRefusedByName(t *testing.T) {
	b := read(t, "authority.json")
	foreign := authority(t, "foreign-authority.json")
	foreign.userCA.cert = authority(t, "authority.json").userCA.cert
	mixed, err := foreign.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file      []byte
		complaint string
	}{
		"format":         {bytes.Replace(b, []byte("v1"), []byte("v2"), 1), "format"},
		"unknown member": {bytes.Replace(b, []byte(`"format"`), []byte(`"colour": 1, "format"`), 1), `"colour"`},
		"missing key":    {bytes.Replace(b, []byte(`"record_key"`), []byte(`"surface_ca_key"`), 1), "record_key"},
		"another key":    {mixed, "ca_certificate"},
		"older version":  {regexp.MustCompile(`"sim_ca_certificate": "[^"]*",`).ReplaceAll(b, nil), "sim_ca_certificate: missing"},
		"two values":     {append(bytes.Clone(b), "{}"...), "after"},
	} {
		if _, err := ParseAuthority(c.file); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: error %v does not name %s", name, err, c.complaint)
		}
	}
}

// FuzzParseAuthority: what parses encodes, and parses again to the same bytes.
func FuzzParseAuthority(f *testing.F) {
	b, err := os.ReadFile(filepath.Join(cardDir, "authority.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format": "gate-agent test authority v1", "ca_key": null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAuthority(b)
		if err != nil {
			return
		}
		encoded, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseAuthority(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("encoding changed: %v", err)
		}
	})
}
