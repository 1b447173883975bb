package rules_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/whitelist/rules"
)

// What compiles answers twice the same, and so does the rule that its canonical
// text, which is no longer, compiles to.
func FuzzCompile(f *testing.F) {
	facts := []rules.Facts{{}, evening(f), evening(f), evening(f)}
	facts[2].Location, facts[2].DayStarts = zone(f, "Europe/Berlin"), 150*time.Minute
	facts[2].Now = at(f, "2026-10-25T01:10:00Z")
	facts[3].Inside, facts[3].Entries = false, nil

	f.Fuzz(func(t *testing.T, text string) {
		r, err := rules.Compile(text)
		if err != nil {
			if !reflect.DeepEqual(r, rules.Rules{}) {
				t.Fatal("a rule beside an error")
			}
			return
		}
		canonical := r.String()
		if len(canonical) > len(text) {
			t.Fatalf("canonical text is longer: %s", canonical)
		}
		again, err := rules.Compile(canonical)
		if err != nil {
			t.Fatalf("canonical text %s: %v", canonical, err)
		}
		if again.String() != canonical || !reflect.DeepEqual(again.IDs(), r.IDs()) {
			t.Fatalf("canonical text changes: %s, then %s", canonical, again)
		}
		for _, f := range facts {
			first, second, third := answer(t, r, f), answer(t, r, f), answer(t, again, f)
			// A list of one has no place in the canonical text.
			if first != second || place.ReplaceAllString(first, "") != place.ReplaceAllString(third, "") {
				t.Fatalf("%s: %s, then %s, then %s", text, first, second, third)
			}
		}
	})
}

func answer(t *testing.T, r rules.Rules, f rules.Facts) string {
	yes, err := r.Evaluate(f)
	checks, failed := r.Explain(f)
	if yes && err != nil || (err != nil) != (failed != nil) {
		t.Fatalf("%v: evaluates to %v and %v, explained with %v", r, yes, err, failed)
	}
	return fmt.Sprintf("%v, %v; %+v", yes, err, checks)
}

var place = regexp.MustCompile(`rule, at [^ ]*`)

var seed = flag.Bool("seed", false, "write the seeds of FuzzCompile to testdata")

// The seeds are the examples of docs/rules.md and a rule of each form.
func TestSeedsOfTheFuzzerCompile(t *testing.T) {
	folder := filepath.Join("testdata", "fuzz", "FuzzCompile")
	seeds := append(examples(t),
		`{"and":[true,{"or":[false,{"!=":[{"var":"entry_status"},"absent"]}]}]}`,
		`{"inList":[{"var":"variation"},{"objectList":{"lookup":["variation","7","\u30c1\ud83c\udfab"]}}]}`,
		`{"<=":[{"entries_days_since":[{"buildTime":["custom","2026-10-01T23:00:00.000+01:00"]}]},0]}`,
		`{">":[{"entries_days_before":{"buildTime":["customtime","02:30:00"]}},{"var":"entries_days"}]}`,
		`{"isAfter":[{"buildTime":["date_admission",null]},{"var":["now"]},-10]}`,
		`{"==":[{"var":"minutes_since_first_entry"},-1]}`,
	)
	for i, text := range seeds {
		compile(t, text)
		name := filepath.Join(folder, fmt.Sprintf("seed-%d", i+1))
		want := []byte("go test fuzz v1\nstring(" + strconv.Quote(text) + ")\n")
		if *seed {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not this seed (%v): go test ./whitelist/rules -run Seeds -seed", name, err)
		}
	}
}

// examples are the rules of docs/rules.md.
func examples(t testing.TB) (all []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1) {
		all = append(all, string(m[1]))
	}
	if len(all) < 2 {
		t.Fatalf("docs/rules.md has %d examples", len(all))
	}
	return all
}

func BenchmarkEvaluate(b *testing.B) {
	r, f := compile(b, examples(b)[0]), evening(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Evaluate(f); err != nil {
			b.Fatal(err)
		}
	}
}

// As many day counts as a rule holds, over a year of entries.
func BenchmarkEvaluateTheWorst(b *testing.B) {
	condition := `{"<":[{"var":"entries_days"},9]},`
	n := min(rules.MaxText/len(condition), (rules.MaxOperators-1)/2) - 1
	r, f := compile(b, `{"and":[`+strings.Repeat(condition, n)+`true]}`), evening(b)
	f.Entries = nil
	for i := range 365 * 4 {
		f.Entries = append(f.Entries, f.Now.Add(time.Duration(i-365*4)*6*time.Hour))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Evaluate(f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	text := examples(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		compile(b, text)
	}
}
