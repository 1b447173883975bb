package adversary

import (
	"encoding/hex"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

func TestTableIsInOrder(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	names, lies := map[string]bool{}, map[string]bool{}
	count, short := map[string]int{}, map[string]int{}
	for _, a := range All() {
		switch {
		case !kebab.MatchString(a.Name) || names[a.Name]:
			t.Errorf("%q is no name, or used twice", a.Name)
		case a.Lie == "" || strings.HasSuffix(a.Lie, ".") || strings.Contains(a.Lie, "|") || lies[a.Lie]:
			t.Errorf("%s: its lie is no sentence without its full stop, or told twice: %q", a.Name, a.Lie)
		case !slices.Contains([]string{TapUse, ExternalAuth, FirstUse}, a.Method):
			t.Errorf("%s attacks %q", a.Name, a.Method)
		case !strings.Contains(string(page), "\n| `"+a.Reason+"` |"):
			t.Errorf("%s: docs/reasons.md does not know %q", a.Name, a.Reason)
		case a.play == nil:
			t.Errorf("%s does nothing", a.Name)
		}
		names[a.Name], lies[a.Lie] = true, true
		count[a.Method]++
		if a.Short {
			short[a.Method]++
		}
	}
	for _, a := range Controls() {
		if names[a.Name] || a.Reason != "ok" {
			t.Errorf("%s is no control", a.Name)
		}
	}
	for _, m := range []string{TapUse, ExternalAuth, FirstUse} {
		if count[m] < 15 || short[m] < 2 {
			t.Errorf("%s: %d adversaries, %d of the dozen", m, count[m], short[m])
		}
	}
	if n := short[TapUse] + short[ExternalAuth] + short[FirstUse]; n != 12 {
		t.Errorf("the dozen are %d", n)
	}
}

// An adversary reads commands with code of its own; the bytes are those of
// docs/protocol.md.
func TestStepsAreRecognised(t *testing.T) {
	for _, c := range []struct {
		step  string
		w     when
		apdu  string
		bytes int // of data
		ne    int
	}{
		{"SELECT JPKI-AP", selectJPKI, "00A4040C0AD392F000260100000001", 10, 0},
		{"SELECT card-surface AP", selectSurface, "00A4040C0AD3921000310001010402", 10, 0},
		{"SELECT EF 0016", selectTerminalCA, "00A4020C020016", 2, 0},
		{"head", readHead, "00B08A0000", 0, 256},
		{"rest, short", readRest, "00B0010000", 0, 256},
		{"rest, extended", readRest, "00B0010000052F", 0, 1327},
		{"signer", readSigner, "00B0840000", 0, 256},
		{"record", readRecord, "00B08100000223", 0, 547},
		{"tries", askTries, "00200091", 0, 0},
		{"birth date", verify, "0020009106303230343031", 6, 0},
		{"body", putBody, "80A206C1000133" + strings.Repeat("00", 307), 307, 0},
		{"signature", putSignature, "80A200C1000105" + strings.Repeat("00", 261), 261, 0},
		{"GET CHALLENGE", getChallenge, "0084000020", 0, 32},
		{"EXTERNAL AUTHENTICATE", authenticate, "00820080000100" + strings.Repeat("00", 256), 256, 0},
		{"card signs", sign, "802A000033" + strings.Repeat("00", 51) + "00", 51, 256},
		{"authentication key signs", sign, "802A029720" + strings.Repeat("00", 32) + "00", 32, 256},
		{"GET RESPONSE", getResponse, "00C0000010", 0, 16},
	} {
		b, err := hex.DecodeString(c.apdu)
		if err != nil {
			t.Fatal(err)
		}
		got := parse(b, 1)
		if !c.w(got) || len(got.data) != c.bytes || got.ne != c.ne {
			t.Errorf("%s: %d bytes of data, Ne %d", c.step, len(got.data), got.ne)
		}
		if c.bytes > 0 || c.ne > 0 {
			if again := apdu(got.cla, got.ins, got.p1, got.p2, got.data, got.ne); hex.EncodeToString(again) != strings.ToLower(c.apdu) {
				t.Errorf("%s is written %X", c.step, again)
			}
		}
	}
}

// What is no command is not worth a crash.
func TestBrokenCommands(t *testing.T) {
	for _, s := range []string{"", "00", "00A404", "00A4040C0AD392", "00B08A0001", "00A4040C000", "0020009100"} {
		b, _ := hex.DecodeString(s)
		c := parse(b, 1)
		for _, w := range []when{selectJPKI, readHead, verify, sign} {
			w(c)
		}
	}
}

// Replays are of true challenges: the vector of docs/protocol.md.
func TestChallengesOfReplaysAreTrue(t *testing.T) {
	var nonce [32]byte
	for i := range nonce {
		nonce[i] = byte(i)
	}
	const want = "f763c52f6c9ed370b9c3a3457f2e5f0108938d1a1315147b4bb60703fa7e33f7"
	if got := hex.EncodeToString(digest("demo-hall", "gate-1-left", "gate", nonce)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What an attempt got is counted on the wire and on the genuine cards.
func TestHarmIsTold(t *testing.T) {
	authority, err := perso.NewAuthority(nil, time.Now().AddDate(-1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	cast, err := NewCast(Setting{Now: time.Now(), Deadline: time.Second, Authority: authority, Foreign: authority})
	if err != nil {
		t.Fatal(err)
	}
	wrongDate := "0020009106393939393939"
	for _, c := range []struct {
		method string
		apdus  []string
		harm   []string
	}{
		{FirstUse, []string{selectSurfaceAPDU, "00200091"}, nil},
		{FirstUse, []string{selectSurfaceAPDU, wrongDate}, []string{"genuine cards lost 1 tries of their PINs"}},
		{FirstUse, []string{selectSurfaceAPDU, wrongDate, wrongDate}, []string{"the gate presented a PIN 2 times", "genuine cards lost 2 tries of their PINs"}},
		{TapUse, []string{selectSurfaceAPDU, "0020009106303230343031"}, []string{"the gate presented a PIN 1 times"}},
		{ExternalAuth, []string{"0082008002FFFF"}, nil},
		{ExternalAuth, []string{"0082008002FFFF", "0082008002FFFF"}, []string{"the terminal's key signed 2 times"}},
		{TapUse, slices.Repeat([]string{"00B08A0000"}, maxCommands+1), []string{"the gate sent 4201 commands"}},
	} {
		attempt, err := Honest(c.method).Attempt(cast)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.apdus {
			b, _ := hex.DecodeString(s)
			if _, err := attempt.Transmit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		attempt.PowerOff()
		if got := attempt.Harm(); !slices.Equal(got, c.harm) {
			t.Errorf("%s after %d commands: %q, want %q", c.method, len(c.apdus), got, c.harm)
		}
	}
}

const selectSurfaceAPDU = "00A4040C0AD3921000310001010402"
