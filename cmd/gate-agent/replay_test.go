package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/terminal"
)

func TestReplayNamesWhatDiffers(t *testing.T) {
	s, config := installed(t)
	_, text := same(t, config, string(jpki.ExternalAuth), card(t, s.people[1].Image, 0), terminal.OK)
	f, _ := replayed(t, text)
	lines := strings.SplitAfter(text, "\n")
	for name, c := range map[string]struct {
		change func() string
		line   int
		reason terminal.Reason
	}{
		"another command": {func() string {
			return strings.Replace(text, "> 0084000020\n", "> 0084000021\n", 1)
		}, lineOf(lines, "> 0084000020"), ""},
		"a refusal in the place of success": {func() string {
			at := f.Pairs[2].Line
			changed := strings.Join(lines[:at], "") + strings.Replace(lines[at], "9000", "6A82", 1) + strings.Join(lines[at+1:], "")
			return changed
		}, f.Pairs[3].Line, terminal.CardUnsupported},
		"another nonce": {func() string {
			return strings.Replace(text, "# nonce: ", "# nonce: 00\n# x", 1)
		}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := trace.ParseFile(strings.NewReader(c.change()))
			if c.line == 0 {
				if err == nil {
					t.Error("it is accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			r, err := replay(t.Context(), file, jpki.DefaultProfile())
			if err != nil {
				t.Fatal(err)
			}
			if r.Same || r.Difference == nil || r.Difference.Line != c.line || r.Reason != c.reason {
				t.Errorf("replayed as %+v, difference %+v, want line %d", r, r.Difference, c.line)
			}
		})
	}

	// A signature of another key: no command differs, the outcome does.
	last := f.Pairs[len(f.Pairs)-1]
	other := bytes.Clone(last.Response)
	other[0] ^= 1 // of no value that a signature could begin with already
	_, r := replayed(t, strings.Replace(text, fmt.Sprintf("< %X", last.Response), fmt.Sprintf("< %X", other), 1))
	if r.Same || r.Difference != nil || r.Reason != terminal.AuthFailed {
		t.Errorf("another signature is replayed as %+v", r)
	}
	// What broke off has no outcome to compare with.
	_, r = replayed(t, strings.Join(lines[:last.Line], ""))
	if r.Same || r.Then != nil || r.Difference != nil {
		t.Errorf("a broken trace is replayed as %+v", r)
	}
}

// A later version may have another built-in profile; one of an operator is for
// nobody to guess.
func TestReplayWantsTheProfileOfTheTrace(t *testing.T) {
	s, config := installed(t)
	_, text := same(t, config, string(jpki.TapUse), card(t, s.people[0].Image, 0), terminal.OK)
	name := jpki.DefaultProfile().Name
	if _, r := replayed(t, strings.Replace(text, "# profile: "+name, "# profile: jpki-builtin-0", 1)); !r.Same || r.Profile == r.Now {
		t.Errorf("an older built-in profile is replayed as %+v", r)
	}
	f, err := trace.ParseFile(strings.NewReader(strings.Replace(text, "# profile: "+name, "# profile: hall-7", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replay(t.Context(), f, jpki.DefaultProfile()); err == nil || !strings.Contains(err.Error(), "--profile") {
		t.Errorf("another profile: %v", err)
	}
	own := jpki.DefaultProfile()
	own.Name = "hall-7"
	if r, err := replay(t.Context(), f, own); err != nil || !r.Same {
		t.Errorf("with its own profile: %+v, %v", r, err)
	}
}

func lineOf(lines []string, prefix string) int {
	for i, line := range lines {
		if strings.HasPrefix(line, prefix) {
			return i + 1
		}
	}
	return -1
}
