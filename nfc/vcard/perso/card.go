package perso

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// CardOptions describe one card. Every zero value has a default.
type CardOptions struct {
	Kind      vcard.Kind // default vcard.KindCard
	Rand      io.Reader  // serial number, subject, security code; default crypto/rand
	NotBefore time.Time  // default: that of the CA certificate
	NotAfter  time.Time  // default: five years after NotBefore
	BirthDate time.Time  // its date in its own zone; default 1990-04-01

	Serial    uint32 // of the certificate, default random; four bytes in DER below 80000000
	SubjectID string // CN, 23 characters of PrintableString; default random

	PIN      string // EF 0018, 4 digits; default 1234
	Password string // EF 001B, 6 to 16 characters; default ABC123
	NumberA  string // 照合番号A, EF 0013, 12 digits; default 123456789012, whose check digit is wrong
	NumberB  string // 照合番号B, EF 0012, 14 digits; default birth date, expiry year, random code

	// Each default is a fresh key, which costs some 0.2 s.
	AuthenticationKey *rsa.PrivateKey // EF 0017
	CardKey           *rsa.PrivateKey // card-surface AP; phones and SIMs have none
}

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
	if o.NotBefore.IsZero() {
		o.NotBefore = a.userCA.cert.NotBefore
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = o.NotBefore.AddDate(5, 0, 0)
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
	if o.AuthenticationKey == nil {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return fmt.Errorf("making the authentication key: %w", err)
		}
		o.AuthenticationKey = key
	}
	if o.CardKey == nil && o.Kind == vcard.KindCard {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
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
		return nil, err
	}
	jpki, err := a.jpki(&opt)
	if err != nil {
		return nil, fmt.Errorf("personalising JPKI-AP: %w", err)
	}
	img := &vcard.Image{Kind: opt.Kind, ATR: bytes.Clone(atr), Applications: []vcard.Application{*jpki}}
	if opt.Kind == vcard.KindCard {
		surface, err := a.surface(&opt)
		if err != nil {
			return nil, fmt.Errorf("personalising the card-surface AP: %w", err)
		}
		img.Applications = append(img.Applications, *surface)
	}
	return img, nil
}

// jpki is the JPKI-AP (card-facts §2, §9, §10).
func (a *Authority) jpki(opt *CardOptions) (*vcard.Application, error) {
	leaf, err := a.userCA.issue(new(big.Int).SetUint64(uint64(opt.Serial)), leafSubject(opt.SubjectID),
		opt.NotBefore, opt.NotAfter, &opt.AuthenticationKey.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("issuing the user-authentication certificate: %w", err)
	}
	signatureLeaf, err := a.signatureCA.issue(new(big.Int).SetUint64(uint64(opt.Serial)), leafSubject(opt.SubjectID),
		opt.NotBefore, opt.NotAfter, &a.signatureKey.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("issuing the signature certificate: %w", err)
	}
	root, err := cvPublicKey(&a.terminalRoot.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the terminal root: %w", err)
	}
	app := &vcard.Application{
		AID: vcard.AIDJPKI(),
		Files: []vcard.File{
			file(0x0006, tokenInfo(opt.Kind)),
			file(0x0008, []byte{0x8F, 0x8F, 0x00}), // both certificates are there
			file(0x000A, leaf),
			file(0x000B, a.userCA.cert.Raw),
			file(0x0001, signatureLeaf, 0x001B),
			file(0x0002, a.signatureCA.cert.Raw),
		},
		PINs: []vcard.PIN{
			{ID: 0x0018, Value: opt.PIN, Limit: 3, Left: 3},
			{ID: 0x001B, Value: opt.Password, Limit: 5, Left: 5},
		},
		Keys: []vcard.Key{
			{ID: 0x0017, Private: &vcard.PrivateKey{PrivateKey: opt.AuthenticationKey}, Use: []vcard.FileID{0x0018}},
			{ID: 0x001A, Private: &vcard.PrivateKey{PrivateKey: a.signatureKey}, Use: []vcard.FileID{0x001B}},
		},
	}
	if opt.Kind == vcard.KindPhoneAndroid || opt.Kind == vcard.KindPhoneIPhone {
		// A phone keeps the certificate behind the PIN, and our model of it
		// knows no terminal.
		app.File(0x000A).Read = []vcard.FileID{0x0018}
		return app, nil
	}
	app.Files = append(app.Files, file(0x0016, slices.Concat(terminalRootID[:], root)))
	app.Keys[0].Use = append(app.Keys[0].Use, 0x0016)
	return app, nil
}

// tokenInfo is EF 0006: a CK_TOKEN_INFO of 160 bytes (PKCS #11 §3.2), of which
// readers look at the label.
func tokenInfo(kind vcard.Kind) []byte {
	label := map[vcard.Kind]string{
		vcard.KindCard:         "JPKIAPICCTOKEN2",
		vcard.KindPhoneAndroid: "JPKIAPGPSETOKEN",
		vcard.KindPhoneIPhone:  "JPKIAPIOSTOKEN",
		vcard.KindSIM:          "JPKIAPSIMTOKEN", // our model: the trial's label is not public
	}[kind]
	info := make([]byte, 160)
	copy(info, fmt.Sprintf("%-32s%-32s%-16s%-16s", label, "gate-agent test", "virtual card", "0"))
	return info
}

// surface is the card-surface AP (card-facts §4).
func (a *Authority) surface(opt *CardOptions) (*vcard.Application, error) {
	birth, err := eraDate(opt.BirthDate)
	if err != nil {
		return nil, err
	}
	numberB := opt.NumberB
	if numberB == "" {
		var b [2]byte
		if _, err := io.ReadFull(opt.Rand, b[:]); err != nil {
			return nil, fmt.Errorf("drawing a security code: %w", err)
		}
		code := (int(b[0])<<8 | int(b[1])) % 10000
		numberB = fmt.Sprintf("%s%04d%04d", birth, opt.NotAfter.Year(), code)
	}
	certificate, err := cvCertificate(a.surfaceCA, surfaceCAID, recordKeyID, &a.recordKey.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("certifying the record key: %w", err)
	}
	age, err := a.ageRecord(opt.BirthDate, &opt.CardKey.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("signing the age record: %w", err)
	}
	basic, err := a.basicData(opt.Serial)
	if err != nil {
		return nil, fmt.Errorf("signing the basic data: %w", err)
	}
	return &vcard.Application{
		AID: vcard.AIDSurface(),
		Files: []vcard.File{
			file(0x0001, age, 0x0011),
			file(0x0003, basic),
			file(0x0004, certificate),
		},
		PINs: []vcard.PIN{
			{ID: 0x0011, Value: birth, Limit: 10, Left: 10},
			{ID: 0x0012, Value: numberB, Limit: 10, Left: 10},
			{ID: 0x0013, Value: opt.NumberA, Limit: 10, Left: 10},
		},
		InternalKey: &vcard.PrivateKey{PrivateKey: opt.CardKey},
	}, nil
}

// ageRecord is FF10 { DF11 birth date · DF12 card key · DF13 signature }. The
// signature covers the objects before it, headers included.
func (a *Authority) ageRecord(birth time.Time, card *rsa.PublicKey) ([]byte, error) {
	key, err := cvPublicKey(card)
	if err != nil {
		return nil, err
	}
	signed := slices.Concat(object(0xDF11, []byte(birth.Format("20060102"))), object(0xDF12, key))
	signature, err := signSHA256(a.recordKey, signed)
	if err != nil {
		return nil, err
	}
	return object(0xFF10, signed, object(0xDF13, signature)), nil
}

// basicData is FF30 { DF31 id · DF32 key id · DF33 version · DF34 municipality ·
// DF35 }. What the 16 + 256 bytes of DF35 are is our model: the record key's id
// and its signature over the objects before.
func (a *Authority) basicData(serial uint32) ([]byte, error) {
	id, err := hex.DecodeString(fmt.Sprintf("%08X", serial))
	if err != nil {
		return nil, err
	}
	signed := slices.Concat(object(0xDF31, id), object(0xDF32, recordKeyID[:]),
		object(0xDF33, []byte{0x01}), object(0xDF34, []byte("00000")))
	signature, err := signSHA256(a.recordKey, signed)
	if err != nil {
		return nil, err
	}
	return object(0xFF30, signed, object(0xDF35, recordKeyID[:], signature)), nil
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

// eras are the first days of Japanese eras, newest first (card-facts §4).
var eras = []time.Time{
	time.Date(2019, 5, 1, 0, 0, 0, 0, time.UTC),
	time.Date(1989, 1, 8, 0, 0, 0, 0, time.UTC),
	time.Date(1926, 12, 25, 0, 0, 0, 0, time.UTC),
	time.Date(1912, 7, 30, 0, 0, 0, 0, time.UTC),
	time.Date(1868, 1, 25, 0, 0, 0, 0, time.UTC),
}

// eraDate is the value of PIN 0011: YYMMDD with the year of the Japanese era.
func eraDate(date time.Time) (string, error) {
	year, month, day := date.Date()
	date = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	for _, first := range eras {
		if !date.Before(first) {
			return fmt.Sprintf("%02d%02d%02d", year-first.Year()+1, month, day), nil
		}
	}
	return "", errors.New("birth date is before the Meiji era")
}
