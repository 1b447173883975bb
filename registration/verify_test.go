package registration

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// refuse fails the test unless the hub refuses msg for that reason.
func refuse(t *testing.T, name string, trust Trust, msg []byte, now time.Time, want error) {
	t.Helper()
	reg, err := trust.Verify(msg, now)
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
	if !reg.IsZero() || !reg.AuthKey().IsZero() || !reg.CardKey().IsZero() {
		t.Errorf("%s: a registration", name)
	}
}

// Whoever carries a record changes no byte of it.
func TestTamperedRecordIsRefused(t *testing.T) {
	trust, msg := hub(t), sign(t, good(t))
	for i := range msg {
		for _, bit := range []byte{0x01, 0x80} {
			changed := bytes.Clone(msg)
			changed[i] ^= bit
			if _, err := trust.Verify(changed, at); err == nil {
				t.Errorf("byte %d changed by %02X passes", i, bit)
			}
		}
	}
	for i := range msg {
		if _, err := trust.Verify(msg[:i], at); err == nil {
			t.Errorf("the first %d bytes pass", i)
		}
	}
	refuse(t, "a byte behind it", trust, append(bytes.Clone(msg), 0), at, sign1.ErrMalformed)
}

// A terminal that lies about what it read is found out, field by field.
func TestTerminalThatLiesIsFoundOut(t *testing.T) {
	flip := func(b []byte, i int) { b[i] ^= 1 }
	last := func(b []byte) int { return len(b) - 1 }
	other := read(t, card(t, image(t, "sim.json")), "T-000123")
	for _, c := range []struct {
		name   string
		change func(r *Record)
		want   error
	}{
		{"scope", func(r *Record) { r.Scope = "other-hall" }, ErrScope},
		{"hierarchy", func(r *Record) { r.Hierarchy = Production }, ErrHierarchy},
		{"terminal", func(r *Record) { r.Terminal = "desk-2" }, ErrTerminal},
		{"ticket", func(r *Record) { r.Ticket = "T-000124" }, cardauth.ErrNotGenuine},
		{"no ticket", func(r *Record) { r.Ticket = "" }, cardauth.ErrNotGenuine},
		{"nonce", func(r *Record) { r.Nonce[31] ^= 1 }, cardauth.ErrNotGenuine},
		{"certificate's signature", func(r *Record) { flip(r.Certificate, last(r.Certificate)) }, cardauth.ErrUntrusted},
		{"certificate's serial number", func(r *Record) { flip(r.Certificate, 16) }, cardauth.ErrUntrusted},
		{"a byte behind the certificate", func(r *Record) { r.Certificate = append(r.Certificate, 0xFF) }, cardauth.ErrUntrusted},
		{"no certificate in it", func(r *Record) { r.Certificate = []byte{0x30, 0x00} }, ErrMalformed},
		{"somebody else's certificate", func(r *Record) { r.Certificate = other.Certificate }, cardauth.ErrNotGenuine},
		{"authentication signature", func(r *Record) { flip(r.Authentication.Signature, 7) }, cardauth.ErrNotGenuine},
		{"authentication scheme", func(r *Record) { r.Authentication.Scheme = "rsassa-pss-sha256" }, cardauth.ErrNotGenuine},
		{"authentication scheme of another kind of key", func(r *Record) { r.Authentication.Scheme = "ecdsa-p384-sha384" }, cardauth.ErrNotGenuine},
		{"authentication of somebody else", func(r *Record) { r.Authentication = other.Authentication }, cardauth.ErrNotGenuine},
		{"authentication by the card key", func(r *Record) { r.Authentication = r.Surface.Card }, cardauth.ErrNotGenuine},
		{"signer's key id", func(r *Record) { flip(r.Surface.SignerCertificate, 10) }, cardauth.ErrUntrusted},
		{"signer's certificate", func(r *Record) { flip(r.Surface.SignerCertificate, 567) }, cardauth.ErrUntrusted},
		{"birth date", func(r *Record) { flip(r.Surface.AgeRecord, 15) }, cardauth.ErrNotGenuine},
		{"card key", func(r *Record) { flip(r.Surface.AgeRecord, 100) }, cardauth.ErrNotGenuine},
		{"age record's signature", func(r *Record) { flip(r.Surface.AgeRecord, 546) }, cardauth.ErrNotGenuine},
		{"card signature", func(r *Record) { flip(r.Surface.Card.Signature, 7) }, cardauth.ErrNotGenuine},
		{"card scheme", func(r *Record) { r.Surface.Card.Scheme = "rsassa-pss-sha256" }, cardauth.ErrNotGenuine},
		{"card signature by the authentication key", func(r *Record) { r.Surface.Card = r.Authentication }, cardauth.ErrNotGenuine},
	} {
		r := good(t).clone()
		c.change(&r)
		refuse(t, c.name, hub(t), sign(t, r), at, c.want)
	}
}

func TestRecordOfAnotherTerminalRoleOrScopeIsRefused(t *testing.T) {
	r := good(t)
	payload, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	by := func(role sign1.Role, key ed25519.PrivateKey) []byte {
		msg, err := sign1.Sign(nil, role, key, payload)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	unknown := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x77}, 32))
	refuse(t, "another terminal", hub(t), by(sign1.RoleRegistration, another), at, ErrTerminal)
	refuse(t, "an unknown key", hub(t), by(sign1.RoleRegistration, unknown), at, sign1.ErrUnknownKey)
	refuse(t, "a key that signs lists", hub(t), by(sign1.RoleRegistration, list), at, sign1.ErrRole)
	refuse(t, "a signature for another role", hub(t), by(sign1.RoleList, identity), at, sign1.ErrSignature)

	elsewhere := hub(t)
	if elsewhere.Keys, err = sign1.NewKeys(sign1.Key{Public: identity.Public(), Role: sign1.RoleRegistration, Scope: "other-hall", Signer: terminal}); err != nil {
		t.Fatal(err)
	}
	refuse(t, "a terminal of another scope", elsewhere, sign(t, r), at, ErrScope)
	nameless := hub(t)
	if nameless.Keys, err = sign1.NewKeys(sign1.Key{Public: identity.Public(), Role: sign1.RoleRegistration, Scope: scope}); err != nil {
		t.Fatal(err)
	}
	refuse(t, "a key of no named terminal", nameless, sign(t, r), at, ErrTerminal)
	refuse(t, "nobody is trusted", Trust{}, sign(t, r), at, sign1.ErrUnknownKey)
}

func TestCardsThatProveNothingAreRefused(t *testing.T) {
	r := good(t)
	refuse(t, "a copied card", hub(t), sign(t, read(t, card(t, image(t, "copied.json")), "")), at, cardauth.ErrNotGenuine)
	refuse(t, "a card of a foreign hierarchy", hub(t), sign(t, read(t, card(t, image(t, "forged.json")), "")), at, cardauth.ErrUntrusted)
	refuse(t, "an expired certificate", hub(t), sign(t, read(t, card(t, image(t, "expired.json")), "")), at, cardauth.ErrExpired)
	refuse(t, "at a hub of another hierarchy", trusting(t, "foreign-authority.json"), sign(t, r), at, cardauth.ErrUntrusted)

	for name, change := range map[string]func(*Trust){
		"no anchors":                  func(t *Trust) { t.Anchors = nil },
		"no card-surface authorities": func(t *Trust) { t.SurfaceAuthorities = nil },
	} {
		trust := hub(t)
		change(&trust)
		refuse(t, name, trust, sign(t, r), at, cardauth.ErrUntrusted)
	}
	production := hub(t)
	production.Hierarchy = Production
	refuse(t, "a test card where production counts", production, sign(t, r), at, ErrHierarchy)

	// Who has no card-surface authorities can still register a phone.
	trust := hub(t)
	trust.SurfaceAuthorities = nil
	if _, err := trust.Verify(sign(t, read(t, card(t, image(t, "android.json")), "")), at); err != nil {
		t.Errorf("a phone: %v", err)
	}
}

// A SIM has a CA of its own, and the next generation another kind of key: both
// are registered like the others.
func TestEverySortOfCardIsRegistered(t *testing.T) {
	next, err := jpki.ParseProfile(readFile(t, "profiles", "next-generation.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		profile jpki.Profile
		cardKey bool
		kind    string
	}{
		"good.json":            {jpki.DefaultProfile(), true, "RSA-2048 with e = 65537"},
		"sim.json":             {jpki.DefaultProfile(), false, "RSA-2048 with e = 65537"},
		"iphone.json":          {jpki.DefaultProfile(), false, "RSA-2048 with e = 65537"},
		"next-generation.json": {next, false, "ECDSA on P-384"},
	} {
		r := readAs(t, c.profile, card(t, image(t, name)), "")
		reg, err := hub(t).Verify(sign(t, r), at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if reg.AuthKey().String() != c.kind || reg.CardKey().IsZero() == c.cardKey {
			t.Errorf("%s: authentication key %v, card key %v", name, reg.AuthKey(), reg.CardKey())
		}
		r.Authentication.Signature = bytes.Clone(r.Authentication.Signature)
		r.Authentication.Signature[len(r.Authentication.Signature)-1] ^= 1
		refuse(t, name, hub(t), sign(t, r), at, cardauth.ErrNotGenuine)
	}
}

// Signatures that the card made for something else are worth nothing here.
func TestSignaturesForOtherPurposesAreRefused(t *testing.T) {
	r := good(t)
	sign2 := func(df []byte, command nfc.Command, pin bool) []byte {
		ch := nfc.NewChannel(card(t, image(t, "good.json")))
		commands := []nfc.Command{{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: df}}
		if pin {
			commands = append(commands, nfc.Command{INS: 0x20, P2: 0x98, Data: []byte("1234")})
		}
		var signature []byte
		for _, c := range append(commands, command) {
			var err error
			if signature, err = ch.Do(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		return signature
	}
	gate := r.Challenge()
	gate.Purpose = cardauth.PurposeGate
	changed := r.clone()
	changed.Authentication.Signature = sign2(vcard.AIDJPKI(), nfc.Command{CLA: 0x80, INS: 0x2A, P1: 0x02, P2: 0x97, Data: gate.Digest(r.Authentication.Scheme.Hash()), Ne: 256}, true)
	refuse(t, "authentication at a gate", hub(t), sign(t, changed), at, cardauth.ErrNotGenuine)

	// The card key, which needs no PIN, may have signed long before: it has to
	// name the authentication key's signature.
	for name, c := range map[string]cardauth.Challenge{
		"card key at a gate":                           gate,
		"card key for the authentication challenge":    r.Challenge(),
		"card key for another authentication":          r.Challenge().ForCardKey([]byte("another signature")),
		"card key before there was any authentication": r.Challenge().ForCardKey(nil),
	} {
		info := append([]byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, c.Digest(r.Authentication.Scheme.Hash())...)
		changed := r.clone()
		changed.Surface.Card.Signature = sign2(vcard.AIDSurface(), nfc.Command{CLA: 0x80, INS: 0x2A, Data: info, Ne: 256}, false)
		refuse(t, name, hub(t), sign(t, changed), at, cardauth.ErrNotGenuine)
	}
}

// An accomplice's card key does not get into a victim's registration by mixing
// two records, whoever signs the mixture.
func TestRecordsOfTwoCardsAreNotMixed(t *testing.T) {
	victim := good(t)
	accomplice := read(t, card(t, image(t, "expired.json")), victim.Ticket) // its card key is good
	mixed := victim.clone()
	mixed.Surface = accomplice.Surface
	refuse(t, "the accomplice's card key", hub(t), sign(t, mixed), at, cardauth.ErrNotGenuine)
	mixed = victim.clone()
	mixed.Surface.AgeRecord = accomplice.Surface.AgeRecord
	refuse(t, "the accomplice's age record", hub(t), sign(t, mixed), at, cardauth.ErrNotGenuine)
	mixed = victim.clone()
	mixed.Surface.Card = accomplice.Surface.Card
	refuse(t, "the accomplice's answer", hub(t), sign(t, mixed), at, cardauth.ErrNotGenuine)
}

// What a hub cannot see, and takes the terminal's word for: when it was, what
// the card calls itself, whether it has a key of its own, and that both keys
// answered in one chip. A device that passes commands on to two cards of people
// born on one day looks like one card (docs/registration.md).
func TestWhatRestsOnTheTerminalsWord(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"time":        func(r *Record) { r.At = at.Add(-time.Minute) },
		"token":       func(r *Record) { r.Token = "JPKIAPIOSTOKEN" },
		"EF 0008":     func(r *Record) { r.Marked = nil },
		"no card key": func(r *Record) { r.Surface = nil },
	} {
		r := good(t)
		change(&r)
		if _, err := hub(t).Verify(sign(t, r), at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	img, accomplice := image(t, "good.json"), image(t, "expired.json")
	*img.Application(vcard.AIDSurface()) = *accomplice.Application(vcard.AIDSurface())
	if _, err := hub(t).Verify(sign(t, read(t, card(t, img), "")), at); err != nil {
		t.Errorf("a device between two cards: %v", err)
	}
}

func TestRecordIsOfItsTime(t *testing.T) {
	trust, msg := hub(t), sign(t, good(t))
	for _, c := range []struct {
		name string
		now  time.Time
		want error
	}{
		{"at once", at, nil},
		{"in time", at.Add(trust.MaxAge), nil},
		{"too old", at.Add(trust.MaxAge + time.Second), ErrAge},
		{"a clock that is a little ahead", at.Add(-Tolerance), nil},
		{"from the future", at.Add(-Tolerance - time.Second), ErrAge},
		{"long ago", at.AddDate(-10, 0, 0), ErrAge},
	} {
		if _, err := trust.Verify(msg, c.now); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// The certificate is judged at the instant of the record.
	r := good(t)
	_, end := headOf(t, r).Validity()
	trust.MaxAge = 100 * 365 * 24 * time.Hour
	r.At = end
	if _, err := trust.Verify(sign(t, r), end.AddDate(1, 0, 0)); err != nil {
		t.Errorf("in the last second of the certificate: %v", err)
	}
	r.At = end.Add(time.Second)
	refuse(t, "after its end", trust, sign(t, r), end.AddDate(1, 0, 0), cardauth.ErrExpired)
}

func headOf(t *testing.T, r Record) cardauth.Head {
	t.Helper()
	head, err := cardauth.ParseHead(r.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// A verified record is not changed through what it gives out.
func TestRegistrationCannotBeChanged(t *testing.T) {
	reg, err := hub(t).Verify(sign(t, good(t)), at)
	if err != nil {
		t.Fatal(err)
	}
	clear(reg.Certificate())
	if !bytes.HasPrefix(reg.Certificate(), reg.Head().Bytes()) {
		t.Error("the certificate was changed")
	}
	if (Registration{}).IsZero() == reg.IsZero() {
		t.Error("nobody's registration is one")
	}
}

// The birth date is a person's, and a PIN of the card.
func TestErrorsTellNoBirthDate(t *testing.T) {
	r := good(t).clone()
	r.Surface.AgeRecord[546] ^= 1
	_, err := hub(t).Verify(sign(t, r), at)
	for _, secret := range []string{"1990", "0401", "020401"} {
		if err == nil || bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("%v", err)
		}
	}
}
