package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/internal/nginx"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/lists"
)

// What the agent tells of lists, to those who look and to programs.
func TestListsAreToldToPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	h, s := newHub(t), install(t, shortDir(t))
	h.roots()
	h.must("ticket", "import", h.write(h.beside("tickets.csv"), crowd(1000)))
	w := webServer{h, nginx.New(t, h.files(), "limit_rate 64k;")} // somebody has to wait
	h.add(s)
	h.must("lease", "issue")
	source, ca := w.source()
	h.follow(s, source, ca)

	// Before there was a round, and without a scope key.
	says(t, s.must(t, "sync", "status"), source, "no lease has come yet", "nothing is known of rounds")
	if st := s.syncs(t); st.Source != source || st.List != nil || st.Rounds != nil || st.ListProblem == "" {
		t.Errorf("sync status: %+v", st)
	}
	if _, stderr, code := s.run(t, "list", "diff", "--source"); code != 3 || !strings.Contains(stderr, "sync now fetch it") {
		t.Errorf("list diff without a scope key: exit code %d: %s", code, stderr)
	}
	a := launch(t, s)
	a.says(`"msg":"scope key leased"`)
	a.stop()
	if _, stderr, code := s.run(t, "list", "diff", "--source"); code != 4 || !strings.Contains(stderr, "no list") {
		t.Errorf("list diff without a list: exit code %d: %s", code, stderr)
	}

	// The first list comes as a snapshot, and who waits is told how far it is.
	w.publish()
	p := newPTY(t)
	cmd := exec.Command(filepath.Join(programs, "gate-agent"), "sync", "now", "--config", s.config)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	p.control(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.sees("snapshot/")
	p.sees("kB of ")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("sync now: %v", err)
	}
	says(t, stdout.String(), "a new list, by a snapshot", "epoch 1, seq 1, 1000 rows")
	type round struct {
		Came       string
		List       *lists.InForce
		Deltas     int
		Received   int64
		DurationMS int64 `json:"duration_ms"`
	}
	if r := reads[round](t, s, "sync", "now"); r.Came != "" || r.List.Seq != 1 {
		t.Errorf("nothing newer: %+v", r)
	}
	says(t, s.must(t, "sync", "now"), "nothing newer")

	// What is new at the source, before it is taken over.
	h.must("ticket", "block", "C-1", "--reason", "a test")
	h.must("ticket", "import", h.write(h.beside("more.csv"), []byte("id,order\nN-1,NEW-1\nN-2,NEW-2\n")))
	w.publish()
	type difference struct {
		Same     bool
		InForce  lists.InForce `json:"in_force"`
		Other    lists.InForce
		Manifest []struct{ Field string }
		Rows     *struct{ Added, Changed, Gone uint64 }
	}
	d := reads[difference](t, s, "list", "diff", "--source")
	if d.Same || d.InForce.Seq != 1 || d.Other.Seq != 2 || d.Rows == nil || d.Rows.Added != 2 || d.Rows.Changed != 1 || d.Rows.Gone != 0 {
		t.Errorf("list diff: %+v", d)
	}
	says(t, s.must(t, "list", "diff", "--source"), "epoch 1, seq 1, 1000 rows", "epoch 1, seq 2, 1002 rows", "2 added, 1 changed, 0 gone")
	if st := s.syncs(t); st.List.Seq != 1 {
		t.Errorf("list diff took over list %d", st.List.Seq)
	}
	if r := reads[round](t, s, "sync", "now"); r.Came != string(lists.ByDeltas) || r.Deltas != 1 || r.List.Seq != 2 || r.Received == 0 {
		t.Errorf("a newer list: %+v", r)
	}
	if d := reads[difference](t, s, "list", "diff", "--source"); !d.Same {
		t.Errorf("list diff with the list in force: %+v", d)
	}

	// The same as a whole file, such as one on a stick.
	folder := filepath.Join(h.files(), world.Scope)
	whole, err := os.ReadFile(filepath.Join(folder, "manifest"))
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := filepath.Glob(filepath.Join(folder, "snapshot", "*"))
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("%q, %v", snapshots, err)
	}
	rows, err := os.ReadFile(snapshots[0])
	if err != nil {
		t.Fatal(err)
	}
	file := s.write(t, "whole.cose", slices.Concat(whole, rows))
	if _, stderr, code := s.run(t, "list", "diff", file); code != 4 || !strings.Contains(stderr, file) {
		t.Errorf("rows of another set: exit code %d: %s", code, stderr)
	}

	says(t, s.must(t, "sync", "status"), source, "epoch 1, seq 2, 1002 rows", "last contact", "2 lists by 1 snapshots, 1 deltas and 0 files", "list key ends")
	st := s.syncs(t)
	if st.Rounds == nil || st.Rounds.Failure != nil && st.Rounds.Failure.Until.IsZero() || st.Rounds.Alarm != nil || st.Rounds.Counts.Lists != 2 || st.Rounds.RoleEnds.IsZero() || *st.Rounds.InForce != *st.List {
		t.Errorf("sync status: %+v", st)
	}
	// What it is read from is a file that anybody may read, too.
	var same lists.Status
	b, err := os.ReadFile(s.path("state/sync.json"))
	if err := json.Unmarshal(b, &same); err != nil || same.Counts != st.Rounds.Counts {
		t.Errorf("sync.json: %v: %s", err, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// says fails the test unless a text has each of these.
func says(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, what := range all {
		if !strings.Contains(text, what) {
			t.Errorf("it does not say %q:\n%s", what, text)
		}
	}
}
