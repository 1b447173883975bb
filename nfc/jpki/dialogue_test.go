package jpki_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// What a tap costs on the air. A person waits for each of these commands and
// bytes: a change that adds some has to say so here.
func TestTapCostsNoMoreThanThis(t *testing.T) {
	for _, c := range []struct {
		name       string
		method     jpki.Method
		check      bool
		want       nfc.Stats
		signatures int
	}{
		{"registered card key", jpki.TapUse, false, nfc.Stats{Commands: 4, Bytes: 612}, 0},
		{"registered authentication key", jpki.ExternalAuth, false, nfc.Stats{Commands: 10, Bytes: 2061}, 1},
		{"key not registered", jpki.ExternalAuth, true, nfc.Stats{Commands: 11, Bytes: 2061 + 7 + 1327 + 2}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			term, img := newTerminal(t), image(t, "good.json")
			var certified cardkey.Key
			resolve := registered(c.method)
			if c.check {
				resolve = chained(t, c.method, &certified)
			}
			e, stats, err := term.tap(t, newCard(t, img, vcard.Options{}), resolve)
			if err != nil {
				t.Fatal(err)
			}
			prove(t, e, img)
			if stats != c.want {
				t.Errorf("%+v, want %+v", stats, c.want)
			}
			if term.signer.signatures != c.signatures || e.TerminalSignatures != c.signatures {
				t.Errorf("the terminal's key made %d signatures, evidence says %d, want %d", term.signer.signatures, e.TerminalSignatures, c.signatures)
			}
			if c.check && !certified.Equal(authenticationKey(t, img)) {
				t.Error("another key was certified")
			}
		})
	}
}

// Otherwise anybody could have a card's challenge signed by holding it to a
// gate.
func TestTerminalSignsNothingForAnUnlistedCard(t *testing.T) {
	term := newTerminal(t)
	notListed := errors.New("not listed")
	e, stats, err := term.tap(t, good(t), func(cardauth.Head) (jpki.Expected, error) { return jpki.Expected{}, notListed })
	if err != notListed {
		t.Errorf("error %v, want it as Resolve gave it", err)
	}
	if stats.Commands != 2 || term.signer.signatures != 0 || e.TerminalSignatures != 0 {
		t.Errorf("%d commands, %d signatures", stats.Commands, term.signer.signatures)
	}
	if !cardauth.SameHead(e.Head, image(t, "good.json").AuthenticationCertificate()) {
		t.Error("the head that was not listed is not told")
	}
}

func TestTerminalSignsNothingForAWrongCA(t *testing.T) {
	term := newTerminal(t)
	var key cardkey.Key
	_, stats, err := term.tap(t, newCard(t, image(t, "forged.json"), vcard.Options{}), chained(t, jpki.ExternalAuth, &key))
	if !errors.Is(err, cardauth.ErrUntrusted) {
		t.Errorf("error %v", err)
	}
	if stats.Commands != 3 || term.signer.signatures != 0 {
		t.Errorf("%d commands, %d signatures", stats.Commands, term.signer.signatures)
	}
}

// A copied card has the head and another key.
func TestCopiedCardProvesNothing(t *testing.T) {
	for _, method := range methods {
		e, _, err := newTerminal(t).tap(t, newCard(t, image(t, "copied.json"), vcard.Options{}), registered(method))
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		img := image(t, "good.json")
		for _, key := range []cardkey.Key{cardKey(t, img), authenticationKey(t, img)} {
			proof := cardauth.Proof{Head: e.Head, Challenge: challenge, Signature: e.Signature, Scheme: e.Scheme}
			if _, err := cardauth.Verify(proof, key, at); !errors.Is(err, cardauth.ErrNotGenuine) {
				t.Errorf("%s: error %v", method, err)
			}
		}
	}
}

func TestCardsThatDifferProveThemselves(t *testing.T) {
	for name, opt := range map[string]vcard.Options{
		"first command fails":  {FirstCommandFails: true},
		"GET RESPONSE":         {GetResponse: true},
		"responses in parts":   {ResponsePart: 96},
		"exact Le":             {ExactLe: true},
		"all of them":          {FirstCommandFails: true, GetResponse: true, ResponsePart: 7, ExactLe: true},
		"no extended length":   {NoExtendedLength: true},
		"all, and no extended": {FirstCommandFails: true, GetResponse: true, ResponsePart: 255, ExactLe: true, NoExtendedLength: true},
	} {
		for _, check := range []bool{false, true} {
			for _, method := range methods {
				t.Run(fmt.Sprintf("%s/%s/%v", name, method, check), func(t *testing.T) {
					img := image(t, "good.json")
					var key cardkey.Key
					resolve := registered(method)
					if check {
						resolve = chained(t, method, &key)
					}
					term := newTerminal(t)
					e, _, err := term.tap(t, newCard(t, img, opt), resolve)
					if opt.NoExtendedLength && method == jpki.ExternalAuth {
						if !errors.Is(err, jpki.ErrUnsupported) || term.signer.signatures != 0 {
							t.Errorf("error %v, %d signatures, want %v", err, term.signer.signatures, jpki.ErrUnsupported)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					prove(t, e, img)
				})
			}
		}
	}
}

// Each image of testdata/cards that is no plain card, with what its dialogue ends
// with by either method, and after how many commands.
func TestEverySortOfCard(t *testing.T) {
	text, err := os.ReadFile("../../testdata/profiles/next-generation.toml")
	if err != nil {
		t.Fatal(err)
	}
	draft, err := jpki.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	builtin := jpki.DefaultProfile()
	type end struct {
		err      error
		commands int
	}
	for _, c := range []struct {
		image       string
		profile     jpki.Profile
		tap, extern end
	}{
		{"android.json", builtin, end{jpki.ErrPINRequired, 2}, end{jpki.ErrPINRequired, 2}},
		{"iphone.json", builtin, end{jpki.ErrPINRequired, 2}, end{jpki.ErrPINRequired, 2}},
		{"sim.json", builtin, end{jpki.ErrUnsupported, 3}, end{nil, 10}},
		{"juki.json", builtin, end{jpki.ErrUnsupported, 2}, end{jpki.ErrUnsupported, 2}},
		{"no-certificate.json", builtin, end{jpki.ErrUnsupported, 2}, end{jpki.ErrUnsupported, 2}},
		{"empty-certificate.json", builtin, end{jpki.ErrUnsupported, 2}, end{jpki.ErrUnsupported, 2}},
		{"blocked-pin.json", builtin, end{nil, 4}, end{nil, 10}},
		{"blocked-birth-date.json", builtin, end{nil, 4}, end{nil, 10}},
		{"next-generation.json", draft, end{nil, 4}, end{nil, 10}},
		{"next-generation.json", builtin, end{jpki.ErrRefused, 4}, end{jpki.ErrRefused, 10}},
		{"good.json", draft, end{jpki.ErrRefused, 4}, end{jpki.ErrRefused, 10}},
		{"emv.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
		{"licence.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
		{"passport.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
		{"foreign.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
		{"felica.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
		{"mifare-classic.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
		{"mifare-ultralight.json", builtin, end{jpki.ErrUnsupported, 1}, end{jpki.ErrUnsupported, 1}},
	} {
		for method, want := range map[jpki.Method]end{jpki.TapUse: c.tap, jpki.ExternalAuth: c.extern} {
			img := image(t, c.image)
			d := newTerminal(t).dialogue(t, c.profile)
			e, stats, err := tap(t, d, newCard(t, img, vcard.Options{}), registered(method))
			if !errors.Is(err, want.err) || stats.Commands != want.commands {
				t.Errorf("%s, %s, %s: %d commands, error %v, want %d, %v", c.image, c.profile.Name, method, stats.Commands, err, want.commands, want.err)
			}
			if err == nil {
				prove(t, e, img)
			}
		}
	}
}

type brokenSigner struct{ *rsa.PrivateKey }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("token is gone")
}

func TestBrokenTerminalKeyIsNotTheCardsFault(t *testing.T) {
	term := newTerminal(t)
	var err error
	if term.key, err = jpki.NewTerminalKey(brokenSigner{term.signer.PrivateKey}, term.certificates...); err != nil {
		t.Fatal(err)
	}
	_, _, err = term.tap(t, good(t), registered(jpki.ExternalAuth))
	wantClass(t, err, jpki.ErrTerminalKey)
}

func TestTerminalWithoutKeyHasNoMethodA(t *testing.T) {
	d, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if d.CanExternalAuth() || !newTerminal(t).dialogue(t, jpki.DefaultProfile()).CanExternalAuth() {
		t.Error("CanExternalAuth does not tell whether there is a key")
	}
	if _, stats, err := tap(t, d, good(t), registered(jpki.ExternalAuth)); err == nil || stats.Commands != 2 {
		t.Errorf("error %v after %d commands", err, stats.Commands)
	}
	img := image(t, "good.json")
	e, _, err := tap(t, d, newCard(t, img, vcard.Options{}), registered(jpki.TapUse))
	if err != nil {
		t.Fatal(err)
	}
	prove(t, e, img)
}

func TestUnknownMethodIsRefused(t *testing.T) {
	for _, method := range []jpki.Method{"", "pin"} {
		if _, stats, err := newTerminal(t).tap(t, good(t), registered(method)); err == nil || stats.Commands != 2 {
			t.Errorf("%q: error %v after %d commands", method, err, stats.Commands)
		}
	}
}

func TestTerminalKeysThatACardWouldRefuse(t *testing.T) {
	term := newTerminal(t)
	foreign := certify(t, authority(t, "foreign-authority.json"), &term.signer.PublicKey)
	img := image(t, "good.json")
	var other crypto.Signer
	for _, k := range img.Application(vcard.AIDJPKI()).Keys {
		other = k.Private.Signer
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := term.certificates
	for name, c := range map[string]struct {
		signer crypto.Signer
		chain  []cardauth.CVCertificate
	}{
		"no certificate":                  {term.signer, nil},
		"another key":                     {other, own},
		"no RSA key":                      {edwards, own},
		"certificates swapped":            {term.signer, []cardauth.CVCertificate{own[1], own[0]}},
		"intermediate alone":              {term.signer, own[:1]},
		"intermediate of another CA":      {term.signer, []cardauth.CVCertificate{foreign[0], own[1]}},
		"terminal twice":                  {term.signer, []cardauth.CVCertificate{own[0], own[1], own[1]}},
		"terminal certificate of another": {term.signer, []cardauth.CVCertificate{own[0], foreign[1]}},
	} {
		if _, err := jpki.NewTerminalKey(c.signer, c.chain...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}

	// The last certificate alone is a chain, but not one of this profile.
	one, err := jpki.NewTerminalKey(term.signer, own[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jpki.NewDialogue(jpki.DefaultProfile(), one, rand.Reader); err == nil {
		t.Error("a chain of one was accepted where the profile wants two")
	}
}

// Several lanes share a Dialogue.
func TestDialoguesRunAtTheSameTime(t *testing.T) {
	d := newTerminal(t).dialogue(t, jpki.DefaultProfile())
	img := image(t, "good.json")
	errs := make(chan error)
	const lanes = 4
	for i := range lanes {
		card := newCard(t, img, vcard.Options{NoExtendedLength: i%2 == 0})
		resolve := chained(t, jpki.TapUse, new(cardkey.Key))
		go func() {
			_, err := d.Run(t.Context(), "slot", nfc.NewChannel(card), resolve)
			errs <- err
		}()
	}
	for range lanes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// No step sends a PIN, whatever a card answers.
func TestNoPINIsEverSent(t *testing.T) {
	term := newTerminal(t)
	for _, name := range []string{"good.json", "android.json", "iphone.json", "sim.json", "forged.json"} {
		for _, method := range methods {
			r := &recorder{Transmitter: newCard(t, image(t, name), vcard.Options{})}
			_, _, _ = term.tap(t, r, chained(t, method, new(cardkey.Key)))
			if len(r.commands) == 0 {
				t.Fatal("nothing was sent")
			}
			if i := slices.IndexFunc(r.commands, func(c []byte) bool { return bytes.HasPrefix(c[1:], []byte{0x20}) }); i >= 0 {
				t.Errorf("%s, %s: command %d is VERIFY", name, method, i+1)
			}
		}
	}
}
