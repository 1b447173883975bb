package cardauth_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
)

// checkHead compares ParseHead with crypto/x509.
func checkHead(t *testing.T, der []byte) {
	t.Helper()
	want, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.Index(der, want.RawSubjectPublicKeyInfo)
	if end < 0 {
		t.Fatal("certificate does not hold its public key")
	}
	head, err := cardauth.ParseHead(der)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(head.Bytes(), der[:end]) {
		t.Errorf("head is %X, want %X", head.Bytes(), der[:end])
	}
	if head.CertificateSize() != len(der) {
		t.Errorf("certificate of %d bytes, want %d", head.CertificateSize(), len(der))
	}
	if notBefore, notAfter := head.Validity(); !notBefore.Equal(want.NotBefore) || !notAfter.Equal(want.NotAfter) {
		t.Errorf("valid %v to %v, want %v to %v", notBefore, notAfter, want.NotBefore, want.NotAfter)
	}

	// Identifier and length octets of the public key tell that it has begun: four
	// of an RSA key, two of one on P-384.
	begun := end + 4
	if der[end+1] < 0x80 {
		begun = end + 2
	}
	for n := range len(der) {
		_, err := cardauth.ParseHead(der[:n])
		if n < begun && !errors.Is(err, cardauth.ErrHeadIncomplete) {
			t.Fatalf("first %d bytes: error %v, want %v", n, err, cardauth.ErrHeadIncomplete)
		}
		if n >= begun && err != nil {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	filler := append(bytes.Clone(der), 0xFF, 0xFF)
	if got, err := cardauth.ParseHead(filler); err != nil || !bytes.Equal(got.Bytes(), head.Bytes()) {
		t.Errorf("with filler: %v", err)
	}
}

func TestHeadIsEverythingBeforeThePublicKey(t *testing.T) {
	for name, der := range certificates(t) {
		t.Run(name, func(t *testing.T) { checkHead(t, der) })
	}
	a := loadAuthority(t, "authority.json")
	key := &terminalKey(t).PublicKey
	for name, change := range map[string]func(*x509.Certificate){
		"GeneralizedTime":     func(c *x509.Certificate) { c.NotAfter = time.Date(2061, 2, 3, 4, 5, 6, 0, time.UTC) },
		"both times far away": func(c *x509.Certificate) { c.NotBefore, c.NotAfter = at.AddDate(30, 0, 0), at.AddDate(40, 0, 0) },
		"UTCTime of 19xx": func(c *x509.Certificate) {
			c.NotBefore = time.Date(1952, 2, 29, 0, 0, 0, 0, time.UTC)
			c.NotAfter = time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)
		},
		"last UTCTime": func(c *x509.Certificate) { c.NotAfter = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC) },
		"long subject": func(c *x509.Certificate) { c.Subject.Organization = []string{strings.Repeat("x", 400)} },
	} {
		t.Run(name, func(t *testing.T) { checkHead(t, a.issue(t, key, change)) })
	}
}

func TestHeadsOfTheRealAuthority(t *testing.T) {
	for name, ca := range sharedCAs(t) {
		t.Run(name, func(t *testing.T) { checkHead(t, ca.Raw) })
	}
}

// tlv is a DER element.
func tlv(tag byte, contents ...[]byte) []byte {
	body := slices.Concat(contents...)
	switch n := len(body); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	}
}

// A sketch is the least that has the shape of a certificate. Its parts are
// what tests replace.
type sketch struct {
	version, serial, algorithm, issuer, notBefore, notAfter, subject, key []byte
}

func newSketch() sketch {
	return sketch{
		version:   tlv(0xA0, tlv(0x02, []byte{2})),
		serial:    tlv(0x02, []byte{1}),
		algorithm: tlv(0x30),
		issuer:    tlv(0x30),
		notBefore: tlv(0x17, []byte("260101000000Z")),
		notAfter:  tlv(0x17, []byte("310101000000Z")),
		subject:   tlv(0x30),
		key:       tlv(0x30),
	}
}

func (s sketch) tbs() []byte {
	return tlv(0x30, s.version, s.serial, s.algorithm, s.issuer, tlv(0x30, s.notBefore, s.notAfter), s.subject, s.key)
}

func (s sketch) bytes() []byte { return tlv(0x30, s.tbs()) }

func TestMalformedHeadsAreRefused(t *testing.T) {
	if _, err := cardauth.ParseHead(newSketch().bytes()); err != nil {
		t.Fatalf("the sketch itself: %v", err)
	}
	with := func(change func(*sketch)) []byte {
		s := newSketch()
		change(&s)
		return s.bytes()
	}
	good := newSketch().bytes()
	// A validity that says it is a byte shorter than its two times.
	validity := bytes.Clone(good)
	validity[bytes.Index(good, newSketch().notBefore)-1]--
	for name, b := range map[string][]byte{
		"no certificate":                with(func(s *sketch) { *s = sketch{} }),
		"filler":                        bytes.Repeat([]byte{0xFF}, 256),
		"zeros":                         make([]byte, 256),
		"version 1":                     with(func(s *sketch) { s.version = nil }),
		"no serial":                     with(func(s *sketch) { s.serial = nil }),
		"issuer is no SEQUENCE":         with(func(s *sketch) { s.issuer = tlv(0x31) }),
		"subject is no SEQUENCE":        with(func(s *sketch) { s.subject = tlv(0x0C) }),
		"key is no SEQUENCE":            with(func(s *sketch) { s.key = tlv(0x03) }),
		"time as a string":              with(func(s *sketch) { s.notAfter = tlv(0x13, []byte("310101000000Z")) }),
		"time without seconds":          with(func(s *sketch) { s.notAfter = tlv(0x17, []byte("3101010000Z")) }),
		"time with a zone":              with(func(s *sketch) { s.notAfter = tlv(0x17, []byte("310101000000+0900")) }),
		"time with a fraction":          with(func(s *sketch) { s.notAfter = tlv(0x18, []byte("20310101000000.5Z")) }),
		"time with a short year":        with(func(s *sketch) { s.notAfter = tlv(0x18, []byte("310101000000Z")) }),
		"no such day":                   with(func(s *sketch) { s.notAfter = tlv(0x17, []byte("310230000000Z")) }),
		"empty time":                    with(func(s *sketch) { s.notAfter = tlv(0x17) }),
		"ends before it begins":         with(func(s *sketch) { s.notAfter = tlv(0x17, []byte("251231235959Z")) }),
		"a third time":                  with(func(s *sketch) { s.notAfter = slices.Concat(s.notAfter, s.notAfter) }),
		"validity of another length":    validity,
		"head of more than 1024 bytes":  with(func(s *sketch) { s.subject = tlv(0x30, make([]byte, 1000)) }),
		"certificate of more than 4096": with(func(s *sketch) { s.key = tlv(0x30, make([]byte, 4096)) }),
		"certificate of 60 kB":          with(func(s *sketch) { s.key = tlv(0x30, make([]byte, 60_000)) }),
		"certificate shorter than head": append([]byte{0x30, 0x20}, newSketch().tbs()...),
		"key longer than certificate":   with(func(s *sketch) { s.key = []byte{0x30, 0x7F} }),
		"indefinite length":             append([]byte{0x30, 0x80}, good[2:]...),
		"length of three octets":        append([]byte{0x30, 0x83, 0, 0}, good[1:]...),
		"length in two octets for one":  append([]byte{0x30, 0x82, 0}, good[1:]...),
		"long form of a short length":   append([]byte{0x30, 0x81}, good[1:]...),
	} {
		if _, err := cardauth.ParseHead(b); !errors.Is(err, cardauth.ErrHeadMalformed) {
			t.Errorf("%s: error %v, want %v", name, err, cardauth.ErrHeadMalformed)
		}
	}
}

// A head is not changed by what the caller does with its bytes.
func TestHeadKeepsItsBytes(t *testing.T) {
	der := bytes.Clone(certificates(t)["good.json"])
	head, err := cardauth.ParseHead(der)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(head.Bytes())
	clear(der)
	if !bytes.Equal(head.Bytes(), want) {
		t.Error("the head changed with the buffer it was read from")
	}
}

// FuzzParseHead: a head is a prefix of what it was found in, fits the
// certificate's size, and is found again whatever follows. Who asks for more
// bytes asks for a bounded number.
func FuzzParseHead(f *testing.F) {
	for _, der := range certificates(f) {
		f.Add(der, []byte{0xFF})
		f.Add(der[:256], []byte{})
	}
	f.Add(newSketch().bytes(), []byte("more"))
	f.Fuzz(func(t *testing.T, b, more []byte) {
		head, err := cardauth.ParseHead(b)
		if err != nil {
			if !errors.Is(err, cardauth.ErrHeadIncomplete) && !errors.Is(err, cardauth.ErrHeadMalformed) {
				t.Fatalf("error %v", err)
			}
			if errors.Is(err, cardauth.ErrHeadIncomplete) && len(b) > 1024+8 {
				t.Fatalf("incomplete after %d bytes", len(b))
			}
			return
		}
		n := len(head.Bytes())
		if !bytes.HasPrefix(b, head.Bytes()) || n > head.CertificateSize() || head.CertificateSize() > cardauth.MaxCertificate {
			t.Fatalf("head of %d bytes, certificate of %d", n, head.CertificateSize())
		}
		again, err := cardauth.ParseHead(append(bytes.Clone(b), more...))
		if err != nil || !bytes.Equal(again.Bytes(), head.Bytes()) || again.CertificateSize() != head.CertificateSize() {
			t.Fatalf("with %X behind it: error %v", more, err)
		}
		// What is signed later in the session is tied to the head by its bytes.
		if !cardauth.SameHead(head, b) {
			t.Fatal("not the head of its own bytes")
		}
	})
}
