package terminal_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// draftProfile is the profile of the draft of the next generation.
func draftProfile(t testing.TB) jpki.Profile {
	t.Helper()
	text, err := os.ReadFile("../testdata/profiles/next-generation.toml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := jpki.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever is held to the reader gets its answer: a card that can do the method
// opens, and everything else is told why at once. No PIN is ever sent, not even
// to ask for its tries, and no card of a stranger has the terminal's key sign.
func TestEverySortOfCardGetsItsAnswer(t *testing.T) {
	const (
		b, a = jpki.TapUse, jpki.ExternalAuth
		deny = terminal.Deny
	)
	draft := draftProfile(t)
	kind := func(k vcard.Kind) func(*rig) (*vcard.Image, error) {
		return func(r *rig) (*vcard.Image, error) { return r.Card(perso.CardOptions{Kind: k}) }
	}
	foreign := func(k vcard.Kind) func(*rig) (*vcard.Image, error) {
		return func(*rig) (*vcard.Image, error) { return perso.Foreign(k) }
	}
	without := func(how perso.Absence) func(*rig) (*vcard.Image, error) {
		return func(r *rig) (*vcard.Image, error) { return r.Card(perso.CardOptions{NoCertificate: how}) }
	}
	blocked := func(pins ...vcard.FileID) func(*rig) (*vcard.Image, error) {
		return func(r *rig) (*vcard.Image, error) {
			img, err := r.Card(perso.CardOptions{})
			if err != nil {
				return nil, err
			}
			return perso.Block(img, pins...)
		}
	}
	word := func(sw ...byte) func(*rig) (*vcard.Image, error) {
		return func(*rig) (*vcard.Image, error) {
			img, err := perso.Foreign(vcard.KindForeign)
			if err == nil {
				img.Answer = sw
			}
			return img, err
		}
	}
	builtin := jpki.DefaultProfile()
	for _, c := range []struct {
		name     string
		image    func(*rig) (*vcard.Image, error)
		method   jpki.Method
		profile  jpki.Profile
		verdict  terminal.Verdict
		reason   terminal.Reason
		commands int // at most
	}{
		{"Android", kind(vcard.KindPhoneAndroid), b, builtin, deny, terminal.PINRequired, 2},
		{"Android", kind(vcard.KindPhoneAndroid), a, builtin, deny, terminal.PINRequired, 2},
		{"iPhone", kind(vcard.KindPhoneIPhone), b, builtin, deny, terminal.PINRequired, 2},
		{"iPhone", kind(vcard.KindPhoneIPhone), a, builtin, deny, terminal.PINRequired, 2},
		{"SIM", kind(vcard.KindSIM), b, builtin, deny, terminal.CardUnsupported, 3},
		{"SIM", kind(vcard.KindSIM), a, builtin, terminal.Admit, terminal.OK, 10},
		{"juki", kind(vcard.KindJuki), b, builtin, deny, terminal.CardUnsupported, 2},
		{"juki", kind(vcard.KindJuki), a, builtin, deny, terminal.CardUnsupported, 2},
		{"no certificate file", without(perso.NoFile), b, builtin, deny, terminal.CardUnsupported, 2},
		{"no certificate file", without(perso.NoFile), a, builtin, deny, terminal.CardUnsupported, 2},
		{"empty certificate file", without(perso.FillerOnly), b, builtin, deny, terminal.CardUnsupported, 2},
		{"empty certificate file", without(perso.FillerOnly), a, builtin, deny, terminal.CardUnsupported, 2},
		{"PIN and password blocked", blocked(0x0018, 0x001B), b, builtin, terminal.Admit, terminal.OK, 4},
		{"PIN and password blocked", blocked(0x0018, 0x001B), a, builtin, terminal.Admit, terminal.OK, 10},
		{"birth date blocked", blocked(0x0011), b, builtin, terminal.Admit, terminal.OK, 4},
		{"birth date blocked", blocked(0x0011), a, builtin, terminal.Admit, terminal.OK, 10},
		{"next generation", kind(vcard.KindNextGeneration), b, draft, terminal.Admit, terminal.OK, 4},
		{"next generation", kind(vcard.KindNextGeneration), a, draft, terminal.Admit, terminal.OK, 10},
		{"next generation, by today's profile", kind(vcard.KindNextGeneration), b, builtin, deny, terminal.AuthFailed, 4},
		{"next generation, by today's profile", kind(vcard.KindNextGeneration), a, builtin, deny, terminal.AuthFailed, 10},
		{"today's card, by the draft", kind(vcard.KindCard), b, draft, deny, terminal.AuthFailed, 4},
		{"today's card, by the draft", kind(vcard.KindCard), a, draft, deny, terminal.AuthFailed, 10},
		{"payment card", foreign(vcard.KindEMV), b, builtin, deny, terminal.CardUnsupported, 1},
		{"payment card", foreign(vcard.KindEMV), a, builtin, deny, terminal.CardUnsupported, 1},
		{"driving licence", foreign(vcard.KindLicence), b, builtin, deny, terminal.CardUnsupported, 1},
		{"passport", foreign(vcard.KindPassport), b, builtin, deny, terminal.CardUnsupported, 1},
		{"FeliCa", foreign(vcard.KindFeliCa), b, builtin, deny, terminal.CardUnsupported, 1},
		{"FeliCa", foreign(vcard.KindFeliCa), a, builtin, deny, terminal.CardUnsupported, 1},
		{"MIFARE Classic", foreign(vcard.KindClassic), b, builtin, deny, terminal.CardUnsupported, 1},
		{"MIFARE Ultralight", foreign(vcard.KindUltralight), b, builtin, deny, terminal.CardUnsupported, 1},
		{"class not supported", word(0x6E, 0x00), b, builtin, deny, terminal.CardUnsupported, 1},
		{"applet selection failed", word(0x69, 0x99), b, builtin, deny, terminal.CardUnsupported, 1},
		{"logical channel not supported", word(0x68, 0x81), a, builtin, deny, terminal.CardUnsupported, 1},
		{"no precise diagnosis", word(0x6F, 0x00), b, builtin, deny, terminal.CardUnsupported, 2}, // the first command is repeated
	} {
		t.Run(fmt.Sprintf("%s/%s", c.name, c.method), func(t *testing.T) {
			r := newRig(t, methods(c.method), func(r *rig, config *terminal.Config, p *terminal.Parts) {
				config.FirstUse = c.profile.FirstUse != nil
				key, err := r.ExternalAuthKey(r.signer)
				if err != nil {
					t.Fatal(err)
				}
				if p.Dialogue, err = jpki.NewDialogue(c.profile, key, nil); err != nil {
					t.Fatal(err)
				}
			})
			img, err := c.image(r)
			if err != nil {
				t.Fatal(err)
			}
			r.list(t, img, nil)
			d := r.tapQuietly(t, img)
			if d.Verdict != c.verdict || d.Reason != c.reason {
				t.Errorf("%v %s (%v), want %v %s", d.Verdict, d.Reason, d.Cause, c.verdict, c.reason)
			}
			if d.Commands > c.commands {
				t.Errorf("%d commands, want at most %d", d.Commands, c.commands)
			}
			if c.verdict == deny {
				r.wantShut(t, d, c.reason)
			}
			if c.reason == terminal.CardUnsupported && r.signer.n.Load() != 0 {
				t.Error("the terminal's key signed")
			}
		})
	}
}

// Method A without a registered key trusts a SIM by the CA of the SIMs, and a
// card of the next generation by the CA of that: each by its own and no other.
func TestChainsOfEverySortOfCard(t *testing.T) {
	for kind, own := range map[vcard.Kind]int{vcard.KindCard: 0, vcard.KindSIM: 1, vcard.KindNextGeneration: 2} {
		for _, trusted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/trusted %v", kind, trusted), func(t *testing.T) {
				r := newRig(t, methods(jpki.ExternalAuth), func(r *rig, c *terminal.Config, p *terminal.Parts) {
					anchors := r.Anchors()
					if trusted {
						c.Anchors = anchors[own : own+1]
					} else {
						c.Anchors = slices.Delete(slices.Clone(anchors), own, own+1)
					}
					if kind == vcard.KindNextGeneration {
						c.FirstUse = false // the draft has none
						var err error
						if p.Dialogue, err = r.Dialogue(draftProfile(t)); err != nil {
							t.Fatal(err)
						}
					}
				})
				img, err := r.Card(perso.CardOptions{Kind: kind})
				if err != nil {
					t.Fatal(err)
				}
				r.list(t, img, func(row *whitelist.Row) { row.AuthKey, row.CardKey = cardkey.Key{}, cardkey.Key{} })
				d := r.tapQuietly(t, img)
				if trusted && !d.Admitted() {
					t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
				}
				if !trusted {
					r.wantShut(t, d, terminal.CertUntrusted)
				}
			})
		}
	}
}

// The next generation has no age record in a form that is known: first use ends
// before the birth date is sent.
func TestNextGenerationHasNoFirstUse(t *testing.T) {
	profile := draftProfile(t)
	profile.FirstUse = jpki.DefaultProfile().FirstUse
	r := newRig(t, methods(jpki.TapUse), func(r *rig, c *terminal.Config, p *terminal.Parts) {
		c.FirstUse = true
		var err error
		if p.Dialogue, err = r.Dialogue(profile); err != nil {
			t.Fatal(err)
		}
	})
	img, err := r.Card(perso.CardOptions{Kind: vcard.KindNextGeneration})
	if err != nil {
		t.Fatal(err)
	}
	r.list(t, img, func(row *whitelist.Row) { row.CardKey, row.BirthDate = cardkey.Key{}, "19900401" })
	r.wantShut(t, r.tapQuietly(t, img), terminal.CardUnsupported)
}

// list puts the registration of a card in force beside the others, when it has a
// certificate to register.
func (r *rig) list(t testing.TB, img *vcard.Image, change func(*whitelist.Row)) {
	t.Helper()
	if img.AuthenticationCertificate() == nil {
		return
	}
	row, err := r.Row(img, "ticket-of-another-sort")
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&row.Row)
	}
	m := r.Manifest
	m.Seq++
	r.load(t, m, append(slices.Clone(r.rows), row)...)
}

// tapQuietly presents a card and fails when a VERIFY was sent, or when a PIN has
// other tries than before.
func (r *rig) tapQuietly(t testing.TB, img *vcard.Image) terminal.Decision {
	t.Helper()
	c := card(t, img, vcard.Options{})
	d := r.tap(t, bend(c, func(_ context.Context, _ int, capdu []byte) ([]byte, error, bool) {
		if len(capdu) > 1 && capdu[1] == 0x20 {
			t.Errorf("VERIFY was sent: %X", capdu)
		}
		return nil, nil, false
	}))
	c.PowerOff()
	c.PowerOn()
	for _, app := range img.Applications {
		exchange(t, c, append([]byte{0x00, 0xA4, 0x04, 0x0C, byte(len(app.AID))}, app.AID...))
		for _, pin := range app.PINs {
			want := []byte{0x63, 0xC0 | byte(pin.Left)}
			if got := exchange(t, c, []byte{0x00, 0x20, 0x00, 0x80 | byte(pin.ID)&0x1F}); !bytes.Equal(got, want) {
				t.Errorf("PIN %v answers %X, want %X", pin.ID, got, want)
			}
		}
	}
	return d
}

func exchange(t testing.TB, c *vcard.Card, capdu []byte) []byte {
	t.Helper()
	rapdu, err := c.Transmit(t.Context(), capdu)
	if err != nil {
		t.Fatal(err)
	}
	return rapdu
}

// Method A without a registered key needs an anchor; where the terminal has none
// the next method has its turn.
func TestRowWithoutAKeyForMethodAIsLeftToTheNextMethod(t *testing.T) {
	r := newRig(t, methods(jpki.ExternalAuth, jpki.TapUse), func(_ *rig, c *terminal.Config, _ *terminal.Parts) {
		c.Anchors, c.FirstUse = nil, false
	})
	img, listed := r.newCard(t, "ticket-card-key", perso.CardOptions{})
	listed.Row.AuthKey = cardkey.Key{}
	m := r.Manifest
	m.Seq++
	r.load(t, m, listed)
	if d := r.tap(t, card(t, img, vcard.Options{})); !d.Admitted() || d.Method != jpki.TapUse || d.TerminalSignatures != 0 {
		t.Errorf("%v %s by %s (%v)", d.Verdict, d.Reason, d.Method, d.Cause)
	}
}
