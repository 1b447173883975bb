package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/terminal"
)

// onSmallDisk is a terminal whose state lies on a disk of smalldisk.Size.
func onSmallDisk(t *testing.T, disk string) site {
	t.Helper()
	s := install(t, filepath.Join(t.TempDir(), "terminal"))
	if err := os.Symlink(disk, s.path("state")); err != nil {
		t.Fatal(err)
	}
	s.must(t, "list", "import", s.path("list.cose"))
	return s
}

func TestFullDiskLetsNobodyIn(t *testing.T) {
	t.Parallel()
	disk, ok := smalldisk.Mount(t)
	if !ok {
		return
	}
	w := theTown(t)
	r, s := newReaders(t), onSmallDisk(t, disk)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	smalldisk.Fill(t, disk, 0)
	before := a.opened()
	denied := 0
	for range 3 { // what is left of a page may take one more record
		e := r.tap(a, w.alice(t))
		if e.Verdict == terminal.Deny {
			want(t, e, terminal.Deny, terminal.OutOfOrder)
			denied++
		}
	}
	if denied == 0 || a.opened() != before+3-denied {
		t.Errorf("%d of 3 were denied, the gate opened %d times", denied, a.opened()-before)
	}
	a.says("no space left")
	opened := 0
	for _, e := range s.journal(t) {
		if e.Kind == "reserve" {
			opened++
		}
	}
	if opened != a.opened() {
		t.Errorf("the gate opened %d times, the journal knows of %d", a.opened(), opened)
	}

	// A newer list does not fit, and says so; it is not the list's fault.
	_, stderr, code := s.run(t, "list", "import", s.write(t, "two.cose", w.signed(t, seq(2))))
	if code != 1 {
		t.Errorf("import: exit code %d, want 1: %s", code, stderr)
	}

	// With room again the same agent goes on.
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.stop()
	s.journal(t)
}

func TestAgentDoesNotStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk, ok := smalldisk.Mount(t)
	if !ok {
		return
	}
	s := onSmallDisk(t, disk)
	smalldisk.Fill(t, disk, 0)
	a := launch(t, s)
	if code := a.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	a.says("no space left")
	a.says("journal.db")
}

func TestAgentDoesNotStartOnAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk, ok := smalldisk.Mount(t)
	if !ok {
		return
	}
	s := onSmallDisk(t, disk)
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"); err != nil {
		t.Fatal(err)
	}
	a := launch(t, s)
	if code := a.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	a.says("read-only")
	a.says("journal.db")
}
