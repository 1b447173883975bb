package jpki_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

func inspect(t testing.TB, medium nfc.Transmitter) (jpki.Info, error) {
	t.Helper()
	return newTerminal(t).dialogue(t, jpki.DefaultProfile()).Inspect(t.Context(), "slot", nfc.NewChannel(medium))
}

func TestInspectTellsWhatACardGivesFreely(t *testing.T) {
	a := authority(t, "authority.json")
	for _, c := range []struct {
		image, token string
		pin, surface bool
	}{
		{"good.json", "JPKIAPICCTOKEN2", false, true},
		{"android.json", "JPKIAPGPSETOKEN", true, false},
		{"iphone.json", "JPKIAPIOSTOKEN", true, false},
		{"sim.json", "", false, false}, // its label is a model's, not compared
	} {
		for name, opt := range map[string]vcard.Options{
			"plain":              {},
			"no extended length": {NoExtendedLength: true},
			"in parts":           {FirstCommandFails: true, ExactLe: true, ResponsePart: 50},
		} {
			t.Run(c.image+"/"+name, func(t *testing.T) {
				img := image(t, c.image)
				r := &recorder{Transmitter: newCard(t, img, opt)}
				info, err := inspect(t, r)
				if err != nil {
					t.Fatal(err)
				}
				if c.token != "" && info.Token != c.token {
					t.Errorf("token %q, want %q", info.Token, c.token)
				}
				if !bytes.Equal(info.CertificatesMarked, img.Application(vcard.AIDJPKI()).File(0x0008).Content) || len(info.CertificatesMarked) != 3 {
					t.Errorf("certificates marked %X", info.CertificatesMarked)
				}
				if info.PINRequired != c.pin {
					t.Errorf("PIN required: %v", info.PINRequired)
				}
				if want := img.AuthenticationCertificate(); c.pin && info.Certificate != nil || !c.pin && !bytes.Equal(info.Certificate, want) {
					t.Errorf("certificate of %d bytes", len(info.Certificate))
				}
				ca := a.CACertificate()
				if c.image == "sim.json" { // its own
					ca = a.SIMCACertificate()
				}
				if !bytes.Equal(info.CACertificate, ca.Raw) {
					t.Errorf("CA certificate of %d bytes", len(info.CACertificate))
				}
				if info.CardSurface != c.surface || (info.SurfaceCertificate != nil) != c.surface {
					t.Errorf("card surface: %v, certificate of %d bytes", info.CardSurface, len(info.SurfaceCertificate))
				}
				if c.surface {
					if _, err := cardauth.ParseCVCertificate(info.SurfaceCertificate); err != nil {
						t.Error(err)
					}
				}
				for _, capdu := range r.commands {
					if ins := capdu[1]; ins != 0xA4 && ins != 0xB0 && ins != 0xC0 {
						t.Errorf("command %X neither selects nor reads", capdu)
					}
				}
			})
		}
	}
}

func TestInspectEndsWhenTheCardLeaves(t *testing.T) {
	r := &recorder{Transmitter: good(t)}
	if _, err := inspect(t, r); err != nil {
		t.Fatal(err)
	}
	for at := range r.commands {
		counter := &recorder{Transmitter: nfctest.Pulled(good(t), at+1)}
		if _, err := inspect(t, counter); !errors.Is(err, nfc.ErrRemoved) || len(counter.commands) != at+1 {
			t.Errorf("left before command %d: error %v after %d commands", at+1, err, len(counter.commands))
		}
	}
}

func TestInspectOfAForeignCard(t *testing.T) {
	foreign := bend(good(t), func(_ int, capdu []byte) []byte {
		if capdu[1] == 0xA4 {
			return []byte{0x6A, 0x82}
		}
		return nil
	})
	if _, err := inspect(t, foreign); !errors.Is(err, jpki.ErrUnsupported) {
		t.Errorf("error %v, want %v", err, jpki.ErrUnsupported)
	}
}

// A card that asks for its PIN in the middle has given no certificate.
func TestInspectGivesNoHalfCertificate(t *testing.T) {
	medium := shortReads(t, bend(good(t), func(_ int, capdu []byte) []byte {
		if capdu[1] == 0xB0 && capdu[2] == 0 && capdu[3] == 100 {
			return []byte{0x69, 0x82}
		}
		return nil
	}), 100)
	info, err := inspect(t, medium)
	if err != nil {
		t.Fatal(err)
	}
	if !info.PINRequired || info.Certificate != nil {
		t.Errorf("PIN required: %v, certificate of %d bytes", info.PINRequired, len(info.Certificate))
	}
}

// A card without the certificate still tells what it is.
func TestInspectOfACardWithoutACertificate(t *testing.T) {
	for name, token := range map[string]string{
		"no-certificate.json": "JPKIAPICCTOKEN2", "empty-certificate.json": "JPKIAPICCTOKEN2", "juki.json": "JPKIAPICCTOKEN",
	} {
		info, err := inspect(t, newCard(t, image(t, name), vcard.Options{}))
		if err != nil || info.Certificate != nil || info.PINRequired || info.Token != token || info.CardSurface != (name != "juki.json") {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

// What is no certificate, or too long for one, is not read.
func TestInspectPassesOverOtherCACertificates(t *testing.T) {
	for name, content := range map[string][]byte{
		"empty":    {},
		"filler":   bytes.Repeat([]byte{0xFF}, 300),
		"too long": append([]byte{0x30, 0x82, 0x7F, 0x00}, make([]byte, 0x7F00)...),
		"cut off":  append([]byte{0x30, 0x82, 0x04, 0x00}, make([]byte, 300)...),
	} {
		img := image(t, "good.json")
		f := img.Application(vcard.AIDJPKI()).File(0x000B)
		f.Content, f.Size = content, len(content)
		info, err := inspect(t, newCard(t, img, vcard.Options{}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info.CACertificate != nil || info.Certificate == nil {
			t.Errorf("%s: CA certificate of %d bytes, certificate of %d", name, len(info.CACertificate), len(info.Certificate))
		}
	}
}

// FuzzInspect: whatever a card answers, the look at it ends, sends no value of
// a PIN, and holds no more than the files can have.
func FuzzInspect(f *testing.F) {
	var genuine []byte
	card := good(f)
	_, err := newTerminal(f).dialogue(f, jpki.DefaultProfile()).Inspect(f.Context(), "slot", nfc.NewChannel(transmit(func(ctx context.Context, capdu []byte) ([]byte, error) {
		rapdu, err := card.Transmit(ctx, capdu)
		genuine = append(binary.BigEndian.AppendUint16(genuine, uint16(len(rapdu))), rapdu...)
		return rapdu, err
	})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add([]byte{0, 3, 0xAA, 0x61, 0xFF})
	f.Fuzz(func(t *testing.T, script []byte) {
		d, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		rest, commands := script, 0
		info, _ := d.Inspect(t.Context(), "slot", nfc.NewChannel(transmit(func(_ context.Context, capdu []byte) ([]byte, error) {
			if commands++; len(capdu) > 5 && capdu[1] == 0x20 {
				t.Fatalf("VERIFY: %X", capdu)
			}
			if len(rest) < 2 {
				rest = script // begins again
			}
			if len(rest) < 2 {
				return nil, nil
			}
			n := int(binary.BigEndian.Uint16(rest))
			rest = rest[2:]
			answer := rest[:min(n, len(rest))]
			rest = rest[len(answer):]
			return answer, nil
		})))
		if commands > 16000 {
			t.Fatalf("%d commands", commands)
		}
		if n := len(info.Certificate) + len(info.CACertificate) + len(info.SurfaceCertificate) + len(info.Token); n > 3*cardauth.MaxCertificate {
			t.Fatalf("%d bytes", n)
		}
	})
}

type transmit func(context.Context, []byte) ([]byte, error)

func (f transmit) Transmit(ctx context.Context, capdu []byte) ([]byte, error) { return f(ctx, capdu) }
