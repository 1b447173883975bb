package perso

import (
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// surface is the card-surface AP (card-facts §4).
func (a *Authority) surface(opt *CardOptions) (*vcard.Application, error) {
	key, ok := opt.CardKey.(*rsa.PrivateKey)
	if !ok {
		// Neither the age record nor the card-verifiable certificate can hold
		// another key, and no other form is public: the key is all there is.
		return &vcard.Application{AID: vcard.AIDSurface(), InternalKey: &vcard.PrivateKey{Signer: opt.CardKey}}, nil
	}
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
	age, err := a.ageRecord(opt.BirthDate, &key.PublicKey)
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
		InternalKey: &vcard.PrivateKey{Signer: key},
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
