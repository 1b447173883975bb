package e2e

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// reads runs a command with --json, and reads its one object.
func reads[T any](t *testing.T, s site, args ...string) (answer T) {
	t.Helper()
	stdout := s.must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		t.Fatalf("gate-agent %q: %v: %s", args, err, stdout)
	}
	return answer
}

type verified struct {
	Events, Pruned, Open, Checkpoints, Signed uint64
	Keys                                      int
	Head                                      string
	Checkpoint                                *struct {
		Terminal, Head string
		Seq            uint64
	}
}

type signed struct {
	File, Terminal, Scope, Incarnation, Head string
	Seq                                      uint64
	At                                       time.Time
}

// A day's record is counted, exported and signed beside the running agent, and
// found out when it was cut.
func TestRecordIsCountedExportedAndSigned(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, "[identity]", "[journal]\ncheckpoint = \"1s\"\n\n[identity]")
	w := theTown(t)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	want(t, r.tap(a, w.bob(t)), terminal.Admit, terminal.OK)
	want(t, r.tap(a, w.person(t, "not listed", "tap-use").Image), terminal.Deny, terminal.NotListed)

	type zones struct {
		Since *time.Time
		Zones []struct {
			Zone                  string
			Entered, Left, Inside uint64
			InDoubt               uint64 `json:"in_doubt"`
		}
	}
	for _, since := range []string{"", "1h"} {
		o := reads[zones](t, s, "journal", "occupancy", "--since", since)
		if len(o.Zones) != 1 || o.Zones[0].Entered != 2 || o.Zones[0].Inside != 2 || (o.Since == nil) != (since == "") {
			t.Errorf("occupancy since %q: %+v", since, o)
		}
	}
	if o := reads[zones](t, s, "journal", "occupancy", "--since", "0s"); o.Zones == nil || len(o.Zones) != 0 {
		t.Errorf("occupancy since now: %+v", o)
	}
	if text := s.must(t, "journal", "occupancy"); !strings.Contains(text, "区域ごとの人数") || !regexp.MustCompile(`(?m)^- +2 +0 +2 +0$`).MatchString(text) {
		t.Errorf("occupancy: %s", text)
	}
	counts := reads[struct {
		Since, Until time.Time
		StepS        int `json:"step_s"`
		Entered      []uint64
	}](t, s, "journal", "rate", "--since", "10m")
	var entered uint64
	for _, n := range counts.Entered {
		entered += n
	}
	if entered != 2 || counts.StepS != 60 || len(counts.Entered) < 10 || counts.Since.Second() != 0 {
		t.Errorf("rate: %+v", counts)
	}
	if text := s.must(t, "journal", "rate", "--since", "10m"); !strings.Contains(text, "█") || !strings.Contains(text, "2 people entered") {
		t.Errorf("rate: %s", text)
	}
	list := s.must(t, "journal", "list")
	for _, like := range []string{`(?m)^SEQ +AT +KIND +OF +VERDICT .* STAFF +WHAT$`, `(?m) reserve +admit +ok +tap-use +1 +ticket-alice `, `(?m) commit +\d+ `, `(?m) list +epoch 1, seq 1$`} {
		if !regexp.MustCompile(like).MatchString(list) {
			t.Errorf("no %s in\n%s", like, list)
		}
	}

	// Export
	out := s.path("export.csv")
	_, stderr, code := s.run(t, "journal", "export", "--format", "csv", "--kind", "reserve,decision", "--out", out)
	info, err := os.Stat(out)
	if code != 0 || err != nil || info.Mode().Perm() != 0o600 || !strings.Contains(stderr, "personal data") || !strings.Contains(stderr, "個人データ") {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(b))).ReadAll()
	if err != nil || len(rows) != 4 || rows[0][0] != "seq" {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if _, stderr, code = s.run(t, "journal", "export", "--format", "csv", "--out", out); code != 1 || !strings.Contains(stderr, "exists, and is not replaced") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	for _, c := range []struct {
		filter []string
		lines  int
	}{
		{[]string{"--entitlement", "ticket-alice"}, 1}, {[]string{"--kind", "decision"}, 1}, {[]string{"--until", "1h"}, 0}, {[]string{"--kind", "commit", "--since", "1h"}, 2},
	} {
		if text := s.must(t, append([]string{"journal", "export", "--format", "jsonl"}, c.filter...)...); strings.Count(text, "\n") != c.lines {
			t.Errorf("%q: %s", c.filter, text)
		}
	}

	// Checkpoints: by the running agent, by its clock, and when it stands still.
	first := reads[signed](t, s, "journal", "checkpoint", "--out", s.path("first.cose"))
	if first.Terminal != "gate-1-left" || first.Scope != "demo-hall" || first.Seq == 0 || len(first.Head) != 64 || first.File != s.path("first.cose") {
		t.Errorf("%+v", first)
	}
	if _, stderr, code = s.run(t, "journal", "checkpoint", "--out", first.File); code != 1 || !strings.Contains(stderr, "exists, and is not replaced") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	a.says(`"checkpoint signed"`)
	logged := regexp.MustCompile(`"checkpoint":"([^"]+)"`).FindStringSubmatch(a.stderr.String())
	msg, err := base64.StdEncoding.DecodeString(logged[1])
	if err != nil {
		t.Fatal(err)
	}
	fromLog := s.write(t, "log.cose", msg)
	a.stop()
	second := reads[signed](t, s, "journal", "checkpoint", "--out", s.path("second.cose"))
	if second.Seq <= first.Seq || second.Incarnation != first.Incarnation {
		t.Errorf("%+v after %+v", second, first)
	}
	v := reads[verified](t, s, "journal", "verify")
	if v.Keys != 1 || v.Checkpoints < 3 || v.Signed != second.Seq || v.Events != second.Seq+1 || v.Pruned != 0 || v.Checkpoint != nil {
		t.Errorf("%+v", v)
	}
	for file, seq := range map[string]uint64{first.File: first.Seq, second.File: second.Seq, fromLog: 0} {
		v := reads[verified](t, s, "journal", "verify", "--checkpoint", file)
		if v.Checkpoint == nil || seq > 0 && v.Checkpoint.Seq != seq || v.Checkpoint.Terminal != "gate-1-left" {
			t.Errorf("%s: %+v", file, v)
		}
	}
	if text := s.must(t, "journal", "verify", "--checkpoint", first.File); !strings.Contains(text, fmt.Sprintf("it goes on from the checkpoint of event %d, which gate-1-left signed on", first.Seq)) {
		t.Errorf("%s", text)
	}

	// Another key; none; what is no checkpoint.
	if v := reads[verified](t, s, "journal", "verify", "--key", s.path("checkpoint.pub.pem")); v.Keys != 1 || v.Checkpoints < 3 {
		t.Errorf("%+v", v)
	}
	if _, stderr, code = s.run(t, "journal", "verify", "--key", s.path("list.pub.pem")); code != 4 || !strings.Contains(stderr, "was checkpoint.key replaced? Name the public keys of before and of now with --key") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, stderr, code = s.run(t, "journal", "verify", "--checkpoint", s.path("ca.pem")); code != 4 || !strings.Contains(stderr, "malformed") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, stderr, code = s.run(t, "journal", "verify", "--key", s.path("list.cose")); code != 2 || !strings.Contains(stderr, "--key: "+s.path("list.cose")) {
		t.Errorf("exit code %d: %s", code, stderr)
	}

	// A journal that was made anew.
	if err := os.RemoveAll(s.path("state")); err != nil {
		t.Fatal(err)
	}
	s.must(t, "list", "import", s.path("list.cose"))
	b2 := launch(t, s)
	b2.says("in force")
	b2.stop()
	s.must(t, "journal", "verify")
	if _, stderr, code = s.run(t, "journal", "verify", "--checkpoint", first.File); code != 4 || !strings.Contains(stderr, "checkpoint of another journal") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestCheckpointNeedsAKey(t *testing.T) {
	t.Parallel()
	s := ready(t)
	a := launch(t, s)
	a.says("in force")
	a.stop()
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	without, _, _ := strings.Cut(string(config), "[identity]")
	s.write(t, "config.toml", []byte(without))
	if _, stderr, code := s.run(t, "journal", "checkpoint", "--out", s.path("x.cose")); code != 3 || !strings.Contains(stderr, "checkpoint.key is missing") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	a = launch(t, s)
	a.says("in force")
	if v := reads[verified](t, s, "journal", "verify"); v.Keys != 0 {
		t.Errorf("%+v", v)
	}
	// The agent does not know of a key that the configuration has since.
	s.write(t, "config.toml", config)
	if _, stderr, code := s.run(t, "journal", "checkpoint", "--out", s.path("x.cose")); code != 4 || !strings.Contains(stderr, "set checkpoint.key and restart it") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if left, _ := filepath.Glob(s.path(".draft-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	a.stop()
	s.edit(t, "checkpoint.key;", "absent.key;")
	b := launch(t, s)
	if code := b.wait(); code != 3 || !strings.Contains(b.stderr.String(), "checkpoint.key") {
		t.Errorf("exit code %d: %s", code, b.stderr)
	}
}

// visited writes a journal of long ago: who passed by which ticket, how many
// days ago, and when the ticket ends.
func visited(t *testing.T, s site, visits ...struct {
	entitlement string
	ago, until  int // days; until 0 is never
}) {
	t.Helper()
	now := time.Now()
	j, err := journal.Open(s.path("state/journal.db"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range visits {
		now = time.Now().AddDate(0, 0, -v.ago)
		d := terminal.Decision{Verdict: terminal.Admit, Reason: terminal.OK, Entitlement: v.entitlement, CardID: strings.Repeat("a", 64), Instant: now, People: 1}
		if v.until != 0 {
			d.Until = time.Now().AddDate(0, 0, v.until)
		}
		r, err := j.Reserve(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Commit(t.Context(), r, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

type visit = struct {
	entitlement string
	ago, until  int
}

func TestOldEventsAreDeletedAtTheStart(t *testing.T) {
	t.Parallel()
	s := ready(t)
	visited(t, s, visit{"over", 60, -40}, visit{"season", 59, 100}, visit{"endless", 58, 0}, visit{"ended lately", 57, -10}, visit{"fresh", 3, -1})
	count := func() string {
		return fmt.Sprint(reads[struct {
			Zones []struct{ Entered uint64 }
		}](t, s, "journal", "occupancy").Zones)
	}
	// Without keep nothing goes.
	a := launch(t, s)
	a.says("in force")
	a.stop()
	if v := reads[verified](t, s, "journal", "verify"); v.Pruned != 0 || v.Events != 12 || count() != "[{5}]" {
		t.Errorf("%+v, %s", v, count())
	}
	before := reads[signed](t, s, "journal", "checkpoint", "--out", s.path("before.cose"))

	s.edit(t, "[identity]", "[journal]\nkeep = \"720h\"\n\n[identity]")
	a = launch(t, s)
	a.says(`"msg":"old events deleted"`)
	a.says(`"events":8`)
	a.says("in force")
	v := reads[verified](t, s, "journal", "verify")
	if v.Pruned != 8 || v.Checkpoints != 1 || count() != "[{4}]" {
		t.Errorf("%+v, %s", v, count())
	}
	// Its record names nobody, and people see what it was.
	var records []recorded
	for _, e := range s.journalEvents(t) {
		if e.Kind == "prune" {
			records = append(records, e)
		}
	}
	if len(records) != 1 || records[0].Staff != "" {
		t.Errorf("%+v", records)
	}
	if list := s.must(t, "journal", "list", "--kind", "prune"); !strings.Contains(list, "up to 8, all before 20") {
		t.Errorf("%s", list)
	}
	if text := s.must(t, "journal", "verify"); !strings.Contains(text, "before them 8 were deleted by retention") {
		t.Errorf("%s", text)
	}
	if v := reads[verified](t, s, "journal", "verify", "--checkpoint", before.File); v.Checkpoint == nil || v.Checkpoint.Seq != before.Seq {
		t.Errorf("%+v", v)
	}
	a.end(syscall.SIGTERM)

	// Tickets without an end, when the configuration says so.
	s.edit(t, `keep = "720h"`, "keep = \"48h\"\nkeep_endless = \"1200h\"")
	a = launch(t, s)
	a.says(`"events":2`)
	a.says("in force")
	a.stop()
	if got := count(); got != "[{2}]" { // season, fresh
		t.Errorf("%s", got)
	}
	for name, left := range map[string]bool{"over": false, "endless": false, "ended lately": false, "season": true} {
		for _, file := range []string{"journal.db", "journal.db-wal"} {
			b, err := os.ReadFile(s.path("state/" + file))
			if err == nil && file == "journal.db" && strings.Contains(string(b), name) != left {
				t.Errorf("%q is in %s: %v", name, file, !left)
			}
		}
	}
}

// A checkpoint whose event is gone says nothing, and that is no accusation.
func TestCheckpointOfDeletedEventsSaysNothing(t *testing.T) {
	t.Parallel()
	s := ready(t)
	visited(t, s, visit{"season", 60, 100})
	signed := reads[signed](t, s, "journal", "checkpoint", "--out", s.path("old.cose"))
	visited(t, s, visit{"later", 59, 100})
	j, err := journal.Open(s.path("state/journal.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Prune(t.Context(), time.Now(), journal.Everything, nil, terminal.Staff{}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := s.run(t, "journal", "verify", "--checkpoint", signed.File); code != 1 || !strings.Contains(stderr, "the journal is whole, and the checkpoint is too old to say more") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// journalEvents lists the events that there are.
func (s site) journalEvents(t *testing.T) (all []recorded) {
	t.Helper()
	for line := range strings.Lines(s.must(t, "journal", "list", "--json")) {
		var e recorded
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return slices.Clip(all)
}
