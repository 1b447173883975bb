package cardauth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// verify parses the head of der and verifies der under the anchors.
func verify(t *testing.T, der []byte, at time.Time, anchors ...*x509.Certificate) (cardkey.Key, error) {
	t.Helper()
	head, err := cardauth.ParseHead(der)
	if err != nil {
		t.Fatal(err)
	}
	return cardauth.VerifyCertificate(head, der, anchors, at)
}

func TestCertificateGivesItsKey(t *testing.T) {
	ours, foreign := loadAuthority(t, "authority.json"), loadAuthority(t, "foreign-authority.json")
	img := image(t, "good.json")
	key, err := verify(t, img.AuthenticationCertificate(), at, foreign.ca, ours.ca)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(cardKey(t, img.AuthenticationKey())) {
		t.Error("another key than the card has")
	}
}

// All generations of the authority have one name; the signature tells them
// apart. So does it tell a stranger who took that name.
func TestIssuerIsFoundBySignatureNotByName(t *testing.T) {
	ours, foreign := loadAuthority(t, "authority.json"), loadAuthority(t, "foreign-authority.json")
	if !bytes.Equal(ours.ca.RawSubject, foreign.ca.RawSubject) {
		t.Fatal("the two authorities have different names")
	}
	for _, c := range []struct {
		image   string
		anchors []*x509.Certificate
		want    error
	}{
		{"good.json", []*x509.Certificate{ours.ca}, nil},
		{"good.json", []*x509.Certificate{foreign.ca, ours.ca}, nil},
		{"forged.json", []*x509.Certificate{foreign.ca}, nil},
		{"forged.json", []*x509.Certificate{ours.ca}, cardauth.ErrUntrusted},
		{"good.json", []*x509.Certificate{foreign.ca}, cardauth.ErrUntrusted},
		{"good.json", nil, cardauth.ErrUntrusted},
	} {
		key, err := verify(t, image(t, c.image).AuthenticationCertificate(), at, c.anchors...)
		if !errors.Is(err, c.want) || (err != nil) != key.IsZero() {
			t.Errorf("%s under %d anchors: error %v, want %v", c.image, len(c.anchors), err, c.want)
		}
	}
}

// One certificate has one encoding: its outer length is part of the head, which
// names the credential, and no signature covers it.
func TestCertificateHasOneEncoding(t *testing.T) {
	ours := loadAuthority(t, "authority.json")
	good := image(t, "good.json").AuthenticationCertificate()
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(good, &outer); err != nil {
		t.Fatal(err)
	}
	longer := func(more []byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(bytes.Clone(outer.Bytes), more...)})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, err := verify(t, longer(nil), at, ours.ca); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]byte{
		"an object behind the signature": {0x04, 0x02, 0x00, 0x00},
		"a second signature":             good[len(good)-261:],
		"a stray byte":                   {0x00},
	} {
		if _, err := verify(t, longer(more), at, ours.ca); !errors.Is(err, cardauth.ErrUntrusted) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A signature that begins with a zero bit can be written one bit further left,
// with one bit that does not count.
func TestShiftedSignatureIsNoFurtherCertificate(t *testing.T) {
	ours := loadAuthority(t, "authority.json")
	for serial := int64(1); ; serial++ {
		der := ours.issue(t, &terminalKey(t).PublicKey, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) })
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Signature[0]&0x80 != 0 {
			continue
		}
		shifted := bytes.Clone(der)
		s := new(big.Int).SetBytes(leaf.Signature)
		s.Lsh(s, 1).FillBytes(shifted[len(der)-256:])
		shifted[len(der)-257] = 1 // unused bits
		if again, err := x509.ParseCertificate(shifted); err != nil || !bytes.Equal(again.Signature, leaf.Signature) {
			t.Fatalf("crypto/x509 reads another signature (%v): the test has lost its subject", err)
		}
		if _, err := verify(t, der, at, ours.ca); err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, shifted, at, ours.ca); !errors.Is(err, cardauth.ErrUntrusted) {
			t.Errorf("error %v", err)
		}
		return
	}
}

func TestRealAuthoritiesShareANameAndTrustNobodyElse(t *testing.T) {
	var anchors []*x509.Certificate
	for _, ca := range sharedCAs(t) {
		anchors = append(anchors, ca)
	}
	test := image(t, "good.json").AuthenticationCertificate()
	leaf, err := x509.ParseCertificate(test)
	if err != nil {
		t.Fatal(err)
	}
	for i, ca := range anchors {
		if !bytes.Equal(ca.RawSubject, leaf.RawIssuer) {
			t.Error("a generation has another name than the test hierarchy")
		}
		for j, other := range anchors {
			if signed := ca.CheckSignatureFrom(other) == nil; signed != (i == j) {
				t.Errorf("certificate %d signed by the key of %d: %v", i, j, signed)
			}
		}
		// An authority is nobody's card.
		if _, err := verify(t, ca.Raw, ca.NotBefore, anchors...); !errors.Is(err, cardauth.ErrUntrusted) {
			t.Errorf("certificate %d as a card's: error %v", i, err)
		}
	}
	if _, err := verify(t, test, at, anchors...); !errors.Is(err, cardauth.ErrUntrusted) {
		t.Errorf("a certificate of the test hierarchy: error %v", err)
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	key := &terminalKey(t).PublicKey
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		key    any
		change func(*x509.Certificate)
		want   error
	}{
		{"in order", key, nil, nil},
		{"expired", key, func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Second) }, cardauth.ErrExpired},
		{"not yet valid", key, func(c *x509.Certificate) { c.NotBefore = at.Add(time.Second) }, cardauth.ErrExpired},
		{"valid from this second", key, func(c *x509.Certificate) { c.NotBefore = at }, nil},
		{"valid to this second", key, func(c *x509.Certificate) { c.NotAfter = at }, nil},
		{"an authority", key, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, cardauth.ErrUntrusted},
		{"no key usage", key, func(c *x509.Certificate) { c.KeyUsage = 0 }, cardauth.ErrUntrusted},
		{"for non-repudiation alone", key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, cardauth.ErrUntrusted},
		{"extended key usage", key, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 392, 1}}
		}, nil},
		{"unknown extension", key, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 392, 2}, Value: []byte{5, 0}}}
		}, nil},
		{"unknown critical extension", key, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 392, 2}, Critical: true, Value: []byte{5, 0}}}
		}, cardauth.ErrUntrusted},
		{"RSA of 1024 bits", &weakKey().PublicKey, nil, cardauth.ErrUntrusted},
		{"RSA with exponent 3", &rsa.PublicKey{N: key.N, E: 3}, nil, cardauth.ErrUntrusted},
		{"RSA of 4096 bits", &rsa.PublicKey{N: new(big.Int).Lsh(key.N, 2048), E: 65537}, nil, cardauth.ErrUntrusted},
		{"ECDSA on P-256", &p256.PublicKey, nil, cardauth.ErrUntrusted},
		{"ECDSA on P-384", &p384.PublicKey, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := verify(t, a.issue(t, c.key, c.change), at, a.ca)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if got.IsZero() != (c.want != nil) {
				t.Errorf("key %v", got)
			}
		})
	}
}

func TestCertificateMustContinueItsHead(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	good := image(t, "good.json").AuthenticationCertificate()
	other := image(t, "sim.json").AuthenticationCertificate()
	head, err := cardauth.ParseHead(good)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name string
		head cardauth.Head
		der  []byte
		want error
	}{
		{"another certificate of the same authority", head, other, cardauth.ErrNotGenuine},
		{"the zero head", cardauth.Head{}, good, cardauth.ErrNotGenuine},
		{"the head alone", head, head.Bytes(), cardauth.ErrUntrusted},
		{"a byte short", head, good[:len(good)-1], cardauth.ErrUntrusted},
		{"trailing bytes", head, append(bytes.Clone(good), 0), cardauth.ErrUntrusted},
		{"a changed signature", head, flipped, cardauth.ErrUntrusted},
	} {
		if key, err := cardauth.VerifyCertificate(c.head, c.der, []*x509.Certificate{a.ca}, at); !errors.Is(err, c.want) || !key.IsZero() {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
}

func TestAnchorsThatCertifyNothing(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	good := image(t, "good.json").AuthenticationCertificate()
	expired := a.selfSigned(t, func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Second) })
	renewed := a.selfSigned(t, nil)
	for _, c := range []struct {
		name    string
		anchors []*x509.Certificate
		want    error
	}{
		{"in order", []*x509.Certificate{renewed}, nil},
		{"expired", []*x509.Certificate{expired}, cardauth.ErrUntrusted},
		{"expired, and certified anew for the same key", []*x509.Certificate{expired, renewed}, nil},
		{"not yet valid", []*x509.Certificate{a.selfSigned(t, func(c *x509.Certificate) { c.NotBefore = at.Add(time.Second) })}, cardauth.ErrUntrusted},
		{"no basic constraints", []*x509.Certificate{a.selfSigned(t, func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = false, false
		})}, cardauth.ErrUntrusted},
		{"no authority by its basic constraints", []*x509.Certificate{a.selfSigned(t, func(c *x509.Certificate) { c.IsCA = false })}, cardauth.ErrUntrusted},
		{"key usage without certificate signing", []*x509.Certificate{a.selfSigned(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })}, cardauth.ErrUntrusted},
		{"no key usage", []*x509.Certificate{a.selfSigned(t, func(c *x509.Certificate) { c.KeyUsage = 0 })}, cardauth.ErrUntrusted},
		{"another name for the same key", []*x509.Certificate{a.selfSigned(t, func(c *x509.Certificate) {
			c.RawSubject, c.Subject = nil, pkix.Name{CommonName: "somebody"}
		})}, cardauth.ErrUntrusted},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := verify(t, good, at, c.anchors...); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}
