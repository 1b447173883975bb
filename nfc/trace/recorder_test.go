package trace_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/trace"
)

var header = trace.Header{
	Agent: "1.2.3", Recorded: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), Reader: "Reader 00 00",
	Dialogue: "tap-use", Profile: "jpki-builtin-1",
	Scope: "demo-hall", Terminal: "gate-1-left", Nonce: bytes.Repeat([]byte{7}, 32),
}

// An answer is what a script of a card says to one command.
type answer struct {
	rapdu []byte
	err   error
}

// A script answers whatever it is asked, in order, then with 9000.
type script []answer

func (s *script) Transmit(context.Context, []byte) ([]byte, error) {
	if len(*s) == 0 {
		return []byte{0x90, 0x00}, nil
	}
	a := (*s)[0]
	*s = (*s)[1:]
	return a.rapdu, a.err
}

func parse(t testing.TB, text string) trace.File {
	t.Helper()
	f, err := trace.ParseFile(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPINsAreNeverWritten(t *testing.T) {
	const pin = "31323334" // 1234
	var b bytes.Buffer
	r := trace.NewRecorder(&script{}, &b, header, nil)
	for _, command := range []string{
		"00200080 04" + pin,
		"00200080 04" + pin + "00",
		"00200080 000004" + pin,
		"0C200080 04" + pin,          // another class
		"00210080 04" + pin,          // data in BER-TLV
		"00240080 04" + pin,          // CHANGE REFERENCE DATA
		"00280080 04" + pin,          // ENABLE VERIFICATION REQUIREMENT
		"002C0080 04" + pin,          // RESET RETRY COUNTER
		"00200080 05" + pin,          // a wrong Lc
		"00200080" + pin,             // none
		"00200080 003132",            // looks like an extended Le
		"00200080 31",                // looks like Le
		"00200080 00000" + "0313233", // extended length of nothing
	} {
		if _, err := r.Transmit(t.Context(), unhex(t, command)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.End("ok", ""); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "> ") && strings.Contains(line[2+8:], "31") {
			t.Errorf("a PIN stands in %s", line)
		}
	}
	f := parse(t, b.String())
	if got := f.Pairs[0].Text(); got != "0020008004XXXXXXXX" {
		t.Errorf("recorded %s", got)
	}
	if got := f.Pairs[1].Text(); got != "0020008004XXXXXXXX00" {
		t.Errorf("recorded %s", got)
	}
}

// What asks for tries carries no PIN, and stays to be read.
func TestOnlyTheSecretIsMasked(t *testing.T) {
	signature := func(c nfc.Command) bool { return c.INS == 0x82 }
	for command, want := range map[string]string{
		"00200080":                 "00200080",
		"00B08A0000":               "00B08A0000",
		"00A4040C05A000000001":     "00A4040C05A000000001",
		"0082008003010203":         "0082008003XXXXXX",
		"008200800000030102030000": "00820080000003XXXXXX0000",
		"802A00000201020000":       "802A0000XXXXXXXXXX", // what cannot be read is not trusted
		"0020":                     "0020",
	} {
		if got := trace.Masked(unhex(t, command), signature); got != want {
			t.Errorf("%s is written %s, want %s", command, got, want)
		}
	}
}

// A program that is killed while the card is silent leaves the command.
func TestCommandIsWrittenBeforeItIsSent(t *testing.T) {
	var b bytes.Buffer
	sent := ""
	r := trace.NewRecorder(transmitter(func([]byte) ([]byte, error) {
		sent = b.String()
		return []byte{0x90, 0x00}, nil
	}), &b, header, nil)
	if _, err := r.Transmit(t.Context(), []byte{0, 0xB0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	f := parse(t, sent)
	if len(f.Pairs) != 1 || f.Outcome != nil {
		t.Fatalf("recorded %+v", f)
	}
	replay := &trace.Replay{Pairs: f.Pairs}
	if _, err := replay.Transmit(t.Context(), []byte{0, 0xB0, 0, 0, 0}); !errors.Is(err, trace.ErrBrokenOff) {
		t.Errorf("replay answers %v", err)
	}
}

type transmitter func([]byte) ([]byte, error)

func (f transmitter) Transmit(_ context.Context, capdu []byte) ([]byte, error) { return f(capdu) }

func TestErrorsComeBackAsWhatTheyWere(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("Transaction failed: %w", nfc.ErrRemoved), nfc.ErrExtendedLength,
		context.DeadlineExceeded, context.Canceled, errors.New("two\nlines"),
	} {
		var b bytes.Buffer
		r := trace.NewRecorder(&script{{err: err}}, &b, header, nil)
		if _, got := r.Transmit(t.Context(), []byte{0, 0xB0, 0, 0}); got != err {
			t.Errorf("%v became %v on its way", err, got)
		}
		if err := r.End("card_removed", err.Error()); err != nil {
			t.Fatal(err)
		}
		_, got := (&trace.Replay{Pairs: parse(t, b.String()).Pairs}).Transmit(t.Context(), []byte{0, 0xB0, 0, 0})
		for _, kind := range []error{nfc.ErrRemoved, nfc.ErrExtendedLength, context.DeadlineExceeded, context.Canceled} {
			if errors.Is(got, kind) != errors.Is(err, kind) {
				t.Errorf("%v is replayed as %v", err, got)
			}
		}
		if want := strings.ReplaceAll(err.Error(), "\n", " "); got == nil || got.Error() != want {
			t.Errorf("%v is replayed as %v", err, got)
		}
	}
}

// What the terminal knew, and odd names, come back to the byte.
func TestHeaderAndKnowledgeComeBack(t *testing.T) {
	h := header
	h.Scope, h.Terminal, h.Reader = " two\nlines\xff", `"quoted"`, "リーダー 00"
	h.TerminalCertificates = [][]byte{{1, 2}, {3}}
	k := trace.Known{Row: trace.RowListed, CardKey: []byte{4}, AuthenticationKey: []byte{5}, Anchors: [][]byte{{6}, {7}},
		FirstUse: true, SurfaceAuthorities: [][]byte{{8}, {9}}}
	var b bytes.Buffer
	r := trace.NewRecorder(&script{}, &b, h, nil)
	r.Know(k)
	r.BirthDate(trace.BirthDateOther)
	if err := r.End("ok", "said: so, too"); err != nil {
		t.Fatal(err)
	}
	f := parse(t, b.String())
	if fmt.Sprint(f.Header) != fmt.Sprint(h) {
		t.Errorf("header %+v, want %+v", f.Header, h)
	}
	if f.Known == nil || fmt.Sprint(*f.Known) != fmt.Sprint(k) {
		t.Errorf("known %+v, want %+v", f.Known, k)
	}
	if f.BirthDate != trace.BirthDateOther {
		t.Errorf("birth date %q", f.BirthDate)
	}
	if f.Outcome == nil || *f.Outcome != (trace.Outcome{Reason: "ok", Detail: "said: so, too"}) {
		t.Errorf("outcome %+v", f.Outcome)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestFullDiskDisturbsNoSession(t *testing.T) {
	r := trace.NewRecorder(&script{}, &failingWriter{left: 3}, header, nil)
	for range 3 {
		if _, err := r.Transmit(t.Context(), []byte{0, 0xB0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.End("ok", ""); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("the end says %v", err)
	}
}

func TestTamperedTraceIsToldWithItsLine(t *testing.T) {
	var b bytes.Buffer
	r := trace.NewRecorder(&script{{rapdu: []byte{1, 2, 0x90, 0}}}, &b, header, nil)
	for range 2 {
		if _, err := r.Transmit(t.Context(), []byte{0, 0xB0, 0, 0, 2}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.End("ok", ""); err != nil {
		t.Fatal(err)
	}
	good := b.String()
	parse(t, good)
	for name, c := range map[string]struct{ from, to, want string }{
		"another version":       {"trace v1", "trace v2", "line 1: "},
		"unknown directive":     {"# agent: 1.2.3", "# argent: 1.2.3", `line 3: unknown directive "argent"`},
		"a directive twice":     {"# agent: 1.2.3", "# agent: 1.2.3\n# agent: 4", "line 4: agent stands here twice"},
		"no agent":              {"# agent: 1.2.3\n", "", "line 9: agent is missing"},
		"empty agent":           {"1.2.3", "", "line 3: "},
		"local time":            {"T12:00:00Z", " 12:00", "line 2: "},
		"broken seconds":        {"T12:00:00Z", "T12:00:00.5Z", "line 2: "},
		"short nonce":           {"nonce: 0707", "nonce: 07", "line 9: nonce of 31 bytes"},
		"no scope":              {"# scope: demo-hall\n", "", "scope, terminal and nonce"},
		"command in the header": {"# agent", "> 00\n# agent", "line 3: want directives"},
		"no digit":              {"> 00B0000002", "> 00B000000Z", "line 13: "},
		"half a byte":           {"> 00B0000002", "> 00B000000", "line 13: "},
		"XX in a response":      {"< 01029000", "< 01XX9000", "line 14: XX stands in commands only"},
		"a byte taken out":      {"< 01029000", "< 019000", "line 20: the outcome is of 2 commands and 16 bytes, above it are 2 and 15"},
		"a pair taken out":      {"> 00B0000002\n< 01029000\n", "", "the outcome is of 2 commands"},
		"a pair behind the end": {"\n# outcome: ok, 2 commands, 16 bytes\n", "\n# outcome: ok, 2 commands, 16 bytes\n> 00B0000002\n< 9000\n", "line 21: a command behind"},
		"an odd outcome":        {"# outcome: ok", "# outcome: fine and dandy", "line 20: outcome"},
		"no response":           {"< 01029000\n", "", "line 15: want"},
		"error alone":           {"< 01029000\n", "< 01029000\n# error: removed: x\n", "line 15: error without a command"},
		"an odd error":          {"< 01029000\n", "# error: odd: x\n", `line 14: unknown sort of error "odd"`},
		"an odd row":            {"# outcome", "# row: maybe\n# outcome", `line 20: row is "maybe"`},
		"a key without a row":   {"# outcome", "# card-key: 00\n# outcome", "line 20: card-key before row"},
		"an odd first use":      {"# outcome", "# row: listed\n# first-use: yes\n# outcome", "line 21: first-use is"},
		"an odd birth date":     {"# outcome", "# birth-date: 19900401\n# outcome", "line 20: birth-date is"},
		"two rows":              {"# outcome", "# row: none\n# row: none\n# outcome", "line 21: row stands here twice"},
		"not connected":         {"# outcome", "# unconnected: failed: x\n# outcome", "line 20: unconnected behind a command"},
	} {
		if strings.Count(good, c.from) == 0 {
			t.Fatalf("%s: no %q in\n%s", name, c.from, good)
		}
		_, err := trace.ParseFile(strings.NewReader(strings.Replace(good, c.from, c.to, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		}
	}
	// Mail makes lines end otherwise, and that is all right.
	parse(t, strings.ReplaceAll(good, "\n", "\r\n"))
}

// A command that differs is named with its line, and its PIN is not.
func TestReplayTellsTheDifferenceAndNoPIN(t *testing.T) {
	var b bytes.Buffer
	r := trace.NewRecorder(&script{}, &b, header, nil)
	verify := unhex(t, "00200080 04 31323334")
	for range 2 {
		if _, err := r.Transmit(t.Context(), verify); err != nil {
			t.Fatal(err)
		}
	}
	f := parse(t, b.String())
	replay := &trace.Replay{Pairs: f.Pairs}
	// Any PIN of that length will do.
	if _, err := replay.Transmit(t.Context(), unhex(t, "00200080 04 39393939")); err != nil {
		t.Fatal(err)
	}
	if d := replay.Difference(); d == nil || d.Line != f.Pairs[1].Line || d.Sent != "" {
		t.Errorf("difference %+v with a command to come", d)
	}
	_, err := replay.Transmit(t.Context(), unhex(t, "00200080 06 313233343536"))
	want := fmt.Sprintf("trace line %d: command 0020008006XXXXXXXXXXXX, recorded was 0020008004XXXXXXXX", f.Pairs[1].Line)
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if _, again := replay.Transmit(t.Context(), verify); again != err {
		t.Errorf("it goes on with %v", again)
	}
	if d := replay.Difference(); d == nil || d.Line != f.Pairs[1].Line || d.Recorded != "0020008004XXXXXXXX" {
		t.Errorf("difference %+v", d)
	}

	replay = &trace.Replay{Pairs: f.Pairs[:1]}
	for range 2 {
		_, err = replay.Transmit(t.Context(), verify)
	}
	if want := "trace: 0020008004XXXXXXXX after the last of 1 commands"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// FuzzRecord: what is recorded parses, has no byte of a secret, and replays to
// the same bytes; and so does what is recorded of the replay.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("\x05\x00\xB0\x00\x00\x00\x02\x90\x00\x09\x00\x20\x00\x80\x041234\x02\x90\x00"), "hall", "left", uint8(0x82))
	f.Add([]byte("\x09\x00\x82\x00\x80\x04abcd\x80\x01\x00\x03\x00\x20\x00"), "\n", `"`, uint8(0x82))
	f.Fuzz(func(t *testing.T, b []byte, scope, terminal string, hidden uint8) {
		if scope == "" || terminal == "" {
			return
		}
		secret := func(c nfc.Command) bool { return c.INS == hidden }
		h := header
		h.Scope, h.Terminal = scope, terminal

		// Lengths and bytes in turn, commands and answers in turn. A length
		// above 127 is an error in the answer's place.
		var commands [][]byte
		var answers script
		for len(b) > 0 && len(commands) < 100 {
			var command []byte
			command, b = take(b)
			a := answer{}
			if len(b) > 0 && b[0] > 127 {
				a.err = [...]error{nfc.ErrRemoved, context.Canceled, errors.New("broken")}[b[0]%3]
			}
			a.rapdu, b = take(b)
			if a.err != nil {
				a.rapdu = nil
			}
			commands, answers = append(commands, command), append(answers, a)
		}
		want := slices.Clone(answers)

		record := func(card nfc.Transmitter) string {
			var text bytes.Buffer
			r := trace.NewRecorder(card, &text, h, secret)
			for i, command := range commands {
				got, err := r.Transmit(t.Context(), command)
				if !bytes.Equal(got, want[i].rapdu) || (err == nil) != (want[i].err == nil) {
					t.Fatalf("command %d is answered %X, %v; want %+v", i, got, err, want[i])
				}
			}
			if err := r.End("ok", ""); err != nil {
				t.Fatal(err)
			}
			return text.String()
		}
		text := record(&answers)
		file := parse(t, text)
		if file.Scope != scope || file.Terminal != terminal || len(file.Pairs) != len(commands) {
			t.Fatalf("%q became %+v", text, file)
		}
		for i, command := range commands {
			c, err := nfc.ParseCommand(command)
			pin := len(command) > 1 && slices.Contains([]byte{0x20, 0x21, 0x24, 0x25, 0x2C, 0x2D}, command[1])
			if shown := file.Pairs[i]; (pin || err == nil && c.INS == hidden) && len(c.Data) > 0 {
				from := 5
				if c.Extended {
					from = 7
				}
				for at := from; at < from+len(c.Data); at++ {
					if shown.Masked == nil || !shown.Masked[at] || shown.Command[at] != 0 {
						t.Fatalf("%X is written %s", command, shown.Text())
					}
				}
			}
		}
		replay := &trace.Replay{Pairs: file.Pairs, Secret: secret}
		again := record(replay)
		if d := replay.Difference(); d != nil {
			t.Fatal(d)
		}
		if withoutTimes(again) != withoutTimes(text) {
			t.Fatalf("%s\nreplays to\n%s", text, again)
		}
	})
}

func take(b []byte) (piece, rest []byte) {
	if len(b) == 0 {
		return nil, nil
	}
	n := min(int(b[0]&0x7F), len(b)-1)
	return b[1 : 1+n], b[1+n:]
}

func withoutTimes(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, " ms\n") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// FuzzParseFile: whatever is accepted has a header that is whole, and an end
// that fits.
func FuzzParseFile(f *testing.F) {
	var b bytes.Buffer
	r := trace.NewRecorder(&script{{rapdu: []byte{1, 0x90, 0}}, {err: nfc.ErrRemoved}}, &b, header, nil)
	r.Transmit(f.Context(), []byte{0, 0xB0, 0, 0, 2})
	r.Know(trace.Known{Row: trace.RowListed, CardKey: []byte{1}})
	r.Transmit(f.Context(), []byte{0, 0x20, 0, 0x80, 2, 1, 2})
	r.End("card_removed", "gone")
	f.Add(b.String())
	f.Fuzz(func(t *testing.T, text string) {
		file, err := trace.ParseFile(strings.NewReader(text))
		if err != nil {
			return
		}
		if file.Agent == "" || file.Dialogue == "" || file.Profile == "" || file.Reader == "" || file.Recorded.IsZero() {
			t.Fatalf("header %+v", file.Header)
		}
		if (file.Nonce == nil) != (file.Scope == "") || file.Nonce != nil && len(file.Nonce) != 32 {
			t.Fatalf("header %+v", file.Header)
		}
		if file.Outcome != nil && file.Outcome.Commands != len(file.Pairs) {
			t.Fatalf("%d pairs, outcome %+v", len(file.Pairs), file.Outcome)
		}
		for _, p := range file.Pairs {
			if p.Err != nil && p.Response != nil {
				t.Fatalf("pair %+v", p)
			}
		}
	})
}
