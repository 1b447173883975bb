package e2e

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func TestJournalIsWholeAfterKill(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	w := theTown(t)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	want(t, r.tap(a, w.bob(t)), terminal.Admit, terminal.OK)

	// In the middle of a third, while the card signs.
	lying := r.insert(w.alice(t), how{clock: &vcard.Clock{KeyOperation: 2 * time.Second, Sleep: true}})
	time.Sleep(time.Second)
	if code := a.end(syscall.SIGKILL); code != -1 {
		t.Errorf("exit code %d of a killed agent", code)
	}
	before := s.journal(t)

	again := start(t, s, r)
	again.silent(time.Second, "the card lay there before")
	lying.remove()
	want(t, r.tap(again, w.alice(t)), terminal.Admit, terminal.OK)
	again.stop()
	after := s.journal(t)
	if len(after) <= len(before) {
		t.Errorf("%d events before the restart, %d after", len(before), len(after))
	}
	for i, e := range before {
		if after[i] != e {
			t.Errorf("event %d was %+v, is %+v", i+1, e, after[i])
		}
	}
	if strings.Contains(again.stderr.String(), "new journal") {
		t.Error("the agent says that its journal is new")
	}
}

func TestSecondAgentOnTheSameStateIsRefused(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	a := start(t, s, r)
	second := launch(t, s, r.daemon.Env())
	if code := second.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	second.says("another agent has the journal open")
	second.says(s.path("state/journal.db"))
	want(t, r.tap(a, theTown(t).alice(t)), terminal.Admit, terminal.OK)
	a.stop()
	agree(t, s, a.all)
}

// Who reads events and log only watches: they can go away or hang, and the
// gate works on and ends when it is told to.
func TestGateOutlivesWhoWatchesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stdout, stderr func(*testing.T) *os.File // nil: as usual
		says           string
		code           int
	}{
		"events go nowhere": {stdout: brokenPipe, says: "event stream is broken"},
		"events hang":       {stdout: fullPipe, says: "2 lines were not written", code: 1},
		"log goes nowhere":  {stderr: brokenPipe},
		"log hangs":         {stderr: fullPipe},
		"both hang":         {stdout: fullPipe, stderr: fullPipe, code: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := newReaders(t), ready(t)
			a := newAgent(t, s, r.daemon.Env())
			for _, f := range []struct {
				make func(*testing.T) *os.File
				to   *io.Writer
			}{{c.stdout, &a.cmd.Stdout}, {c.stderr, &a.cmd.Stderr}} {
				if f.make != nil {
					*f.to = f.make(t)
				}
			}
			a.begin(nil)
			s.recorded(t, journal.KindStart, 1)
			time.Sleep(settled)
			alice := theTown(t).alice(t)
			for i := range 2 {
				c := r.insert(alice, how{})
				s.recorded(t, journal.KindCommit, i+1)
				c.remove()
			}
			if code := a.end(syscall.SIGTERM); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			a.says(c.says)
			s.journal(t) // verifies
			if n := s.count(t, journal.KindCommit); n != 2 {
				t.Errorf("the gate opened %d times, want 2", n)
			}
		})
	}
}

// recorded waits until the journal has n events of a kind: there may be
// nobody else to ask.
func (s site) recorded(t *testing.T, kind journal.Kind, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if s.count(t, kind) >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal has no %d events of kind %s", n, kind)
		}
	}
}

// count reads the journal, which may not be there yet.
func (s site) count(t *testing.T, kind journal.Kind) int {
	t.Helper()
	r, err := journal.OpenReader(filepath.Join(s.path("state"), "journal.db"))
	if err != nil {
		return 0
	}
	defer r.Close()
	n := 0
	for _, err := range r.List(t.Context(), journal.Filter{Kinds: []journal.Kind{kind}}) {
		if err == nil {
			n++
		}
	}
	return n
}

// brokenPipe is a pipe that nobody reads any more.
func brokenPipe(t *testing.T) *os.File {
	t.Helper()
	out, in := pipe(t)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return in
}

// fullPipe is a pipe that somebody holds and does not read.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	_, in := pipe(t)
	size, err := unix.FcntlInt(in.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	return in
}

func pipe(t *testing.T) (out, in *os.File) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close() // twice, when the test has
	})
	return out, in
}

// An operator is told what keeps a gate from working.
func TestMissingReadersAreTold(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	nowhere := launch(t, s, "PCSCLITE_CSOCK_NAME="+filepath.Join(t.TempDir(), "pcscd.comm"))
	nowhere.says("pcscd does not answer")
	nowhere.stop()

	a := launch(t, s, r.daemon.Env())
	a.says(r.daemon.SlotName(0) + ", " + r.daemon.SlotName(1))
	a.stop()

	s.edit(t, "[scope_key]", "[reader]\nslots = [\"Absent*\"]\n\n[scope_key]")
	b := launch(t, s, r.daemon.Env())
	b.says("no reader of the name")
	b.stop()
}

func TestPCSCDMayRestart(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	a := start(t, s, r)
	alice := theTown(t).alice(t)
	want(t, r.tap(a, alice), terminal.Admit, terminal.OK)
	if err := r.daemon.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2*time.Second + settled) // the lane tries again at last every 2 s
	want(t, r.tap(a, alice), terminal.Admit, terminal.OK)
	a.stop()
	agree(t, s, a.all)
}
