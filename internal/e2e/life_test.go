package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
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

// The reader of the event stream only watches: it can go away, and the gate
// works on.
func TestGateOutlivesTheReaderOfItsEvents(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	a := deafStart(t, s, r)
	alice := theTown(t).alice(t)
	for n := 1; n <= 2; n++ {
		c := r.insert(alice, how{})
		for deadline := time.Now().Add(patience); a.opened() < n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the gate does not open")
			}
		}
		c.remove()
	}
	a.says("event stream is broken")
	a.stop()
	if entries := s.journal(t); len(entries) != 2+2*2 { // start and list, reserve and commit
		t.Errorf("journal has %+v", entries)
	}
}

// deafStart starts an agent whose standard output nobody reads.
func deafStart(t *testing.T, s site, r *readers) *agent {
	t.Helper()
	a := newAgent(t, s, r.daemon.Env())
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd.Stdout = in
	a.begin(nil)
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	a.says("in force")
	time.Sleep(settled)
	return a
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
