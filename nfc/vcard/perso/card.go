package perso

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// CardOptions describe one card. Every zero value has a default.
type CardOptions struct {
	Kind      vcard.Kind // of a card with the JPKI-AP; default vcard.KindCard
	Rand      io.Reader  // serial number, subject, security code; default crypto/rand
	NotBefore time.Time  // default: that of the CA certificate
	NotAfter  time.Time  // default: five years after NotBefore, ten for the next generation
	BirthDate time.Time  // its date in its own zone; default 1990-04-01

	Serial    uint32 // of the certificate, default random; four bytes in DER below 80000000
	SubjectID string // CN, 23 characters of PrintableString; default random

	PIN      string // EF 0018, 4 digits; default 1234
	Password string // EF 001B, 6 to 16 characters; default ABC123
	NumberA  string // 照合番号A, EF 0013, 12 digits; default 123456789012, whose check digit is wrong
	NumberB  string // 照合番号B, EF 0012, 14 digits; default birth date, expiry year, random code

	// NoCertificate leaves the user-authentication certificate out, as its holder
	// may ask for.
	NoCertificate Absence

	// Each default is a fresh key of the kind's sort, where the kind has one. An
	// RSA key costs some 0.2 s.
	AuthenticationKey crypto.Signer // EF 0017
	CardKey           crypto.Signer // card-surface AP
}

// Absence is how a card lacks its user-authentication certificate. Nobody has
// published which one real cards have.
type Absence byte

const (
	Present    Absence = iota // it does not
	NoFile                    // EF 000A is not there
	FillerOnly                // EF 000A holds filler FF and nothing else
)

// atr is what PC/SC part 3 §3.1.3.2.3.2 makes of an ISO/IEC 14443 Type B card:
// up to 424 kbit/s, frames of 256 bytes, FWI 10 (309 ms).
var atr = vcard.Hex{0x3B, 0x88, 0x80, 0x01, 0x00, 0x00, 0x00, 0x00, 0x33, 0x81, 0xA1, 0x00, 0x1A}

const subjectIDSize = 23

// subjectAlphabet makes subjects that nobody takes for real ones.
const subjectAlphabet = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"

func (o *CardOptions) setDefaults(a *Authority) error {
	if o.Kind == "" {
		o.Kind = vcard.KindCard
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	v, ok := variants[o.Kind]
	if !ok {
		return fmt.Errorf("kind %q has no JPKI-AP", o.Kind)
	}
	if o.NotBefore.IsZero() {
		o.NotBefore = a.userCA.cert.NotBefore
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = o.NotBefore.AddDate(v.years, 0, 0)
	}
	if o.BirthDate.IsZero() {
		o.BirthDate = time.Date(1990, 4, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Serial == 0 {
		serial, err := newSerial(o.Rand)
		if err != nil {
			return err
		}
		o.Serial = uint32(serial.Uint64())
	}
	if o.SubjectID == "" {
		id := make([]byte, subjectIDSize)
		if _, err := io.ReadFull(o.Rand, id); err != nil {
			return fmt.Errorf("drawing a subject: %w", err)
		}
		for i := range id {
			id[i] = subjectAlphabet[int(id[i])%len(subjectAlphabet)]
		}
		copy(id, "TEST")
		o.SubjectID = string(id)
	}
	if len(o.SubjectID) != subjectIDSize {
		return fmt.Errorf("subject: %d characters, want %d", len(o.SubjectID), subjectIDSize)
	}
	if o.PIN == "" {
		o.PIN = "1234"
	}
	if o.Password == "" {
		o.Password = "ABC123"
	}
	if o.NumberA == "" {
		o.NumberA = "123456789012"
	}
	if o.AuthenticationKey == nil && v.authentication && o.NoCertificate == Present {
		key, err := v.newKey()
		if err != nil {
			return fmt.Errorf("making the authentication key: %w", err)
		}
		o.AuthenticationKey = key
	}
	if o.CardKey == nil && v.surface {
		key, err := v.newKey()
		if err != nil {
			return fmt.Errorf("making the card key: %w", err)
		}
		o.CardKey = key
	}
	return nil
}

// Card personalises a card, phone or SIM.
func (a *Authority) Card(opt CardOptions) (*vcard.Image, error) {
	if err := opt.setDefaults(a); err != nil {
		return nil, fmt.Errorf("personalising a card: %w", err)
	}
	jpki, err := a.jpki(&opt)
	if err != nil {
		return nil, fmt.Errorf("personalising JPKI-AP: %w", err)
	}
	img := &vcard.Image{Kind: opt.Kind, ATR: bytes.Clone(atr), Applications: []vcard.Application{*jpki}}
	if variants[opt.Kind].surface {
		surface, err := a.surface(&opt)
		if err != nil {
			return nil, fmt.Errorf("personalising the card-surface AP: %w", err)
		}
		img.Applications = append(img.Applications, *surface)
	}
	return img, nil
}

// Block is what becomes of a card when its PINs were mistyped too often: the same
// card, with no try left for them.
func Block(card *vcard.Image, pins ...vcard.FileID) (*vcard.Image, error) {
	img := clone(card)
	for _, id := range pins {
		found := false
		for _, app := range img.Applications {
			for i := range app.PINs {
				if app.PINs[i].ID == id {
					app.PINs[i].Left, found = 0, true
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("blocking PIN %v: the card has none", id)
		}
	}
	return img, nil
}

// jpki is the JPKI-AP (card-facts §2, §9, §10) with what this kind has of it.
func (a *Authority) jpki(opt *CardOptions) (*vcard.Application, error) {
	v := variants[opt.Kind]
	app := &vcard.Application{AID: vcard.AIDJPKI(), Files: []vcard.File{file(0x0006, tokenInfo(v.label))}}
	if v.authentication {
		if err := a.authentication(opt, app); err != nil {
			return nil, err
		}
	}
	if v.signature {
		leaf, err := a.signatureCA.issue(new(big.Int).SetUint64(uint64(opt.Serial)), leafSubject(opt.SubjectID),
			opt.NotBefore, opt.NotAfter, a.signatureKey.Public())
		if err != nil {
			return nil, fmt.Errorf("issuing the signature certificate: %w", err)
		}
		app.Files = append(app.Files, file(0x0001, leaf, 0x001B), file(0x0002, a.signatureCA.cert.Raw))
		app.PINs = append(app.PINs, vcard.PIN{ID: 0x001B, Value: opt.Password, Limit: 5, Left: 5})
		app.Keys = append(app.Keys, vcard.Key{ID: 0x001A, Private: &vcard.PrivateKey{Signer: a.signatureKey}, Use: []vcard.FileID{0x001B}})
	}
	if v.terminals {
		root, err := cvPublicKey(&a.terminalRoot.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("encoding the terminal root: %w", err)
		}
		app.Files = append(app.Files, file(0x0016, slices.Concat(terminalRootID[:], root)))
		if opt.NoCertificate == Present {
			app.Keys[0].Use = append(app.Keys[0].Use, 0x0016)
		}
	}
	return app, nil
}

// authentication adds the user-authentication certificate, its key and PIN, and
// the directory of certificates.
func (a *Authority) authentication(opt *CardOptions, app *vcard.Application) error {
	v := variants[opt.Kind]
	// 8F says that a certificate is there: first signature, then authentication
	// (likely: one source). That 00 says it is not there is our model.
	directory := []byte{0x00, 0x00, 0x00}
	if v.signature {
		directory[0] = 0x8F
	}
	if opt.NoCertificate == Present {
		directory[1] = 0x8F
	}
	app.Files = append(app.Files, file(0x0008, directory))

	issuer := v.issuer(a)
	switch opt.NoCertificate {
	case NoFile:
		return nil
	case FillerOnly:
		app.Files = append(app.Files, vcard.File{ID: 0x000A, Size: 0x0700})
		return nil
	}
	leaf, err := issuer.issue(new(big.Int).SetUint64(uint64(opt.Serial)), leafSubject(opt.SubjectID),
		opt.NotBefore, opt.NotAfter, opt.AuthenticationKey.Public())
	if err != nil {
		return fmt.Errorf("issuing the user-authentication certificate: %w", err)
	}
	certificate := file(0x000A, leaf)
	if v.phone { // it keeps the certificate behind the PIN
		certificate.Read = []vcard.FileID{0x0018}
	}
	app.Files = append(app.Files, certificate, file(0x000B, issuer.cert.Raw))
	app.PINs = append(app.PINs, vcard.PIN{ID: 0x0018, Value: opt.PIN, Limit: 3, Left: 3})
	app.Keys = append(app.Keys, vcard.Key{ID: 0x0017, Private: &vcard.PrivateKey{Signer: opt.AuthenticationKey}, Use: []vcard.FileID{0x0018}})
	return nil
}

// tokenInfo is EF 0006: a CK_TOKEN_INFO of 160 bytes (PKCS #11 §3.2), of which
// readers look at the label.
func tokenInfo(label string) []byte {
	info := make([]byte, 160)
	copy(info, fmt.Sprintf("%-32s%-32s%-16s%-16s", label, "gate-agent test", "virtual card", "0"))
	return info
}

// file makes an EF with filler behind its content, as cards have it; the token
// information and the certificate directory are as long as they are.
func file(id vcard.FileID, content []byte, read ...vcard.FileID) vcard.File {
	size := len(content)
	if size > 160 {
		size = (size/256 + 1) * 256
	}
	return vcard.File{ID: id, Content: content, Size: size, Read: read}
}
