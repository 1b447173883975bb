package trace_test

import (
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/trace"
)

func TestBrokenTracesNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"> 00":             "ends with a command",
		"# x\n< 9000":      "line 2",
		"> 00\n> 00":       "line 2",
		"> 0G\n< 9000":     "line 1",
		"\n\n? 00\n< 9000": "line 3",
	} {
		if _, err := trace.Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

// FuzzParse: a trace that parses has whole pairs in the order of its lines.
func FuzzParse(f *testing.F) {
	f.Add("# a\n> 00B0000000\n< 9000\n")
	f.Fuzz(func(t *testing.T, text string) {
		pairs, err := trace.Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for i, p := range pairs {
			if i > 0 && p.Line <= pairs[i-1].Line {
				t.Fatalf("pair %d stands in line %d", i, p.Line)
			}
		}
		if n := strings.Count(text, ">"); len(pairs) > n {
			t.Fatalf("%d pairs from %d commands", len(pairs), n)
		}
	})
}
