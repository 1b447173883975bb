package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// The process that is killed is the test binary, with lanes as they are or spoilt.
const crashEnv = "GATE_SIM_TEST_CRASH"

func TestMain(m *testing.M) {
	var spoil func(terminal.Journal) terminal.Journal
	switch os.Getenv(crashEnv) {
	case "":
		code := m.Run()
		if dir, err := furnished(); err != nil || os.RemoveAll(dir) != nil {
			code = 1
		}
		os.Exit(code)
	case "hub":
		main()
	case "forgetful":
		spoil = func(j terminal.Journal) terminal.Journal { return forgetful{j} }
	case "miserly":
		spoil = func(j terminal.Journal) terminal.Journal { return miserly{j} }
	}
	if err := crashLane(context.Background(), os.Args[2], os.Args[3] == "--points=true", spoil, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A journal that takes whom nobody can tell of for people who are inside.
type miserly struct{ terminal.Journal }

func (m miserly) History(ctx context.Context, entitlement string) (terminal.History, error) {
	h, err := m.Journal.History(ctx, entitlement)
	for i := range h.Passages {
		h.Passages[i].Doubt = false
	}
	return h, err
}

// furnished is one terminal for all tests that copy it.
var furnished = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gate-sim-test-")
	if err != nil {
		return "", err
	}
	return dir, furnish(context.Background(), dir)
})

// crashes runs some of the scenes, and returns the last line.
func crashes(t *testing.T, lanes string, names ...string) (last string, err error) {
	t.Helper()
	dir, err := furnished()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := crash{furnished: dir, random: 2, seed: 1, json: true, out: &out, say: io.Discard, program: func(args ...string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), crashEnv+"="+lanes)
		return cmd
	}}
	for _, s := range scenes {
		for _, name := range names {
			if s.name == name {
				c.scenes = append(c.scenes, s)
			}
		}
	}
	if len(c.scenes) != len(names) {
		t.Fatalf("no scenes of these names: %q", names)
	}
	err = c.run(t.Context())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[len(lines)-1], err
}

func TestGateThatIsKilledChargesNobodyWrongly(t *testing.T) {
	t.Parallel()
	last, err := crashes(t, "sound", "one person", "somebody leaves", "fire alarm")
	if err != nil || !strings.HasSuffix(last, `"failures":0}`) {
		t.Error(last, err)
	}
}

func TestPersonWhoIsLetInTwiceAfterACutIsAFailure(t *testing.T) {
	t.Parallel()
	if last, err := crashes(t, "forgetful", "one person"); err == nil || !strings.Contains(err.Error(), "one more is let in") {
		t.Error(last, err)
	}
}

func TestPersonWhoIsChargedForNothingAfterACutIsAFailure(t *testing.T) {
	t.Parallel()
	if last, err := crashes(t, "miserly", "one person"); err == nil || !strings.Contains(err.Error(), "never got in") {
		t.Error(last, err)
	}
}
