package journal

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

func TestOccupancyCountsPeopleInEachZone(t *testing.T) {
	j := open(t, temp(t))
	ctx := t.Context()
	let := func(zone string, people, passed uint32, exit bool, at time.Time) terminal.Reservation {
		t.Helper()
		d := party(fmt.Sprint("t", lastNumber(t, j)), people)
		d.Zone, d.Instant = zone, at
		if exit {
			d.Direction, d.Reason = terminal.Exit, terminal.Leaving
		}
		r := admit(t, j, d)
		if passed > 0 {
			check(t, j.Commit(ctx, r, passed))
		}
		return r
	}
	let("hall", 5, 4, false, noon)
	let("hall", 2, 2, true, noon.Add(time.Minute))
	check(t, j.SettleBy(ctx, let("hall", 9, 9, false, noon), 0, steward, ""))
	check(t, j.Annul(ctx, let("hall", 9, 0, false, noon), terminal.NoPassage))
	r := let("hall", 3, 0, false, noon.Add(time.Minute))
	check(t, j.Passed(ctx, r, 1), j.Doubt(ctx, r, terminal.GateFault))
	let("vip", 1, 0, false, noon)
	let("vip", 7, 7, false, noon.Add(-24*time.Hour))
	let("", 1, 1, true, noon)
	for _, tc := range []struct {
		since time.Time
		want  []Zone
	}{
		{time.Time{}, []Zone{{"", 0, 1, 0}, {"hall", 5, 2, 2}, {"vip", 7, 0, 1}}},
		{noon, []Zone{{"", 0, 1, 0}, {"hall", 5, 2, 2}, {"vip", 0, 0, 1}}},
		{noon.Add(time.Hour), nil},
	} {
		got, err := j.Occupancy(ctx, tc.since)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("since %v: %+v, %v; want %+v", tc.since, got, err, tc.want)
		}
	}
	if n := (Zone{Entered: 5, Left: 2}).Inside(); n != 3 {
		t.Errorf("%d inside, want 3", n)
	}
	if n := (Zone{Left: 1}).Inside(); n != 0 {
		t.Errorf("%d inside, want none: somebody came in unseen", n)
	}
}

func TestRateCountsEntriesInSteps(t *testing.T) {
	j := open(t, temp(t))
	for i, seconds := range []int{0, 59, 60, 150, 180, -1} {
		d := party("t", 2)
		d.Instant = noon.Add(time.Duration(seconds) * time.Second)
		r := admit(t, j, d)
		if i != 2 { // one stays open
			check(t, j.Commit(t.Context(), r, uint32(1+i%2)))
		}
	}
	check(t, j.Commit(t.Context(), admit(t, j, leaving("t")), 1))
	got, err := j.Rate(t.Context(), noon, noon.Add(170*time.Second), time.Minute)
	if want := []uint64{3, 0, 2}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if got, err := j.Rate(t.Context(), noon, noon, time.Minute); err != nil || len(got) != 0 {
		t.Errorf("of no time: %v, %v", got, err)
	}
	for _, step := range []time.Duration{0, -time.Minute, time.Microsecond, time.Millisecond} {
		if _, err := j.Rate(t.Context(), noon, noon.Add(time.Hour), step); err == nil {
			t.Errorf("steps of %v: answered", step)
		}
	}
	if _, err := j.Rate(t.Context(), noon, noon.Add(-time.Hour), time.Minute); err == nil {
		t.Error("time runs backwards")
	}
}

func export(t testing.TB, r *Reader, f Filter, format Format) string {
	t.Helper()
	var b bytes.Buffer
	check(t, r.Export(t.Context(), &b, f, format))
	return b.String()
}

func TestExportOfLinesIsWhatTheChainCovers(t *testing.T) {
	j := open(t, temp(t))
	everyKind(t, j)
	report, err := j.Verify(t.Context())
	check(t, err)
	prev := firstHash(report.Incarnation)
	for line := range strings.Lines(export(t, j.Reader, Filter{}, JSONLines)) {
		prev = next(prev, []byte(strings.TrimSuffix(line, "\n")))
	}
	if prev != report.Head {
		t.Error("the lines do not make the chain")
	}
	if got := export(t, j.Reader, Filter{Kinds: []Kind{KindPassed}}, JSONLines); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"kind":"passed"`) {
		t.Errorf("filtered: %s", got)
	}
	if err := j.Export(t.Context(), io.Discard, Filter{}, "xlsx"); err == nil {
		t.Error("an unknown format is written")
	}
	empty := open(t, temp(t))
	if got := export(t, empty.Reader, Filter{}, JSONLines); got != "" {
		t.Errorf("of nothing: %q", got)
	}
	// Whatever is written meanwhile is not in it.
	w := &writerThat{then: func() { reserve(t, j, "late") }}
	check(t, j.Export(t.Context(), w, Filter{}, JSONLines))
	if strings.Contains(w.String(), "late") || w.Len() == 0 {
		t.Error("the export goes on with what came after it began")
	}
	if err := j.Export(t.Context(), failing{}, Filter{}, CSV); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type writerThat struct {
	bytes.Buffer
	then func()
}

func (w *writerThat) Write(b []byte) (int, error) {
	w.then()
	return w.Buffer.Write(b)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestExportOfCSVHasEveryMember(t *testing.T) {
	j := open(t, temp(t))
	everyKind(t, j)
	j.now = func() time.Time { return noon.Add(26 * time.Hour) }
	text := export(t, j.Reader, Filter{}, CSV)
	_, err := j.Prune(t.Context(), noon.Add(2*time.Hour), Everything, nil, steward)
	check(t, err)
	text += strings.Join(strings.SplitAfter(export(t, j.Reader, Filter{}, CSV), "\r\n")[1:], "")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	check(t, err)
	var members []string
	for f := range reflect.TypeFor[Event]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		members = append(members, name)
	}
	if want := append(members, "hash"); !slices.Equal(rows[0], want) || len(rows) != 22 {
		t.Fatalf("%d rows\ngot  %q\nwant %q", len(rows), rows[0], want)
	}
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") {
		t.Error("a line does not end in CRLF (RFC 4180)")
	}
	// Each cell is what the member is, and each column has a value somewhere.
	filled := map[string]bool{}
	v := readVector(t, "chain.json")
	for i, row := range rows[1:] {
		var members map[string]any
		d := json.NewDecoder(strings.NewReader(v.Events[i].Bytes))
		d.UseNumber()
		check(t, d.Decode(&members))
		for n, column := range rows[0] {
			want := ""
			switch m := members[column].(type) {
			case nil:
			case []any:
				want = strings.Trim(fmt.Sprint(m), "[]")
			default:
				want = fmt.Sprint(m)
			}
			filled[column] = filled[column] || row[n] != ""
			if column == "rows_sha256" || column == "hash" || column == "checkpoint" || column == "through_hash" || column == "carried_sha256" {
				continue // the incarnation is another one
			}
			if row[n] != want {
				t.Errorf("event %d, %s: %q, want %q", i+1, column, row[n], want)
			}
		}
	}
	for _, column := range rows[0] {
		if !filled[column] {
			t.Errorf("no event has %s", column)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "journal.md"))
	check(t, err)
	if !strings.Contains(string(page), "\n    "+strings.Join(columns, ",")+"\n") {
		t.Errorf("docs/journal.md lacks the header\n    %s", strings.Join(columns, ","))
	}
}

// A note of staff is no formula of whoever opens the file.
func TestExportHoldsNoFormula(t *testing.T) {
	j := open(t, temp(t))
	for note, want := range map[string]string{
		`=HYPERLINK("http://x","y")`: `"'=HYPERLINK(""http://x"",""y"")"`, "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)",
		"\t=1": "'\t=1", "'=1": "''=1", "1=1": "1=1", "a,b": `"a,b"`, "": "",
	} {
		check(t, j.Incident(t.Context(), terminal.Incident{At: noon, Reason: terminal.Tailgate, Note: note}))
		lines := strings.SplitAfter(export(t, j.Reader, Filter{After: lastNumber(t, j) - 1}, CSV), "\r\n")
		if !strings.Contains(lines[1], ","+want+",") {
			t.Errorf("%q: %s", note, lines[1])
		}
		if want != "" && !strings.HasPrefix(want, "'") && !strings.HasPrefix(want, `"'`) && strings.ContainsAny(note[:1], "=+-@") {
			t.Errorf("%q begins a formula", note)
		}
	}
}
