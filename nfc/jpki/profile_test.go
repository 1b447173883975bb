package jpki_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// builtin is the text of the built-in profile.
func builtin(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("default.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// changed is the built-in profile with one text in the place of another, which
// stands in it once, or at its last place.
func changed(t testing.TB, from, to string) string {
	t.Helper()
	text := builtin(t)
	i := strings.LastIndex(text, from)
	if i < 0 {
		t.Fatalf("the built-in profile has no %q", from)
	}
	return text[:i] + to + text[i+len(from):]
}

func TestBuiltInProfileIsTheDocumentedOne(t *testing.T) {
	if _, err := jpki.ParseProfile([]byte(builtin(t))); err != nil {
		t.Fatal(err)
	}
	if jpki.DefaultProfile().Name != "jpki-builtin-2" {
		t.Errorf("name %q", jpki.DefaultProfile().Name)
	}
	doc, err := os.ReadFile("../../docs/card-profile.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```toml\n")
	shown, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("docs/card-profile.md shows no profile")
	}
	if shown != builtin(t) {
		t.Error("docs/card-profile.md shows another profile than default.toml")
	}
}

// keys gives the keys of the built-in profile with the lines they stand in.
func keys(t testing.TB) (names, lines []string) {
	for line := range strings.Lines(builtin(t)) {
		if name, _, ok := strings.Cut(line, "="); ok && line[0] != '#' {
			names, lines = append(names, strings.TrimSpace(name)), append(lines, line)
		}
	}
	if len(names) == 0 {
		t.Fatal("the built-in profile has no keys")
	}
	return names, lines
}

func TestEveryKeyIsRequiredAndDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/card-profile.md")
	if err != nil {
		t.Fatal(err)
	}
	names, lines := keys(t)
	for i, name := range names {
		_, err := jpki.ParseProfile([]byte(changed(t, lines[i], "")))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %q: error %v, want one that names it", lines[i], err)
		}
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/card-profile.md does not describe %s", name)
		}
	}
}

func TestProfilesThatAreRefused(t *testing.T) {
	const order = `["terminal_ca", "certificates", "challenge", "authenticate", "sign"]`
	// LINE stands for the line of what is changed.
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown key":                {"certificate_count = 2", "certificate_cuont = 2", `LINE: unknown key "external_auth.certificate_cuont"`},
		"unknown table":              {"[files]", "[file]", "unknown key"},
		"key twice":                  {"format = 2", "format = 2\nformat = 2", "format"},
		"other format":               {"format = 2", "format = 3", "format is 3"},
		"first use in format 1":      {"format = 2", "format = 1", "first_use is of format 2"},
		"first use without a file":   {"age_record         = 0x0001", "", "first_use.age_record"},
		"first use by no short id":   {"birth_date         = 0x0011", "birth_date = 0x003F", "first_use.birth_date"},
		"DigestInfo for ECDSA":       {"step 2\nscheme  = \"rsassa-pkcs1-v1_5-sha256\"", "\nscheme = \"ecdsa-p384-sha384\"", "tap_use.sign.input"},
		"empty name":                 {`"jpki-builtin-2"`, `""`, "name"},
		"DF name of 4 bytes":         {`"D392F000260100000001"`, `"D392F000"`, "applications.jpki has 4 bytes"},
		"DF name of 17 bytes":        {`"D3921000310001010402"`, `"` + strings.Repeat("A0", 17) + `"`, "applications.card_surface has 17 bytes"},
		"DF name of half a byte":     {`"D392F000260100000001"`, `"D392F00026010000000"`, "LINE: "},
		"DF name as numbers":         {`"D392F000260100000001"`, "[0xD3]", "applications.jpki"},
		"certificate without SFI":    {"0x000A", "0x0020", "files.authentication_certificate"},
		"certificate with SFI 31":    {"0x000A", "0x001F", "files.authentication_certificate"},
		"file id of three bytes":     {"0x0016", "0x10016", "LINE: "},
		"no certificates":            {"certificate_count = 2", "certificate_count = 0", "certificate_count"},
		"five certificates":          {"certificate_count = 2", "certificate_count = 5", "certificate_count"},
		"challenge of 7 bytes":       {"challenge_size    = 32", "challenge_size = 7", "challenge_size"},
		"challenge of 257 bytes":     {"challenge_size    = 32", "challenge_size = 257", "challenge_size"},
		"header of three bytes":      {`"80A206C1"`, `"80A206"`, "LINE: "},
		"header of five bytes":       {`"80A206C1"`, `"80A206C100"`, "LINE: "},
		"header that is no hex":      {`"80A206C1"`, `"80A206CX"`, "LINE: "},
		"header as a table":          {`"80A206C1"`, "{ cla = 0x80, ins = 0xA2, p2 = 0xC1 }", "unknown key"},
		"header as numbers":          {`"80A206C1"`, "[0x80, 0xA2, 0x06, 0xC1]", "LINE: "},
		"INS 00":                     {`"00840000"`, `"00000000"`, "external_auth.get_challenge"},
		"INS that is a status":       {`"00820080"`, `"00900080"`, "external_auth.authenticate.command"},
		"INS of VERIFY":              {`"802A0000"`, `"00200018"`, "tap_use.sign.command: INS 20 takes a PIN"},
		"INS of RESET RETRY COUNTER": {`"80A206C1"`, `"802D0018"`, "external_auth.certificate_body: INS 2D takes a PIN"},
		"unknown input":              {`"digest-info"`, `"digestinfo"`, "tap_use.sign.input"},
		"unknown scheme":             {`"rsassa-pkcs1-v1_5-sha256"`, `"rsassa-pkcs1-v1_5-sha1"`, "external_auth.sign.scheme"},
		"unknown step":               {order, `["terminal_ca", "certificates", "challenge", "authenticate", "pin", "sign"]`, `unknown step`},
		"step missing":               {order, `["terminal_ca", "certificates", "challenge", "sign"]`, `"authenticate" 0 times`},
		"step twice":                 {order, `["terminal_ca", "certificates", "challenge", "authenticate", "authenticate", "sign"]`, `"authenticate" 2 times`},
		"signature before the end":   {order, `["sign", "terminal_ca", "certificates", "challenge", "authenticate"]`, `must end with "sign"`},
		"answer before its question": {order, `["terminal_ca", "certificates", "authenticate", "challenge", "sign"]`, `"authenticate" before "challenge"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := jpki.ParseProfile([]byte(changed(t, c.from, c.to)))
			before, _, _ := strings.Cut(builtin(t), c.from)
			line := fmt.Sprintf("line %d", 1+strings.Count(before, "\n"))
			want := strings.Replace(c.want, "LINE", line, 1)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q in it", err, want)
			}
		})
	}
}

// An operator who knows better changes the file, and no code.
func TestOtherProfilesSpeakWithTheCard(t *testing.T) {
	const order, sign = `["terminal_ca", "certificates", "challenge", "authenticate", "sign"]`, `command = "802A0297"`
	for name, text := range map[string]string{
		"challenge before certificates": changed(t, order, `["terminal_ca", "challenge", "certificates", "authenticate", "sign"]`),
		"challenge first of all":        changed(t, order, `["challenge", "terminal_ca", "certificates", "authenticate", "sign"]`),
		"PSS":                           strings.Replace(changed(t, "rsassa-pkcs1-v1_5-sha256", "rsassa-pss-sha256"), sign, `command = "802A0497"`, 1),
		"DigestInfo":                    strings.Replace(changed(t, `"digest"`, `"digest-info"`), sign, `command = "802A0097"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			profile, err := jpki.ParseProfile([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			img := image(t, "good.json")
			e, stats, err := tap(t, newTerminal(t).dialogue(t, profile), newCard(t, img, vcard.Options{}), registered(jpki.ExternalAuth))
			if err != nil {
				t.Fatal(err)
			}
			prove(t, e, img)
			if stats.Commands != 10 {
				t.Errorf("%d commands", stats.Commands)
			}
		})
	}
}

// A card that does everything, and cannot sign.
type yesCard struct {
	t           *testing.T
	certificate []byte
}

func (c yesCard) Transmit(_ context.Context, capdu []byte) ([]byte, error) {
	cmd, err := nfc.ParseCommand(capdu)
	if err != nil {
		c.t.Fatalf("%X: %v", capdu, err)
	}
	data := make([]byte, min(cmd.Ne, 256))
	if cmd.INS == 0xB0 {
		copy(data, c.certificate)
	}
	return append(data, 0x90, 0x00), nil
}

// A quickSigner signs nothing, at no cost and always the same way, so that the
// fuzzer's coverage comes from the profile alone.
type quickSigner struct {
	*rsa.PrivateKey
	signatures int
}

func (s *quickSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	s.signatures++
	return make([]byte, 256), nil
}

// FuzzParseProfile: what is accepted can be spoken. Both methods run to their
// end with whole commands, and the terminal's key signs once in one of them.
func FuzzParseProfile(f *testing.F) {
	f.Add(builtin(f))
	f.Add(changed(f, "0x000A", "0x0020"))
	f.Add(changed(f, `"802A0297"`, `"802A04"`))
	term, certificate := newTerminal(f), image(f, "good.json").AuthenticationCertificate()
	quick := &quickSigner{PrivateKey: term.signer.PrivateKey}
	var err error
	if term.key, err = jpki.NewTerminalKey(quick, term.certificates...); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		profile, err := jpki.ParseProfile([]byte(text))
		if err != nil || profile.ExternalAuth.CertificateCount != len(term.certificates) {
			return
		}
		d := term.dialogue(t, profile)
		for _, method := range methods {
			before := quick.signatures
			e, _, err := tap(t, d, yesCard{t, certificate}, registered(method))
			if err != nil || e.Signature == nil {
				t.Fatalf("%s: %v", method, err)
			}
			if n := quick.signatures - before; n != map[jpki.Method]int{jpki.ExternalAuth: 1}[method] {
				t.Fatalf("%s: %d terminal signatures", method, n)
			}
		}
	})
}
