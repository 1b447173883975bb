package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal"
)

// trace runs card trace while a card lies on the reader, and returns the file.
func (s site) trace(t *testing.T, r *readers, name string, args ...string) (file string, code int) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name+".trace")
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gate-agent"),
		append(args, "--config", s.config, "--out", file, "--wait", "10s")...)
	cmd.Env = append(cmd.Environ(), r.daemon.Env())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	keepsSecrets(t, s, out.String()+errs.String())
	return file, cmd.ProcessState.ExitCode()
}

// Everybody of the town is traced at the gate that they like. Whoever it is
// sent to sees the same end, without card, reader, list or key.
func TestTraceOfEverybodyReplaysTheSame(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	elsewhere := install(t, filepath.Join(t.TempDir(), "elsewhere"))
	for i, p := range theTown(t).people {
		want := p.Reason
		switch {
		case want == terminal.Revoked || want == terminal.InvalidTime:
			want = terminal.OK // the card is good
		case want == terminal.NotListed && p.Method == jpki.TapUse:
			want = terminal.OK // and not checked
		}
		c := r.insert(p.Image, how{pullAt: p.PullAt})
		file, code := s.trace(t, r, fmt.Sprint(i), "card", "trace", "--dialogue", string(p.Method))
		c.remove()
		if (code == 0) != (want == terminal.OK) || code != 0 && code != 4 {
			t.Errorf("%s, %s: exit code %d", p.Name, p.Method, code)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of the file: %v, %v", info.Mode(), err)
		}
		for line := range strings.Lines(string(text)) {
			// VERIFY with a value, and the terminal's signature.
			if value, ok := strings.CutPrefix(line, "> 0020"); ok && len(value) > len("0080\n") && !strings.Contains(value, "XX") ||
				strings.HasPrefix(line, "> 0082") && !strings.HasSuffix(line, strings.Repeat("XX", 256)+"\n") {
				t.Errorf("%s: a secret is in %s", p.Name, line)
			}
		}
		stdout, stderr, code := elsewhere.run(t, "card", "replay", file, "--json")
		var report struct {
			Same     bool
			Reason   terminal.Reason
			Recorded struct{ Reason terminal.Reason }
		}
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("%s: %v\n%s", p.Name, err, stderr)
		}
		if code != 0 || !report.Same || report.Reason != want || report.Recorded.Reason != want {
			t.Errorf("%s, %s: exit code %d, %+v; want %s", p.Name, p.Method, code, report, want)
		}
	}
	// Nothing of all that was a tap. What it used up is recorded.
	for _, e := range s.journal(t) {
		if e.Kind != "trace" {
			t.Errorf("the journal has %+v", e)
		}
	}
}
