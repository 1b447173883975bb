package jpki_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

func TestRegisterProvesBothKeysInOneSession(t *testing.T) {
	for _, c := range []struct {
		image   string
		surface bool
		phone   bool
	}{
		{image: "good.json", surface: true},
		{image: "sim.json"},
		{image: "android.json", phone: true},
		{image: "iphone.json", phone: true},
	} {
		for name, opt := range map[string]vcard.Options{
			"plain":              {},
			"no extended length": {NoExtendedLength: true},
			"in parts":           {FirstCommandFails: true, ExactLe: true, ResponsePart: 50},
		} {
			t.Run(c.image+"/"+name, func(t *testing.T) {
				img := image(t, c.image)
				d := holder(t)
				r := &recorder{Transmitter: newCard(t, img, opt)}
				got, _, err := d.register(t, r)
				if err != nil {
					t.Fatal(err)
				}
				if got.PINRequired != c.phone || got.CardSurface != c.surface || !bytes.Equal(got.Certificate, img.AuthenticationCertificate()) {
					t.Errorf("PIN required %v, card surface %v, certificate of %d bytes", got.PINRequired, got.CardSurface, len(got.Certificate))
				}
				if err := registerChallenge.VerifiedBy(authenticationKey(t, img), got.Authentication.Scheme, got.Authentication.Signature); err != nil {
					t.Errorf("authentication key: %v", err)
				}
				values := []string{"98 1234"}
				if c.surface {
					values = append(values, "91 020401")
					second := registerChallenge.ForCardKey(got.Authentication.Signature)
					if err := second.VerifiedBy(cardKey(t, img), got.Card.Scheme, got.Card.Signature); err != nil {
						t.Errorf("card key: %v", err)
					}
					if !d.cardKey.Equal(cardKey(t, img)) {
						t.Error("the record certifies another card key")
					}
				} else if got.Card.Signature != nil || got.AgeRecord != nil || got.SurfaceCertificate != nil {
					t.Error("a card key where there is none")
				}
				if p := presented(t, r); !slices.Equal(p, values) {
					t.Errorf("presented %q, want %q", p, values)
				}
				if want := (jpki.Question{PINTries: 3, BirthDate: c.surface, BirthDateTries: map[bool]int{true: 10}[c.surface]}); len(d.questions) != 1 || d.questions[0] != want {
					t.Errorf("asked %+v, want %+v", d.questions, want)
				}
			})
		}
	}
}

// What it costs is counted, so that somebody notices a command more. The CA
// certificate takes two: its length, and all the rest.
func TestCostsOfARegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no card is looked at meanwhile: counts are exact
		for name, want := range map[string]int{
			// SELECT, 0006, 0008, 000B, 000A, tries · SELECT, 0004, tries, SELECT ·
			// 0006, VERIFY, SIGN · SELECT, VERIFY, 0001, SIGN.
			"good.json": 3 + 2 + 2 + 1 + 4 + 3 + 4,
			// SELECT, 0006, 0008, 000B, 000A refused, tries · SELECT refused, SELECT ·
			// 0006, VERIFY, 000A, SIGN.
			"android.json": 3 + 2 + 1 + 1 + 2 + 2 + 2 + 1,
		} {
			_, stats, err := holder(t).register(t, newCard(t, image(t, name), vcard.Options{}))
			if err != nil || stats.Commands != want {
				t.Errorf("%s: %d commands, want %d, %v", name, stats.Commands, want, err)
			}
		}
	})
}

func TestNoSecretIsSentTwiceOrWithTheLastTry(t *testing.T) {
	const pin, birthDate = 0x0018, 0x0011
	for _, c := range []struct {
		name      string
		img       *vcard.Image
		answers   []jpki.Answer
		want      *jpki.TriesError // nil: it is registered
		asked     int
		presented []string
		tries     [2]int // of PIN and birth date afterwards; 0 where they have no limit
	}{
		{
			name: "right", asked: 1, presented: []string{"98 1234", "91 020401"}, tries: [2]int{3, 10},
		}, {
			name: "wrong PIN", answers: []jpki.Answer{typed(t, "4321", born)},
			want:  &jpki.TriesError{Secret: jpki.SecretPIN, Wrong: true, Left: 2},
			asked: 1, presented: []string{"98 4321"}, tries: [2]int{2, 10},
		}, {
			name: "two tries left", img: withTries(t, "good.json", pin, 3, 2),
			asked: 1, presented: []string{"98 1234", "91 020401"}, tries: [2]int{3, 10},
		}, {
			name: "two tries left, wrong PIN", img: withTries(t, "good.json", pin, 3, 2), answers: []jpki.Answer{typed(t, "4321", born)},
			want:  &jpki.TriesError{Secret: jpki.SecretPIN, Wrong: true, Left: 1},
			asked: 1, presented: []string{"98 4321"}, tries: [2]int{1, 10},
		}, {
			name: "one try left", img: withTries(t, "good.json", pin, 3, 1),
			want: &jpki.TriesError{Secret: jpki.SecretPIN, Left: 1}, tries: [2]int{1, 10},
		}, {
			name: "blocked", img: withTries(t, "good.json", pin, 3, 0),
			want: &jpki.TriesError{Secret: jpki.SecretPIN}, tries: [2]int{0, 10},
		}, {
			name: "no limit", img: withTries(t, "good.json", pin, 0, 0),
			asked: 1, presented: []string{"98 1234", "91 020401"}, tries: [2]int{0, 10},
		}, {
			name: "no limit, wrong PIN", img: withTries(t, "good.json", pin, 0, 0), answers: []jpki.Answer{typed(t, "4321", born)},
			want:  &jpki.TriesError{Secret: jpki.SecretPIN, Wrong: true, Left: -1},
			asked: 1, presented: []string{"98 4321"}, tries: [2]int{0, 10},
		}, {
			name: "phone, wrong PIN", img: image(t, "android.json"), answers: []jpki.Answer{typed(t, "4321", "")},
			want:  &jpki.TriesError{Secret: jpki.SecretPIN, Wrong: true, Left: 2},
			asked: 1, presented: []string{"98 4321"}, tries: [2]int{2, -1},
		}, {
			name: "what no card could take, and then the right one",
			answers: []jpki.Answer{typed(t, "", born), typed(t, "123", born), typed(t, "12345", born), typed(t, "12a4", born),
				typed(t, "１2", born), typed(t, "1234", ""), typed(t, "1234", born)},
			asked: 7, presented: []string{"98 1234", "91 020401"}, tries: [2]int{3, 10},
		}, {
			name: "wrong birth date", answers: []jpki.Answer{typed(t, "1234", "19900402")},
			want:  &jpki.TriesError{Secret: jpki.SecretBirthDate, Wrong: true, Left: 9},
			asked: 1, presented: []string{"98 1234", "91 020402"}, tries: [2]int{3, 9},
		}, {
			name: "one try of the birth date left", img: withTries(t, "good.json", birthDate, 10, 1),
			want: &jpki.TriesError{Secret: jpki.SecretBirthDate, Left: 1}, tries: [2]int{3, 1},
		}, {
			name: "birth date blocked", img: withTries(t, "good.json", birthDate, 10, 0),
			want: &jpki.TriesError{Secret: jpki.SecretBirthDate}, tries: [2]int{3, 0},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.img == nil {
				c.img = image(t, "good.json")
			}
			d := holder(t)
			if c.answers != nil {
				d.answers = c.answers
			}
			card := newCard(t, c.img, vcard.Options{})
			r := &recorder{Transmitter: card}
			_, _, err := d.register(t, r)
			tries, _ := errors.AsType[*jpki.TriesError](err)
			if c.want == nil && err != nil || c.want != nil && (tries == nil || *tries != *c.want || !errors.Is(err, jpki.ErrRefused)) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if len(d.questions) != c.asked {
				t.Errorf("asked %d times, want %d", len(d.questions), c.asked)
			}
			for i, q := range d.questions {
				if (q.Again != nil) != (i > 0) {
					t.Errorf("question %d says %v", i+1, q.Again)
				}
			}
			if p := presented(t, r); !slices.Equal(p, c.presented) {
				t.Errorf("presented %q, want %q", p, c.presented)
			}
			if got := triesLeft(t, card, vcard.AIDJPKI(), 0x98); got != c.tries[0] {
				t.Errorf("PIN: %d tries left, want %d", got, c.tries[0])
			}
			if c.tries[1] >= 0 {
				if got := triesLeft(t, card, vcard.AIDSurface(), 0x91); got != c.tries[1] {
					t.Errorf("birth date: %d tries left, want %d", got, c.tries[1])
				}
			}
		})
	}
}

// Each cheat is found as early as it can be, and learns no secret that it need
// not have.
func TestCheatsAreRegisteredNowhere(t *testing.T) {
	surfaceOf := func(name string) func(*vcard.Image) {
		return func(img *vcard.Image) {
			*img.Application(vcard.AIDSurface()) = *image(t, name).Application(vcard.AIDSurface())
		}
	}
	fileOf := func(name string, df []byte, file vcard.FileID) func(*vcard.Image) {
		return func(img *vcard.Image) {
			img.Application(df).File(file).Content = image(t, name).Application(df).File(file).Content
		}
	}
	for _, c := range []struct {
		name, image string
		change      func(*vcard.Image)
		want        error
		presented   []string
	}{
		{name: "a card of a foreign hierarchy of the same name", image: "forged.json", want: cardauth.ErrUntrusted},
		{name: "an expired certificate", image: "expired.json", want: cardauth.ErrExpired},
		{name: "a copied card", image: "copied.json", want: cardauth.ErrNotGenuine, presented: []string{"98 1234"}},
		{name: "a foreign card-surface AP", image: "good.json", change: surfaceOf("forged.json"), want: cardauth.ErrUntrusted},
		{name: "a signer's certificate of a foreign hierarchy", image: "good.json", change: fileOf("forged.json", vcard.AIDSurface(), 0x0004), want: cardauth.ErrUntrusted},
		{name: "a record of a foreign hierarchy", image: "good.json", change: fileOf("forged.json", vcard.AIDSurface(), 0x0001), want: cardauth.ErrNotGenuine, presented: []string{"98 1234", "91 020401"}},
		{name: "somebody else's certificate", image: "good.json", change: fileOf("sim.json", vcard.AIDJPKI(), 0x000A), want: cardauth.ErrNotGenuine, presented: []string{"98 1234"}},
		{name: "a phone of a foreign hierarchy", image: "android.json", change: fileOf("forged.json", vcard.AIDJPKI(), 0x000A), want: cardauth.ErrUntrusted, presented: []string{"98 1234"}},
		{name: "no signer's certificate", image: "good.json", change: func(img *vcard.Image) {
			app := img.Application(vcard.AIDSurface())
			app.Files = app.Files[:2]
		}, want: jpki.ErrUnsupported},
		{name: "no file for a certificate", image: "no-certificate.json", want: jpki.ErrUnsupported},
		{name: "no certificate in the file", image: "empty-certificate.json", want: jpki.ErrUnsupported},
		{name: "a blocked PIN", image: "blocked-pin.json", want: jpki.ErrRefused},
		{name: "a blocked birth date", image: "blocked-birth-date.json", want: jpki.ErrRefused},
		{name: "住基カード", image: "juki.json", want: jpki.ErrUnsupported},
		{name: "a payment card", image: "emv.json", want: jpki.ErrUnsupported},
		{name: "a driving licence", image: "licence.json", want: jpki.ErrUnsupported},
		{name: "a passport", image: "passport.json", want: jpki.ErrUnsupported},
		{name: "a transit card", image: "felica.json", want: jpki.ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := image(t, c.image)
			if c.change != nil {
				c.change(img)
			}
			d := holder(t)
			r := &recorder{Transmitter: newCard(t, img, vcard.Options{})}
			got, _, err := d.register(t, r)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if p := presented(t, r); !slices.Equal(p, c.presented) {
				t.Errorf("presented %q, want %q", p, c.presented)
			}
			if asked := len(d.questions) > 0; asked != (c.presented != nil) {
				t.Errorf("asked: %v", asked)
			}
			if got.Card.Signature != nil {
				t.Error("the card key signed")
			}
		})
	}
}

// Whatever a card answers from some command on, each secret goes out once at
// most, nothing is proved, and the error says something of the card.
func TestStatusWordsDuringARegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no card is looked at meanwhile: counts are exact
		_, whole, err := holder(t).register(t, good(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, sw := range []uint16{0x6282, 0x6300, 0x63C0, 0x63C2, 0x6700, 0x6982, 0x6983, 0x6984, 0x6985, 0x6A82, 0x6A86, 0x6D00, 0x6F00, 0x9000} {
			for at := 1; at <= whole.Commands; at++ {
				r := &recorder{Transmitter: bend(good(t), func(n int, _ []byte) []byte {
					if n < at {
						return nil
					}
					return []byte{byte(sw >> 8), byte(sw)}
				})}
				got, _, err := holder(t).register(t, r)
				if !errors.Is(err, jpki.ErrUnsupported) && !errors.Is(err, jpki.ErrRefused) && !errors.Is(err, nfc.ErrRemoved) && !errors.Is(err, nfc.ErrMalformed) && !errors.Is(err, cardauth.ErrNotGenuine) &&
					!(sw == 0x9000 && at == whole.Commands) {
					t.Errorf("%04X from command %d on: %v says nothing of the card", sw, at, err)
				}
				p := presented(t, r)
				if len(p) > 2 || len(p) == 2 && p[0][:2] == p[1][:2] {
					t.Errorf("%04X from command %d on: presented %q", sw, at, p)
				}
				if len(got.Card.Signature) > 0 {
					t.Errorf("%04X from command %d on: a signature of the card key", sw, at)
				}
			}
		}
	})
}

func TestRefusalOfTheCallerEndsTheDialogue(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		change    func(*jpki.Registrar)
		presented int
	}{
		"certificate": {func(r *jpki.Registrar) { r.CheckCertificate = func(_, _ []byte) error { return no } }, 0},
		"signer":      {func(r *jpki.Registrar) { r.CheckSigner = func([]byte) error { return no } }, 0},
		"ask": {func(r *jpki.Registrar) {
			r.Ask = func(context.Context, jpki.Question) (jpki.Answer, error) { return typed(t, "1234", born), no }
		}, 0},
		"alone":  {func(r *jpki.Registrar) { r.CheckAlone = func() error { return no } }, 0},
		"proof":  {func(r *jpki.Registrar) { r.CheckProof = func(jpki.Signed) error { return no } }, 1},
		"record": {func(r *jpki.Registrar) { r.CheckRecord = func([]byte) error { return no } }, 2},
	} {
		registrar := holder(t).registrar(t)
		c.change(&registrar)
		dialogue, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder{Transmitter: good(t)}
		got, err := dialogue.Register(t.Context(), "slot", nfc.NewChannel(r), registerChallenge, registrar)
		if !errors.Is(err, no) || len(presented(t, r)) != c.presented || got.Card.Signature != nil {
			t.Errorf("%s: %v, presented %q", name, err, presented(t, r))
		}
	}
}

// The next generation of cards is another profile and other schemes, no other
// dialogue. Its draft has no first use: nothing certifies the card's own key.
func TestRegisterNextGeneration(t *testing.T) {
	img := image(t, "next-generation.json")
	d := holder(t)
	got, _, err := d.registerWith(t, nextGeneration(t), newCard(t, img, vcard.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if got.CardSurface || got.Authentication.Scheme != cardkey.ECDSAP384SHA384 || !d.authKey.Equal(authenticationKey(t, img)) {
		t.Errorf("card surface %v, scheme %s", got.CardSurface, got.Authentication.Scheme)
	}
}

// A kind of card whose profile has no first use has no key of its own to show.
func TestRegisterWithoutFirstUseAsksForNoBirthDate(t *testing.T) {
	profile := jpki.DefaultProfile()
	profile.FirstUse = nil
	d := holder(t)
	d.answers = []jpki.Answer{typed(t, "1234", "")}
	r := &recorder{Transmitter: good(t)}
	got, _, err := d.registerWith(t, profile, r)
	if err != nil || got.CardSurface || d.questions[0].BirthDate {
		t.Errorf("card surface %v, asked %+v, %v", got.CardSurface, d.questions, err)
	}
	if p := presented(t, r); !slices.Equal(p, []string{"98 1234"}) {
		t.Errorf("presented %q", p)
	}
}

// The PIN is overwritten where Register got it, and is in no error.
func TestPINIsForgotten(t *testing.T) {
	for _, sw := range []uint16{0x9000, 0x63C2, 0x6984, 0x6700, 0x6F00} {
		pin := []byte("7294")
		registrar := holder(t).registrar(t)
		registrar.Ask = func(context.Context, jpki.Question) (jpki.Answer, error) {
			a := typed(t, "", born)
			a.PIN = pin
			return a, nil
		}
		var sent []byte
		card := good(t)
		m := transmit(func(ctx context.Context, capdu []byte) ([]byte, error) {
			if bytes.Contains(capdu, []byte("7294")) {
				sent = capdu
				return []byte{byte(sw >> 8), byte(sw)}, nil
			}
			return card.Transmit(ctx, capdu)
		})
		dialogue, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = dialogue.Register(t.Context(), "slot", nfc.NewChannel(m), registerChallenge, registrar)
		if err == nil || bytes.Contains([]byte(err.Error()), []byte("7294")) || bytes.Contains([]byte(err.Error()), []byte("37323934")) {
			t.Errorf("%04X: %v", sw, err)
		}
		if !bytes.Equal(pin, make([]byte, 4)) || sent == nil || !bytes.Equal(sent, make([]byte, len(sent))) {
			t.Errorf("%04X: PIN %q and command %X are left in memory", sw, pin, sent)
		}
	}
}
