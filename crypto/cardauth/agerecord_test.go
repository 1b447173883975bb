package cardauth_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// born is the birth date of everybody in testdata/cards.
const born = "19900401"

func birthDate(t testing.TB, s string) cardauth.BirthDate {
	t.Helper()
	b, err := cardauth.ParseBirthDate(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// surface is what the card-surface AP of an image holds: the signer's
// certificate and the age record, without filler.
func surface(t testing.TB, name string) (cvc, record []byte) {
	t.Helper()
	app := image(t, name).Application(vcard.AIDSurface())
	return app.File(0x0004).Content[:cardauth.CVCertificateSize], app.File(0x0001).Content[:cardauth.AgeRecordSize]
}

func TestAgeRecordGivesTheCardsKey(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	cvc, record := surface(t, "good.json")
	signer, err := cardauth.VerifyCVCertificate(cvc, a.surfaceAuthorities(t))
	if err != nil {
		t.Fatal(err)
	}
	key, err := cardauth.VerifyAgeRecord(record, signer, birthDate(t, born))
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(cardKey(t, image(t, "good.json").CardKey())) {
		t.Error("another key than the card has")
	}
	parsed, err := cardauth.ParseAgeRecord(record)
	if err != nil || parsed.BirthDate().YYYYMMDD() != born || !bytes.Equal(parsed.Bytes(), record) {
		t.Errorf("%v, %v", parsed, err)
	}
	if text := fmt.Sprintf("%+v %#v %x", parsed, parsed, parsed); strings.Contains(text, "1990") || len(text) > 60 {
		t.Errorf("an age record prints as %s", text)
	}
}

// object is a data object with a length field of as many octets as the length
// needs, or of more.
func object(tag uint16, more int, parts ...[]byte) []byte {
	value := slices.Concat(parts...)
	length := binary.BigEndian.AppendUint32(nil, uint32(len(value)))
	for len(length) > 1 && length[0] == 0 && more == 0 {
		length = length[1:]
	}
	b := []byte{byte(tag >> 8), byte(tag)}
	if len(value) >= 0x80 || more > 0 {
		b = append(b, 0x80|byte(len(length)))
	}
	return slices.Concat(b, length, value)
}

func TestAgeRecordsThatAreRefused(t *testing.T) {
	a := loadAuthority(t, "authority.json")
	cvc, good := surface(t, "good.json")
	signer, err := cardauth.VerifyCVCertificate(cvc, a.surfaceAuthorities(t))
	if err != nil {
		t.Fatal(err)
	}
	// sign makes a record that is genuine in all but its form.
	sign := func(before, behind []byte, signed ...[]byte) []byte {
		body := slices.Concat(signed...)
		digest := sha256.Sum256(body)
		signature, err := rsa.SignPKCS1v15(nil, a.record, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return object(0xFF10, 0, before, body, object(0xDF13, 0, signature), behind)
	}
	date, key := object(0xDF11, 0, []byte(born)), good[16:286]
	if !bytes.Equal(sign(nil, nil, date, key), good) {
		t.Fatal("this test makes another record than the card has")
	}
	value := key[5:]
	weak := slices.Concat([]byte{0x90, 3, 1, 0, 1, 0x91, 0x81, 0x80}, weakKey().N.Bytes())
	exponent := slices.Concat([]byte{0x90, 1, 3}, value[5:])
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	edited := bytes.Replace(bytes.Clone(good), []byte(born), []byte("19900402"), 1)
	own := bytes.Clone(good)
	copy(own[len(own)-512-5:], terminalKey(t).N.Bytes()) // another card key under the old signature
	for name, record := range map[string][]byte{
		"empty":                                nil,
		"a byte short":                         good[:len(good)-1],
		"filler behind it":                     append(bytes.Clone(good), 0xFF),
		"a changed signature":                  flipped,
		"an edited birth date":                 edited,
		"another card key":                     own,
		"another birth date, signed":           sign(nil, nil, object(0xDF11, 0, []byte("19900402")), key),
		"no such day, signed":                  sign(nil, nil, object(0xDF11, 0, []byte("19900431")), key),
		"letters for a date, signed":           sign(nil, nil, object(0xDF11, 0, []byte("1990APR1")), key),
		"birth date behind the key":            sign(nil, nil, key, date),
		"birth date twice":                     sign(nil, nil, date, date, key),
		"key twice":                            sign(nil, nil, date, key, key),
		"no birth date":                        sign(nil, nil, key),
		"no key":                               sign(nil, nil, date),
		"an object before the signed ones":     sign(object(0xDF11, 0, []byte("19900402")), nil, date, key),
		"an object behind the signature":       sign(nil, object(0xDF11, 0, []byte(born)), date, key),
		"long length of the date":              sign(nil, nil, object(0xDF11, 1, []byte(born)), key),
		"long length of the key":               sign(nil, nil, date, object(0xDF12, 1, value)),
		"key of 1024 bits":                     sign(nil, nil, date, object(0xDF12, 0, weak)),
		"exponent 3":                           sign(nil, nil, date, object(0xDF12, 0, exponent)),
		"a card-verifiable certificate":        cvc,
		"a record of 547 bytes that says less": slices.Concat(good[:2], []byte{0x82, 0x02, 0x1D}, good[5:]),
	} {
		key, err := cardauth.VerifyAgeRecord(record, signer, birthDate(t, born))
		if !errors.Is(err, cardauth.ErrNotGenuine) || !key.IsZero() {
			t.Errorf("%s: key %v, error %v", name, key, err)
		}
		if err != nil && strings.Contains(err.Error(), "1990") {
			t.Errorf("%s: the error tells a birth date: %v", name, err)
		}
	}
	if _, err := cardauth.VerifyAgeRecord(good, cardauth.CVCertificate{}, birthDate(t, born)); !errors.Is(err, cardauth.ErrNotGenuine) {
		t.Errorf("signed by nobody: %v", err)
	}
	if _, err := cardauth.VerifyAgeRecord(good, signer, cardauth.BirthDate{}); !errors.Is(err, cardauth.ErrNotGenuine) {
		t.Errorf("of somebody without a birth date: %v", err)
	}
}

func TestSignerOfAnAgeRecordNeedsAnAuthority(t *testing.T) {
	a, foreign := loadAuthority(t, "authority.json"), loadAuthority(t, "foreign-authority.json")
	good, _ := surface(t, "good.json")
	own := a.surfaceAuthorities(t)
	id := own[0].ID
	padded := id
	padded[15] = 1
	again := func(issuer cardauth.CVKeyID, signer *rsa.PrivateKey) []byte {
		return cvCertificate(t, string(issuer[:]), "6000101\x08\x05001\x00\x00\x00\x00", &a.record.PublicKey, signer)
	}
	for _, c := range []struct {
		name string
		cvc  []byte
		by   []cardauth.CVAuthority
		want error
	}{
		{"in order", good, own, nil},
		{"made again", again(id, a.surface), own, nil},
		{"of several authorities", good, append([]cardauth.CVAuthority{{ID: padded, Key: own[0].Key}}, own...), nil},
		{"no authority", good, nil, cardauth.ErrUntrusted},
		{"another key of that id", good, foreign.surfaceAuthorities(t), cardauth.ErrUntrusted},
		{"an id that differs in the padding", again(padded, a.surface), own, cardauth.ErrUntrusted},
		{"signed by the terminals' root", again(id, a.root), own, cardauth.ErrUntrusted},
		{"signed by itself", again(id, a.record), own, cardauth.ErrUntrusted},
		{"trailing data", append(bytes.Clone(good), 0), own, cardauth.ErrUntrusted},
		{"a byte short", good[:len(good)-1], own, cardauth.ErrUntrusted},
		{"an authority without a key", good, []cardauth.CVAuthority{{ID: id}}, cardauth.ErrUntrusted},
	} {
		got, err := cardauth.VerifyCVCertificate(c.cvc, c.by)
		if !errors.Is(err, c.want) || got.PublicKey().IsZero() != (c.want != nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// The first and the last day of every era, and what people get wrong.
func TestBirthDateInTheJapaneseEra(t *testing.T) {
	for date, pin := range map[string]string{
		"18680125": "010125", "19120729": "450729", // Meiji
		"19120730": "010730", "19261224": "151224", // Taisho
		"19261225": "011225", "19270101": "020101", "19890107": "640107", // Showa
		"19890108": "010108", "20000229": "120229", "20190430": "310430", // Heisei
		"20190501": "010501", "20200101": "020101", "20261124": "081124", "21171231": "991231", // Reiwa
	} {
		if got := birthDate(t, date).PIN(); string(got) != pin {
			t.Errorf("%s: %s, want %s", date, got, pin)
		}
	}
	for _, s := range []string{"", "18680124", "21180101", "99991231", "00000000", "19900431", "19900229", "1990-04-01", "199004011", "1990 401", "９９０４０１", "+9900401"} {
		if b, err := cardauth.ParseBirthDate(s); !errors.Is(err, cardauth.ErrBirthDate) || !b.IsZero() {
			t.Errorf("%q: %v", s, err)
		} else if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats %q", s)
		}
	}
	var none cardauth.BirthDate
	if none.PIN() != nil || none.YYYYMMDD() != "" {
		t.Error("no birth date has a PIN")
	}
	text := fmt.Sprintf("%v %+v %#v %s %d", birthDate(t, born), birthDate(t, born), struct{ B cardauth.BirthDate }{birthDate(t, born)}, birthDate(t, born), birthDate(t, born))
	if strings.Contains(text, "1990") || strings.Contains(text, "Time") {
		t.Errorf("a birth date prints as %s", text)
	}
}

// FuzzParseAgeRecord: what parses is 547 bytes that come back, has a birth date
// and a key, and nobody signed it.
func FuzzParseAgeRecord(f *testing.F) {
	_, record := surface(f, "good.json")
	f.Add(record)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := cardauth.ParseAgeRecord(b)
		if err != nil {
			if !errors.Is(err, cardauth.ErrNotGenuine) {
				t.Fatal(err)
			}
			return
		}
		if r.VerifiedBy(cardauth.CVCertificate{}) == nil || (cardauth.AgeRecord{}).VerifiedBy(cardauth.CVCertificate{}) == nil {
			t.Fatal("signed by nobody, and verified")
		}
		if !bytes.Equal(r.Bytes(), b) || r.BirthDate().IsZero() || len(r.BirthDate().PIN()) != 6 {
			t.Fatalf("%X", b)
		}
		if _, err := cardauth.VerifyAgeRecord(b, cardauth.CVCertificate{}, r.BirthDate()); err == nil {
			t.Fatal("verified")
		}
	})
}

// FuzzParseBirthDate: what parses comes back, and has six digits.
func FuzzParseBirthDate(f *testing.F) {
	f.Add(born)
	f.Add("18680125")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := cardauth.ParseBirthDate(s)
		if err != nil {
			return
		}
		pin := b.PIN()
		if b.YYYYMMDD() != s || len(pin) != 6 || strings.Trim(string(pin), "0123456789") != "" {
			t.Fatalf("%q comes back as %q with PIN %q", s, b.YYYYMMDD(), pin)
		}
	})
}
