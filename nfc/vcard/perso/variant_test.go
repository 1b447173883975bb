package perso

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// What a kind has, and what it lacks, is what docs/cards.md says of it.
func TestEachKindHasWhatItHas(t *testing.T) {
	a := authority(t, "authority.json")
	for kind, want := range map[vcard.Kind]string{
		vcard.KindCard:           "0001 0002 0006 0008 000A 000B 0016 0017 0018 001A 001B surface",
		vcard.KindNextGeneration: "0006 0008 000A 000B 0016 0017 0018 surface",
		vcard.KindJuki:           "0001 0002 0006 001A 001B",
		vcard.KindPhoneAndroid:   "0001 0002 0006 0008 000A 000B 0017 0018 001A 001B",
		vcard.KindPhoneIPhone:    "0001 0002 0006 0008 000A 000B 0017 0018 001A 001B",
		vcard.KindSIM:            "0006 0008 000A 000B 0016 0017 0018",
	} {
		opt := CardOptions{Kind: kind}
		if kind != vcard.KindNextGeneration {
			opt = keysOf(image(t, "good.json"))
			opt.Kind = kind
		}
		img := makeCard(t, a, opt)
		jpki := img.Application(vcard.AIDJPKI())
		var has []string
		for _, f := range jpki.Files {
			has = append(has, f.ID.String())
		}
		for _, p := range jpki.PINs {
			has = append(has, p.ID.String())
		}
		for _, k := range jpki.Keys {
			has = append(has, k.ID.String())
		}
		slices.Sort(has)
		if img.Application(vcard.AIDSurface()) != nil {
			has = append(has, "surface")
		}
		if got := strings.Join(has, " "); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
		if (img.CardKey() != nil) != strings.HasSuffix(want, "surface") {
			t.Errorf("%s: card key %v", kind, img.CardKey())
		}
	}
	if len(variants) != 6 {
		t.Error("a kind is not looked at")
	}
}

func TestSIMsHaveACAOfTheirOwn(t *testing.T) {
	a, img := authority(t, "authority.json"), image(t, "sim.json")
	if err := verifyUnder(t, a.SIMCACertificate(), img, day); err != nil {
		t.Error(err)
	}
	if err := verify(t, a, img, day); err == nil {
		t.Error("the CA of the cards vouches for a SIM")
	}
	if bytes.Equal(a.SIMCACertificate().RawSubject, userCAName) {
		t.Error("the CA of the SIMs has the name of J-LIS")
	}
	if !bytes.Equal(img.Application(vcard.AIDJPKI()).File(0x000B).Content, a.SIMCACertificate().Raw) {
		t.Error("the SIM carries the certificate of another CA")
	}
}

func TestNextGenerationIsP384(t *testing.T) {
	a, img := authority(t, "authority.json"), image(t, "next-generation.json")
	if err := verifyUnder(t, a.NextCACertificate(), img, day.AddDate(9, 0, 0)); err != nil {
		t.Error(err)
	}
	if err := verify(t, a, img, day); err == nil {
		t.Error("the CA of this generation vouches for the next")
	}
	leaf, err := x509.ParseCertificate(img.AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	if leaf.SignatureAlgorithm != x509.ECDSAWithSHA384 || !bytes.Equal(leaf.RawIssuer, userCAName) {
		t.Errorf("%v by %s", leaf.SignatureAlgorithm, leaf.Issuer)
	}
	for _, key := range []any{img.AuthenticationKey(), img.CardKey(), a.NextCACertificate().PublicKey} {
		if k, ok := key.(*ecdsa.PublicKey); !ok || k.Params().Name != "P-384" {
			t.Errorf("key is %T", key)
		}
	}
	if !equal(img.AuthenticationKey(), leaf.PublicKey) {
		t.Error("certificate and key EF do not belong together")
	}
	// The age record and its certificate hold RSA keys only.
	if surface := img.Application(vcard.AIDSurface()); len(surface.Files) != 0 || len(surface.PINs) != 0 {
		t.Error("a card-surface file of this generation")
	}
}

func TestCardWithoutCertificateSaysSo(t *testing.T) {
	for name, size := range map[string]int{"no-certificate.json": 0, "empty-certificate.json": 0x0700} {
		jpki := image(t, name).Application(vcard.AIDJPKI())
		if got := jpki.File(0x0008).Content; !bytes.Equal(got, []byte{0x8F, 0x00, 0x00}) {
			t.Errorf("%s: EF 0008 is %X", name, got)
		}
		if f := jpki.File(0x000A); (f != nil) != (size > 0) || f != nil && (f.Size != size || len(f.Content) != 0) {
			t.Errorf("%s: EF 000A is %v", name, f)
		}
	}
}

func TestBlockedPINsHaveNoTry(t *testing.T) {
	card := image(t, "good.json")
	pins := []vcard.FileID{0x0018, 0x0011}
	img, err := Block(card, pins...)
	if err != nil {
		t.Fatal(err)
	}
	for i, app := range img.Applications {
		for j, pin := range app.PINs {
			if blocked := slices.Contains(pins, pin.ID); (pin.Left == 0) != blocked {
				t.Errorf("%v: %d tries", pin.ID, pin.Left)
			}
			if was := card.Applications[i].PINs[j]; was.Left != was.Limit {
				t.Errorf("%v of the card that was copied: %d tries", pin.ID, was.Left)
			}
		}
	}
	if _, err := Block(card, 0x0099); err == nil {
		t.Error("a PIN that is not there was blocked")
	}
}

// ATRs that pcsc_scan and vendors' manuals show in public.
func TestStorageMediaHaveTheATROfPCSC(t *testing.T) {
	for kind, atr := range map[vcard.Kind]string{
		vcard.KindFeliCa:     "3B8F8001804F0CA00000030611003B0000000042",
		vcard.KindClassic:    "3B8F8001804F0CA000000306030001000000006A",
		vcard.KindUltralight: "3B8F8001804F0CA0000003060300030000000068",
	} {
		img, err := Foreign(kind)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(img.ATR, unhex(atr)) {
			t.Errorf("%s: ATR %X, want %s", kind, []byte(img.ATR), atr)
		}
	}
}

// Every kind is made by one of the two, and by one only.
func TestEveryKindIsMadeSomewhere(t *testing.T) {
	a := authority(t, "authority.json")
	for _, kind := range vcard.Kinds() {
		_, isJPKI := variants[kind]
		img, err := Foreign(kind)
		if (err == nil) == isJPKI {
			t.Errorf("%s: %v", kind, err)
		}
		if isJPKI {
			continue
		}
		if img.Application(vcard.AIDJPKI()) != nil || img.Application(vcard.AIDSurface()) != nil {
			t.Errorf("%s has an application of ours", kind)
		}
		if _, err := vcard.New(img, vcard.Options{}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := a.Card(CardOptions{Kind: kind}); err == nil {
			t.Errorf("%s became a JPKI card", kind)
		}
	}
}
