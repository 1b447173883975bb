package stricttoml_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/internal/stricttoml"
)

// An hour is read from text.
type hour struct{ n int }

func (h *hour) UnmarshalText(b []byte) error { return errors.New("an hour is a word") }

func TestEveryErrorNamesItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\nb = 2":        `line 2: unknown key "b"`,
		"a = 1\n[h]\ny = 2":   `line 3: unknown key "h.y"`,
		"b = 1\n\nc = 2":      `line 3: unknown key "c"`, // all of them, not the first alone
		"a = 'x'":             "line 1: a: ",
		"a = 1\n[h]\nx = 300": "line 3: h.x: ",
		"a = 1\na = 2":        "line 2: a: ",
		"a = 1\n= 2":          "line 2: ",
		"a = 1\nt = 3\n[h]":   "line 2: an hour is a word",
		"a = 1\n[h\nx = 1":    "line 2: ",
	} {
		var v struct {
			A int  `toml:"a"`
			T hour `toml:"t"`
			H struct {
				X byte `toml:"x"`
			} `toml:"h"`
		}
		if err := stricttoml.Decode([]byte(text), &v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

// FuzzDecode: every error names a line that the text has.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{"a = 1", "t = 3", "[h]\nx = 300", "\n\nb = [\n1,\n2]", "a = \"\"\"\n\n", "\r\n[[h]]\r\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var v struct {
			A int  `toml:"a"`
			T hour `toml:"t"`
			H struct {
				X byte `toml:"x"`
			} `toml:"h"`
		}
		err := stricttoml.Decode(text, &v)
		if err == nil {
			return
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for message := range strings.SplitSeq(err.Error(), "\n") {
			var line int
			if n, _ := fmt.Sscanf(message, "line %d:", &line); n == 1 && (line < 1 || line > lines) {
				t.Fatalf("%q has %d lines: %v", text, lines, err)
			}
		}
		if !strings.HasPrefix(err.Error(), "line ") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
