// Package anchor holds the CA certificates under which a terminal accepts
// user-authentication certificates (利用者証明用電子証明書), and the keys under
// which it accepts card-verifiable certificates of the card-surface application.
//
// There are two hierarchies, and a Set is of one of them. A production
// certificate is known by its pin, the SHA-256 digest of its DER, wherever it
// was read: from a file, or from a card, which carries its CA certificate. A
// test certificate has no pin, is only taken from a file, and only by a
// terminal whose configuration says that it is for tests. A test anchor never
// gets into a production set, and no pinned certificate into a test set.
//
// All generations of the CA have the same name; a caller finds the issuer of a
// certificate by trying its signature, never by the name. Validity is not
// looked at here but at the instant of each tap, together with the leaf's.
package anchor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// Errors that callers act on.
var (
	// ErrNotPinned says that a certificate for the production hierarchy
	// matches no pin. A test anchor in production mode ends here.
	ErrNotPinned = errors.New("certificate matches no production pin")

	// ErrProduction says that a certificate of the production hierarchy was
	// given to a test terminal.
	ErrProduction = errors.New("production certificate in the test hierarchy")
)

// A Hierarchy says which certificates count. The zero value is Production, so
// that a terminal without the setting trusts no test certificate.
type Hierarchy uint8

const (
	Production Hierarchy = iota
	Test
)

func (h Hierarchy) String() string {
	switch h {
	case Production:
		return "production"
	case Test:
		return "test"
	}
	return fmt.Sprintf("Hierarchy(%d)", uint8(h))
}

// MarshalText gives the name that configuration files use.
func (h Hierarchy) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText accepts "production" and "test".
func (h *Hierarchy) UnmarshalText(b []byte) error {
	switch string(b) {
	case "production":
		*h = Production
	case "test":
		*h = Test
	default:
		return fmt.Errorf("hierarchy %q: want production or test", b)
	}
	return nil
}

// A Pin is the SHA-256 digest of a certificate's DER.
type Pin = [sha256.Size]byte

// builtin are the pins of the user-authentication CA certificates of the
// Japan Agency for Local Authority Information Systems that are public:
// valid from 2015-10-20 (serial 01) and from 2023-07-16 (serial 06D18006).
// The one between them (from 2019-09-14, serial 0133C349) has no public copy;
// whoever has it on a card adds its pin.
func builtin() []Pin {
	return []Pin{
		{
			0x4D, 0xCF, 0xC4, 0xCA, 0x0A, 0xAF, 0x9F, 0xB2, 0xA3, 0x08, 0x1B, 0x3F, 0x0C, 0x99, 0x1C, 0x32,
			0x0B, 0x3A, 0xCC, 0x00, 0x86, 0x67, 0xA3, 0x41, 0xEE, 0xAE, 0xC5, 0xAF, 0x1D, 0x58, 0xCA, 0x7D,
		},
		{
			0x64, 0x11, 0x4F, 0x29, 0x62, 0x0C, 0x24, 0xED, 0x26, 0x31, 0xD4, 0x64, 0x76, 0xA0, 0x40, 0xE7,
			0xEE, 0x74, 0x0D, 0x95, 0x60, 0x89, 0xC0, 0x0B, 0x03, 0x6A, 0x6A, 0x81, 0x18, 0xC3, 0x22, 0xB5,
		},
	}
}

// A Set is the anchors of one hierarchy. It does not change: Learn gives a
// new one. The zero Set is of the production hierarchy and trusts nothing.
type Set struct {
	hierarchy Hierarchy
	pins      []Pin
	certs     []*x509.Certificate
}

// Load makes the set of a hierarchy from the contents of certificate files,
// each DER or PEM, of at most 64 KiB. extraPins are further pins of production
// certificates. A production set may be empty: its anchors can be learned from
// cards. A test set may not.
func Load(h Hierarchy, extraPins []Pin, pemOrDER ...[]byte) (Set, error) {
	if h != Production && h != Test {
		return Set{}, fmt.Errorf("loading trust anchors: %v is unknown", h)
	}
	s := Set{hierarchy: h, pins: append(builtin(), extraPins...)}
	for i, file := range pemOrDER {
		ders, err := split(file)
		if err != nil {
			return Set{}, fmt.Errorf("loading trust anchors: file %d: %w", i+1, err)
		}
		for _, der := range ders {
			if s, err = s.add(der); err != nil {
				return Set{}, fmt.Errorf("loading trust anchors: file %d: %w", i+1, err)
			}
		}
	}
	if h == Test && len(s.certs) == 0 {
		return Set{}, errors.New("loading trust anchors: the test hierarchy has no pins, so name at least one certificate file")
	}
	return s, nil
}

// Learn returns the set with a further certificate, given as its DER and
// nothing behind it, when the set is of the production hierarchy and a pin
// matches. It is for certificates from cards: where they come from does not
// matter, because the pin says what they are.
func (s Set) Learn(der []byte) (Set, error) {
	if s.hierarchy != Production {
		return s, errors.New("learning a trust anchor: a test terminal takes anchors from its configuration only")
	}
	learned, err := s.add(der)
	if err != nil {
		return s, fmt.Errorf("learning a trust anchor: %w", err)
	}
	return learned, nil
}

// Hierarchy says which hierarchy the anchors belong to.
func (s Set) Hierarchy() Hierarchy { return s.hierarchy }

// Certificates returns the anchors in the order in which they came.
func (s Set) Certificates() []*x509.Certificate { return slices.Clone(s.certs) }

// add returns s with the certificate, if s may hold it.
func (s Set) add(der []byte) (Set, error) {
	pin := sha256.Sum256(der)
	pinned := slices.Contains(s.pins, pin)
	// Before parsing: in production only bytes that somebody vouched for
	// reach the parser.
	switch {
	case s.hierarchy == Production && !pinned:
		return s, fmt.Errorf("%w: its SHA-256 is %X; a test anchor belongs to a terminal of the test hierarchy, "+
			"and a new production one needs this digest, compared with the published one, among the extra pins", ErrNotPinned, pin)
	case s.hierarchy == Test && pinned:
		return s, fmt.Errorf("%w: its SHA-256 is %X; take it away, or set the hierarchy to production", ErrProduction, pin)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return s, err
	}
	if err := check(cert); err != nil {
		return s, fmt.Errorf("certificate with serial %X: %w", cert.SerialNumber, err)
	}
	if slices.ContainsFunc(s.certs, cert.Equal) {
		return s, nil
	}
	s.certs = append(slices.Clip(s.certs), cert) // Clip: sets never share room to grow
	return s, nil
}

// check holds an anchor to what RFC 5280 §6.1.4 (k) to (n) asks of an issuer,
// and to keys that cardauth verifies with.
func check(cert *x509.Certificate) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("not a CA certificate (basic constraints, RFC 5280 §4.2.1.9)")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("may not sign certificates (key usage keyCertSign, RFC 5280 §4.2.1.3)")
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("RSA key of %d bits, want 2048 to 4096", n)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("curve %s, want P-256 or P-384", key.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("key of type %v, want RSA or ECDSA", cert.PublicKeyAlgorithm)
	}
	return nil
}

// maxFile bounds the files of this package, in bytes.
const maxFile = 64 << 10

// split takes a file apart into the DER of its certificates. PEM may carry
// text around its blocks, as openssl writes it, but no block of another type.
func split(file []byte) ([][]byte, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(file), maxFile)
	}
	if !bytes.Contains(file, []byte("-----BEGIN ")) {
		return [][]byte{file}, nil
	}
	var ders [][]byte
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q, want CERTIFICATE", block.Type)
		}
		ders = append(ders, block.Bytes)
	}
	if len(ders) == 0 || bytes.Contains(file, []byte("-----BEGIN ")) {
		return nil, errors.New("damaged PEM block")
	}
	return ders, nil
}
