// Command cards writes the fixed card images of testdata/cards. Keys that are
// there already are kept, so that vectors made with them stay true; everything
// else is made anew from package perso.
//
// Run it from the top of the repository: go run ./testdata/gen/cards
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

const dir = "testdata/cards"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cards:", err)
		os.Exit(1)
	}
}

func run() error {
	if err := terminalKey(); err != nil {
		return err
	}
	ours, err := authority("authority.json")
	if err != nil {
		return err
	}
	foreign, err := authority("foreign-authority.json")
	if err != nil {
		return err
	}

	day := func(year, month, day int) time.Time {
		return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	}
	good := perso.CardOptions{
		NotBefore: day(2026, 1, 15), NotAfter: day(2031, 4, 1), BirthDate: day(1990, 4, 1),
		Serial: 0x12345678, SubjectID: "TEST0000000000000000001", NumberB: "02040120310001",
	}
	with := func(kind vcard.Kind, serial uint32, subject string) perso.CardOptions {
		opt := good
		opt.Kind, opt.Serial, opt.SubjectID = kind, serial, subject
		return opt
	}
	expired := with(vcard.KindCard, 0x22345678, "TEST0000000000000000002")
	expired.NotBefore, expired.NotAfter = day(2025, 5, 1), day(2026, 3, 31)

	next := with(vcard.KindNextGeneration, 0x62345678, "TEST0000000000000000006")
	next.NotAfter = day(2036, 4, 1)
	// Both ways to have no certificate, in two files.
	noFile := with(vcard.KindCard, 0x72345678, "TEST0000000000000000007")
	noFile.NoCertificate = perso.NoFile
	filler := noFile
	filler.NoCertificate = perso.FillerOnly
	blocked := with(vcard.KindCard, 0x23456789, "TEST0000000000000000008")
	blockedBirth := with(vcard.KindCard, 0x33456789, "TEST0000000000000000009")
	withBlocked := func(pins ...vcard.FileID) func(perso.CardOptions) (*vcard.Image, error) {
		return func(opt perso.CardOptions) (*vcard.Image, error) {
			img, err := ours.Card(opt)
			if err != nil {
				return nil, err
			}
			return perso.Block(img, pins...)
		}
	}
	juki := with(vcard.KindJuki, 0x43456789, "TEST0000000000000000010")
	juki.NotBefore, juki.NotAfter = day(2026, 1, 15), day(2029, 1, 14)

	victim, err := image("good.json", good, ours.Card)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		opt  perso.CardOptions
		make func(perso.CardOptions) (*vcard.Image, error)
	}{
		{"expired.json", expired, ours.Card},
		{"android.json", with(vcard.KindPhoneAndroid, 0x32345678, "TEST0000000000000000003"), ours.Card},
		{"iphone.json", with(vcard.KindPhoneIPhone, 0x42345678, "TEST0000000000000000004"), ours.Card},
		{"sim.json", with(vcard.KindSIM, 0x52345678, "TEST0000000000000000005"), ours.Card},
		{"next-generation.json", next, ours.Card},
		{"juki.json", juki, ours.Card},
		{"no-certificate.json", noFile, ours.Card},
		{"empty-certificate.json", filler, ours.Card},
		{"blocked-pin.json", blocked, withBlocked(0x0018, 0x001B)},
		{"blocked-birth-date.json", blockedBirth, withBlocked(0x0011)},
		{"copied.json", good, func(opt perso.CardOptions) (*vcard.Image, error) {
			if opt.AuthenticationKey == nil {
				other, err := ours.Card(perso.CardOptions{})
				if err != nil {
					return nil, err
				}
				opt.AuthenticationKey = other.Application(vcard.AIDJPKI()).Keys[0].Private.Signer
				opt.CardKey = other.Application(vcard.AIDSurface()).InternalKey.Signer
			}
			return perso.Copy(victim, opt.AuthenticationKey, opt.CardKey)
		}},
		{"forged.json", good, func(opt perso.CardOptions) (*vcard.Image, error) {
			return foreign.Forge(victim, opt)
		}},
	} {
		if _, err := image(c.name, c.opt, c.make); err != nil {
			return err
		}
	}
	for name, kind := range map[string]vcard.Kind{
		"emv.json": vcard.KindEMV, "licence.json": vcard.KindLicence, "passport.json": vcard.KindPassport, "foreign.json": vcard.KindForeign,
		"felica.json": vcard.KindFeliCa, "mifare-classic.json": vcard.KindClassic, "mifare-ultralight.json": vcard.KindUltralight,
	} {
		if _, err := image(name, perso.CardOptions{}, func(perso.CardOptions) (*vcard.Image, error) { return perso.Foreign(kind) }); err != nil {
			return err
		}
	}
	return pivCard("piv.json", perso.PIVOptions{NotBefore: good.NotBefore, NotAfter: good.NotAfter})
}

// pivCard makes and writes a PIV card, with the keys that its file holds already.
func pivCard(name string, opt perso.PIVOptions) error {
	opt.Keys = map[vcard.FileID]crypto.Signer{}
	_, err := image(name, perso.CardOptions{}, func(perso.CardOptions) (*vcard.Image, error) { return perso.PIV(opt) }, func(old *vcard.Image) {
		for _, k := range old.Applications[0].Keys {
			opt.Keys[k.ID] = k.Private.Signer
		}
	})
	return err
}

// image makes and writes one image with the keys that its file holds already;
// without a file, perso makes them. kept gets the image of that file, for keys of
// other applications.
func image(name string, opt perso.CardOptions, makeImage func(perso.CardOptions) (*vcard.Image, error), kept ...func(*vcard.Image)) (*vcard.Image, error) {
	path := filepath.Join(dir, name)
	old, err := os.ReadFile(path)
	switch {
	case err == nil:
		img, err := vcard.ParseImage(old)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, keep := range kept {
			keep(img)
		}
		if jpki := img.Application(vcard.AIDJPKI()); jpki != nil {
			for _, k := range jpki.Keys {
				if k.ID == 0x0017 {
					opt.AuthenticationKey = k.Private.Signer
				}
			}
		}
		if surface := img.Application(vcard.AIDSurface()); surface != nil {
			opt.CardKey = surface.InternalKey.Signer
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	img, err := makeImage(opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b, err := img.Encode()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, os.WriteFile(path, b, 0o644)
}

// authority reads a hierarchy, or makes and writes it. What a file of an older
// version lacks is taken from a new hierarchy; what it has stays.
func authority(name string) (*perso.Authority, error) {
	path := filepath.Join(dir, name)
	old, err := os.ReadFile(path)
	if err == nil {
		if a, err := perso.ParseAuthority(old); err == nil {
			return a, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a, err := perso.NewAuthority(nil, time.Date(2025, 4, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		return nil, err
	}
	b, err := a.Encode()
	if err != nil {
		return nil, err
	}
	if old != nil {
		members := map[string]json.RawMessage{}
		for _, file := range [][]byte{b, old} { // the old members win
			if err := json.Unmarshal(file, &members); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		if b, err = json.Marshal(members); err != nil {
			return nil, err
		}
		if a, err = perso.ParseAuthority(b); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if b, err = a.Encode(); err != nil {
			return nil, err
		}
	}
	return a, os.WriteFile(path, b, 0o644)
}

// terminalKey makes the external-authentication key of the vectors.
func terminalKey() error {
	path := filepath.Join(dir, "terminal.pem")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o644)
}
