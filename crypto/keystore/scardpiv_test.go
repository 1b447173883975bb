package keystore

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

func TestKeysOfPIVCardsSign(t *testing.T) {
	for _, c := range []struct {
		key  string
		pins int // sent for the opening and three signatures
	}{
		{"9A", 1}, {"9C", 4}, {"9D", 1}, {"9E", 0},
	} {
		t.Run(c.key, func(t *testing.T) {
			for _, aid := range []string{piv, "A000000308", "a00000030800001000"} {
				b := newBench(t, "piv.json", aid, c.key, "123456")
				k := b.open(t)
				if exportable, err := k.Exportable(t.Context()); err != nil || exportable {
					t.Errorf("exportable %v (%v)", exportable, err)
				}
				for digest, hash := range map[string]crypto.Hash{
					string(digest256[:]): crypto.SHA256,
					string(digest384[:]): crypto.SHA384,
					string(digest512[:]): crypto.SHA512,
				} {
					signature, err := k.Sign(nil, []byte(digest), hash)
					if err != nil {
						t.Fatal(err)
					}
					if !verifies(k.Public(), []byte(digest), hash, signature) {
						t.Errorf("%v: the signature does not verify", hash)
					}
				}
				if _, ok := k.Public().(*rsa.PublicKey); ok {
					if _, err := k.Sign(nil, digest256[:], pssOfHash); !errors.Is(err, ErrCannot) {
						t.Errorf("PSS: %v", err)
					}
				}
				if err := k.Check(t.Context()); err != nil {
					t.Error(err)
				}
				if b.verified != c.pins {
					t.Errorf("the PIN was sent %d times, want %d", b.verified, c.pins)
				}
			}
		})
	}
}

// The key on P-256 behind the PIN, which the fixed card has free.
func TestEverySortOfKeySignsBehindThePIN(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	img, err := perso.PIV(perso.PIVOptions{Keys: map[vcard.FileID]crypto.Signer{0x009D: key}, PIN: "12345678"})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, "", piv, "9D", "12345678")
	b.put(t, img)
	if err := signs(b.open(t)); err != nil {
		t.Error(err)
	}
}

// Key 9C wants its PIN each time: a wrong one in its source is sent once.
func TestPINThatGoesWrongBetweenSignaturesIsSentOnce(t *testing.T) {
	b := newBench(t, "piv.json", piv, "9C", "123456")
	k := b.open(t)
	if err := signs(k); err != nil {
		t.Fatal(err)
	}
	b.write(t, "654321")
	before := b.verified
	if e := pinError(t, signs(k)); e.NotSent || e.Left != 2 {
		t.Errorf("%+v", e)
	}
	for range 3 {
		if e := pinError(t, signs(k)); e.Left != 2 {
			t.Errorf("%+v", e)
		}
		if e := pinError(t, k.Check(t.Context())); !e.NotSent || e.Left != 2 {
			t.Errorf("%+v", e)
		}
	}
	if n := b.verified - before; n != 1 {
		t.Errorf("a wrong PIN was sent %d times", n)
	}
}

func TestLockedPIVCardSaysSo(t *testing.T) {
	img := cardImage(t, "piv.json")
	img.Applications[0].PINs[0].Left = 0
	b := newBench(t, "", piv, "9A", "123456")
	b.put(t, img)
	if e := pinError(t, b.key(t).Check(t.Context())); !e.Locked || b.verified != 0 {
		t.Errorf("%+v, %d PINs sent", e, b.verified)
	}
	b = newBench(t, "", piv, "9E", "123456")
	b.put(t, img)
	k := b.open(t)
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Errorf("key 9E needs no PIN: %v", err)
	}
}

func TestPIVCardThatWasResetIsOpenedAnew(t *testing.T) {
	b := newBench(t, "piv.json", piv, "9A", "123456")
	k := b.open(t)
	for range 2 {
		b.card.Reset()
		if err := signs(k); err == nil {
			t.Error("signed without a PIN")
		}
		if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
			t.Fatal(err)
		}
	}
	b.card.Reset()
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Errorf("Check does not see it: %v", err)
	}
}

func TestPIVCardWithoutTheKeySaysSo(t *testing.T) {
	img := cardImage(t, "piv.json")
	app := &img.Applications[0]
	app.Files = slices.DeleteFunc(app.Files, func(f vcard.File) bool { return f.ID == 0xC10B })
	empty := tlv(0x53, nil)
	app.Files[1].Content, app.Files[1].Size = empty, len(empty)
	app.Keys = slices.DeleteFunc(app.Keys, func(k vcard.Key) bool { return k.ID == 0x009E })
	for key, want := range map[string]string{"9C": "empty", "9D": "no object", "9E": "no private key"} {
		b := newBench(t, "", piv, key, "123456")
		b.put(t, img)
		k := b.key(t)
		err := k.Check(t.Context())
		if err == nil {
			err = signs(k)
		}
		if !errors.Is(err, ErrNoKey) {
			t.Errorf("%s, %s: %v", key, want, err)
		}
	}
}

// Whatever a card answers, and wherever: no panic, no hang, no signature.
func TestCardThatAnswersGarbageHarmsNobody(t *testing.T) {
	garbage := map[string][]byte{
		"nothing":          {},
		"one byte":         {0x90},
		"9000 alone":       {0x90, 0x00},
		"endless 61xx":     {0xFF, 0x61, 0x00},
		"61xx for nothing": {0x61, 0x10},
		"6Cxx":             {0x6C, 0x01},
		"cut template":     {0x7C, 0x82, 0x01, 0x04, 0x82, 0x90, 0x00},
		"cut container":    {0x53, 0x82, 0xFF, 0xFF, 0x70, 0x90, 0x00},
		"endless sequence": {0x30, 0x82, 0xFF, 0xFF, 0x90, 0x00},
		"a warning":        {0x62, 0x83},
		"much":             append(bytes.Repeat([]byte{0x5A}, 3000), 0x90, 0x00),
	}
	for _, c := range []struct{ image, aid, key, pin string }{
		{"good.json", jpki, "17", "1234"},
		{"good.json", jpki, "1A", "ABC123"},
		{"piv.json", piv, "9A", "123456"},
		{"piv.json", piv, "9C", "123456"},
		{"piv.json", piv, "9E", "123456"},
	} {
		for name, rapdu := range garbage {
			for from := 1; from <= 12; from++ {
				b := newBench(t, c.image, c.aid, c.key, c.pin)
				k := b.key(t)
				n := 0
				b.bend = func([]byte) []byte {
					if n++; n >= from {
						if len(rapdu) == 0 {
							return []byte{} // what readers make of a card that left
						}
						return bytes.Clone(rapdu)
					}
					return nil
				}
				if k.Check(t.Context()) == nil {
					signature, err := k.Sign(nil, digest256[:], crypto.SHA256)
					if err == nil && !verifies(k.Public(), digest256[:], crypto.SHA256, signature) {
						t.Errorf("%v: %s from command %d: a wrong signature", c, name, from)
					}
					_, _ = k.Exportable(t.Context())
				}
				if b.commands > 20000 {
					t.Errorf("%v: %s from command %d: %d commands", c, name, from, b.commands)
				}
				if b.verified > 2 {
					t.Errorf("%v: %s from command %d: %d PINs", c, name, from, b.verified)
				}
			}
		}
	}
}

func TestCompressedCertificateIsBounded(t *testing.T) {
	compress := func(n int) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(make([]byte, n))
		w.Close()
		return tlv(0x53, append(append(tlv(0x70, b.Bytes()), 0x71, 0x01, 0x01), 0xFE, 0x00))
	}
	if der, err := parsePIVCertificate(compress(maxCertificate)); err != nil || len(der) != maxCertificate {
		t.Errorf("%d bytes, %v", len(der), err)
	}
	if _, err := parsePIVCertificate(compress(64 << 20)); !errors.Is(err, nfc.ErrMalformed) {
		t.Errorf("64 MiB: %v", err)
	}
}

// FuzzPIVAnswers: no parser of what a PIV card sends panics, gives more than its
// bound, or refuses without saying malformed or no key.
func FuzzPIVAnswers(f *testing.F) {
	for _, file := range cardImage(f, "piv.json").Applications[0].Files {
		f.Add(file.Content)
	}
	f.Add(tlv(0x7C, tlv(0x82, make([]byte, 256))))
	f.Add([]byte{0x53, 0x82, 0x00})
	f.Add([]byte{0x1F, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := parsePIVCertificate(b)
		signature, err2 := parsePIVSignature(b)
		if len(der) > max(len(b), maxCertificate) || len(signature) > len(b) {
			t.Errorf("%d and %d bytes out of %d", len(der), len(signature), len(b))
		}
		for _, err := range []error{err, err2} {
			if err != nil && !errors.Is(err, nfc.ErrMalformed) && !errors.Is(err, ErrNoKey) {
				t.Error(err)
			}
		}
	})
}

// FuzzTLV: what cutTLV cuts and tlv writes again is the same object.
func FuzzTLV(f *testing.F) {
	f.Add(byte(0x53), []byte("value"))
	f.Add(byte(0x70), make([]byte, 0x80))
	f.Add(byte(0x7C), make([]byte, 0x1234))
	f.Fuzz(func(t *testing.T, tag byte, value []byte) {
		if tag&0x1F == 0x1F || len(value) > 0xFFFF {
			return
		}
		gotTag, got, rest, err := cutTLV(append(tlv(tag, value), 0xAA))
		if err != nil || gotTag != tag || !bytes.Equal(got, value) || len(rest) != 1 {
			t.Errorf("%02X %X: %02X %X, %d bytes left, %v", tag, value, gotTag, got, len(rest), err)
		}
	})
}

func BenchmarkSignDirect(b *testing.B) {
	for _, c := range []struct{ image, aid, key, pin string }{
		{"good.json", jpki, "17", "1234"},
		{"piv.json", piv, "9A", "123456"},
		{"piv.json", piv, "9C", "123456"},
		{"piv.json", piv, "9D", "123456"},
		{"piv.json", piv, "9E", "123456"},
	} {
		b.Run(c.image+"/"+c.key, func(b *testing.B) {
			k := newBench(b, c.image, c.aid, c.key, c.pin).open(b)
			for b.Loop() {
				if err := signs(k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
