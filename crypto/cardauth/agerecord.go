package cardauth

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// AgeRecordSize is the length of an age record in bytes (card-facts §4). Files
// carry filler behind it.
const AgeRecordSize = 547

// ErrOtherBirthDate says that an age record is genuine, and of somebody born on
// another day than the one that was looked for.
var ErrOtherBirthDate = errors.New("age record of somebody born on another day")

// Where the parts of an age record lie, in bytes: every length in it is known,
// so that one value has one encoding and nothing can hide between the parts.
const (
	ageSigned    = 5   // header of FF10; the signature covers what follows,
	ageDate      = 8   // the 8 digits of DF11,
	ageKey       = 21  // the public key of DF12,
	ageSignedEnd = 286 // up to here
	ageSignature = 291 // the value of DF13
)

var (
	ageOuterHeader     = []byte{0xFF, 0x10, 0x82, 0x02, 0x1E}
	ageDateHeader      = []byte{0xDF, 0x11, 0x08}
	ageKeyHeader       = []byte{0xDF, 0x12, 0x82, 0x01, 0x09}
	ageSignatureHeader = []byte{0xDF, 0x13, 0x82, 0x01, 0x00}
)

// An AgeRecord is EF 0001 of the card-surface application. It ties a birth date
// to the card's own key:
//
//	FF10 { DF11 birth date, 8 digits · DF12 public key · DF13 signature }
//
// The signature is RSASSA-PKCS1-v1_5 with SHA-256 over DF11 and DF12 as they
// are written, by the key that the certificate in EF 0004 certifies.
type AgeRecord struct {
	raw  []byte
	born BirthDate
	key  cardkey.Key
}

// ParseAgeRecord accepts exactly the 547 bytes of one record. It verifies
// nothing. What it does not accept no card was issued with: ErrNotGenuine.
func ParseAgeRecord(b []byte) (AgeRecord, error) {
	if len(b) != AgeRecordSize {
		return AgeRecord{}, fmt.Errorf("%w: age record of %d bytes, want %d", ErrNotGenuine, len(b), AgeRecordSize)
	}
	for _, part := range []struct {
		tag    string
		offset int
		want   []byte
	}{
		{"FF10", 0, ageOuterHeader},
		{"DF11", ageSigned, ageDateHeader},
		{"DF12", ageDate + len(birthDateLayout), ageKeyHeader},
		{"DF13", ageSignedEnd, ageSignatureHeader},
	} {
		if !bytes.HasPrefix(b[part.offset:], part.want) {
			return AgeRecord{}, fmt.Errorf("%w: age record without tag %s of the expected length at offset %d", ErrNotGenuine, part.tag, part.offset)
		}
	}
	r := AgeRecord{raw: bytes.Clone(b)}
	var err error
	if r.born, err = ParseBirthDate(string(b[ageDate : ageDate+len(birthDateLayout)])); err != nil {
		return AgeRecord{}, fmt.Errorf("%w: age record: %w", ErrNotGenuine, err)
	}
	if r.key, err = parseCVPublicKey(b[ageKey:ageSignedEnd]); err != nil {
		return AgeRecord{}, fmt.Errorf("%w: age record: %w", ErrNotGenuine, err)
	}
	return r, nil
}

// Bytes returns the 547 bytes of the record.
func (r AgeRecord) Bytes() []byte { return r.raw }

// BirthDate is what the record says, verified or not.
func (r AgeRecord) BirthDate() BirthDate { return r.born }

// Key is the card's own key that the record certifies, verified or not.
func (r AgeRecord) Key() cardkey.Key { return r.key }

// Format keeps the birth date out of every verb.
func (r AgeRecord) Format(s fmt.State, _ rune) { fmt.Fprint(s, "(age record)") }

// VerifiedBy checks that the certified key of signer, which VerifyCVCertificate
// accepted, signed the record.
func (r AgeRecord) VerifiedBy(signer CVCertificate) error {
	if len(r.raw) != AgeRecordSize {
		return fmt.Errorf("%w: no age record", ErrNotGenuine)
	}
	if err := verifyCV(signer.key, r.raw[ageSigned:ageSignedEnd], r.raw[ageSignature:]); err != nil {
		return fmt.Errorf("%w: age record: %w", ErrNotGenuine, err)
	}
	return nil
}

// VerifyAgeRecord reads a record and checks that signer signed it, and that it is
// of somebody born on that day. It returns the card's own key. Whatever is wrong with the
// record is ErrNotGenuine: a genuine card of that person has no such record.
func VerifyAgeRecord(record []byte, signer CVCertificate, born BirthDate) (cardkey.Key, error) {
	r, err := ParseAgeRecord(record)
	if err != nil {
		return cardkey.Key{}, err
	}
	if err := r.VerifiedBy(signer); err != nil {
		return cardkey.Key{}, err
	}
	if born.IsZero() || r.born != born {
		return cardkey.Key{}, fmt.Errorf("%w: %w", ErrNotGenuine, ErrOtherBirthDate)
	}
	return r.key, nil
}
