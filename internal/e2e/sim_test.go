package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// simulate runs gate-sim to its end.
func simulate(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gate-sim"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// The way by hand, as the README tells it: every part is a process.
func TestWorldMadeByHandAdmits(t *testing.T) {
	t.Parallel()
	r := newReaders(t)
	dir := filepath.Join(t.TempDir(), "world")
	stdout, stderr, code := simulate(t, "world", dir)
	if code != 0 || !strings.Contains(stdout, filepath.Join(dir, "terminal", "config.toml")) {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	s := site{filepath.Join(dir, "terminal"), filepath.Join(dir, "terminal", "config.toml")}
	s.must(t, "list", "import", s.path("list.cose"))
	a := start(t, s, r)
	for _, c := range []struct {
		card    string
		verdict terminal.Verdict
		reason  terminal.Reason
	}{
		{"listed.tap-use.json", terminal.Admit, terminal.OK},
		{"not-listed.tap-use.json", terminal.Deny, terminal.NotListed},
	} {
		gone := r.left(0)
		_, stderr, code := simulate(t, "card", "insert", filepath.Join(dir, "cards", c.card),
			"--vpcd", r.daemon.SlotAddr(0), "--bitrate", "424", "--rsa", "50ms", "--for", "2s")
		if code != 0 {
			t.Fatalf("card insert: exit code %d\n%s", code, stderr)
		}
		want(t, a.event(), c.verdict, c.reason)
		r.waitLeft(0, gone)
	}
	a.stop()
	agree(t, s, a.all)

	// A world is made once.
	before, err := os.ReadFile(s.path("key-source"))
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := simulate(t, "world", dir); code != 1 || !strings.Contains(stderr, "file already exists") {
		t.Errorf("a second time: exit code %d, %s", code, stderr)
	}
	if after, err := os.ReadFile(s.path("key-source")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key source changed: %v", err)
	}
	s.must(t, "check-config")
}

func TestDemoPrintsJSON(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := simulate(t, "demo", "--taps", "16", "--json", "--bitrate", "424", "--rsa", "20ms")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if len(lines) != 16+1 {
		t.Fatalf("%d lines, want 17", len(lines))
	}
	last := lines[16]
	admitted := 0
	for _, line := range lines[:16] {
		if e, ok := parse(t, site{}, []byte(line)); ok && e.Verdict == terminal.Admit {
			admitted++
		}
	}
	var sums map[string]json.RawMessage
	if err := json.Unmarshal([]byte(last), &sums); err != nil {
		t.Fatal(err)
	}
	if got := sortedKeys(sums); !slices.Equal(got, []string{"admitted", "denied", "p50_ms", "p99_ms", "taps"}) {
		t.Errorf("the last line is %s", last)
	}
	var s struct {
		Taps, Admitted, Denied int
		P50                    float64 `json:"p50_ms"`
		P99                    float64 `json:"p99_ms"`
	}
	if err := json.Unmarshal([]byte(last), &s); err != nil {
		t.Fatal(err)
	}
	if s.Taps != 16 || s.Admitted != admitted || s.Denied != 16-admitted || s.P50 < 20 || s.P99 < s.P50 {
		t.Errorf("the last line is %s, %d of 16 were admitted", last, admitted)
	}
}

func TestDemoThroughPCSC(t *testing.T) {
	t.Parallel()
	newReaders(t) // skips where there is no pcscd
	stdout, stderr, code := simulate(t, "demo", "--pcsc", "--taps", "4", "--bitrate", "424", "--rsa", "20ms")
	if code != 0 || !strings.Contains(stdout, "4 people came, 4 were admitted") || !strings.Contains(stdout, "Everybody got the answer that they should get.") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// The dozen adversaries whose lies pcscd and a reader see too.
func TestAdversariesThroughPCSC(t *testing.T) {
	t.Parallel()
	newReaders(t) // skips where there is no pcscd
	stdout, stderr, code := simulate(t, "adversaries", "--pcsc", "--json")
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	const want = `{"adversaries":12,"denied_with_expected_reason":12,"wrong_reason":0,"admitted":0,"deadline_exceeded":0}`
	if code != 0 || len(lines) != 12+1 || lines[12] != want {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}
