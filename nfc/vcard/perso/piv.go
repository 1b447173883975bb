package perso

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// PIVOptions describe a PIV card, such as a terminal keeps its own key on. Every
// zero value has a default.
type PIVOptions struct {
	PIN       string    // 6 to 8 digits; default 123456
	NotBefore time.Time // of the certificates; default 2025-04-01
	NotAfter  time.Time // default ten years after NotBefore

	// Keys are the private keys by their reference, 009A to 009E. The default is
	// a fresh one of each sort that PIV has: 009A and 009C RSA-2048, 009D P-384,
	// 009E P-256. Key 009A must be RSA: it signs the certificates, so that they
	// are the same each time.
	Keys map[vcard.FileID]crypto.Signer
}

// pivKeys are the keys of a PIV card (NIST SP 800-73-4 part 1, tables 3 and 4b).
var pivKeys = []struct {
	key, file  vcard.FileID // of the data object: 5FC1xx
	free       bool         // used without the PIN
	compressed bool
	name       string
	make       func() (crypto.Signer, error)
}{
	{key: 0x009A, file: 0xC105, name: "PIV authentication", make: newRSA},
	{key: 0x009C, file: 0xC10A, name: "digital signature", make: newRSA},
	{key: 0x009D, file: 0xC10B, name: "key management", compressed: true, make: newOn(elliptic.P384())},
	{key: 0x009E, file: 0xC101, name: "card authentication", free: true, make: newOn(elliptic.P256())},
}

func newRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, keyBits) }

func newOn(curve elliptic.Curve) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
}

const pivPIN = 0x0080

// PIV makes a PIV card: the application with its PIN, four keys and their
// certificates. What else SP 800-73-4 has mandatory (CHUI, fingerprints, security
// object) is about a person; a terminal's card does without.
func PIV(opt PIVOptions) (*vcard.Image, error) {
	if opt.PIN == "" {
		opt.PIN = "123456"
	}
	if opt.NotBefore.IsZero() {
		opt.NotBefore = time.Date(2025, 4, 1, 0, 0, 0, 0, time.UTC)
	}
	if opt.NotAfter.IsZero() {
		opt.NotAfter = opt.NotBefore.AddDate(10, 0, 0)
	}
	app := vcard.Application{
		AID:  unhex("A000000308000010000100"),
		PINs: []vcard.PIN{{ID: pivPIN, Value: opt.PIN, Limit: 3, Left: 3}},
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "TEST PIV of gate-agent"}}
	var issuerKey crypto.Signer
	for i, k := range pivKeys {
		key := opt.Keys[k.key]
		if key == nil {
			var err error
			if key, err = k.make(); err != nil {
				return nil, fmt.Errorf("making key %v: %w", k.key, err)
			}
		}
		if issuerKey == nil {
			issuerKey = key
		}
		der, err := x509.CreateCertificate(nil, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)),
			Subject:      pkix.Name{CommonName: "TEST " + k.name},
			NotBefore:    opt.NotBefore, NotAfter: opt.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature,
		}, issuer, key.Public(), issuerKey)
		if err != nil {
			return nil, fmt.Errorf("certifying key %v: %w", k.key, err)
		}
		object, err := pivCertificate(der, k.compressed)
		if err != nil {
			return nil, fmt.Errorf("certifying key %v: %w", k.key, err)
		}
		app.Files = append(app.Files, vcard.File{ID: k.file, Content: object, Size: len(object)})
		private := vcard.Key{ID: k.key, Private: &vcard.PrivateKey{Signer: key}, Use: []vcard.FileID{pivPIN}}
		if k.free {
			private.Use = nil
		}
		app.Keys = append(app.Keys, private)
	}
	return &vcard.Image{Kind: vcard.KindForeign, ATR: bytes.Clone(atr), Applications: []vcard.Application{app}}, nil
}

// pivCertificate is the data object of a certificate (SP 800-73-4 part 1, appendix
// A, table 10).
func pivCertificate(der []byte, compressed bool) ([]byte, error) {
	info := byte(0x00)
	if compressed {
		info = 0x01
		var b bytes.Buffer
		// Stored: what an encoder makes smaller differs from one to the next.
		w, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(der); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		der = b.Bytes()
	}
	return object(0x53, object(0x70, der), []byte{0x71, 0x01, info}, []byte{0xFE, 0x00}), nil
}
