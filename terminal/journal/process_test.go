package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/terminal"
)

// The tests here need a process that can be killed, or a file system that can
// be filled: the test binary runs itself again, as one of these.
var children = map[string]func(dir string) error{
	"reserved":  reservedAndWait,
	"passed":    passedAndWait,
	"committed": committedAndWait,
	"annulled":  annulledAndWait,
	"doubtful":  doubtfulAndWait,
	"pruning":   pruneOverAndOver,
	"full":      fillTheDisk,
	"read-only": withReadOnlyDisk,
}

const childEnv = "GATE_JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	name, dir, isChild := strings.Cut(os.Getenv(childEnv), ":")
	if !isChild {
		os.Exit(m.Run())
	}
	switch err := children[name](dir); {
	case errors.Is(err, errMount):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitMount)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Some systems give out user namespaces and forbid to mount in them.
const exitMount = 77

var errMount = errors.New("mounting a tmpfs")

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+name+":"+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// runOnTmpfs runs a child that may mount: root in namespaces of its own.
func runOnTmpfs(t *testing.T, name string) {
	t.Helper()
	cmd := child(t, name, t.TempDir())
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) ||
		cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitMount {
		const msg = "needs a user namespace that may mount: "
		if os.Getenv("CI") == "true" {
			t.Fatal(msg, err)
		}
		t.Skip(msg, err)
	}
	if err != nil {
		t.Error(err)
	}
}

// hold reserves for three people, does something more, and waits until it is
// killed.
func hold(dir string, more func(*Journal, terminal.Reservation) error) error {
	j, err := Open(filepath.Join(dir, "journal.db"), clock)
	if err != nil {
		return err
	}
	r, err := j.Reserve(context.Background(), party("t", 3), 0)
	if err == nil {
		err = more(j, r)
	}
	if err != nil {
		return err
	}
	fmt.Println(r)
	select {}
}

func reservedAndWait(dir string) error {
	return hold(dir, func(*Journal, terminal.Reservation) error { return nil })
}

func passedAndWait(dir string) error {
	return hold(dir, func(j *Journal, r terminal.Reservation) error { return j.Passed(context.Background(), r, 2) })
}

func committedAndWait(dir string) error {
	return hold(dir, func(j *Journal, r terminal.Reservation) error { return j.Commit(context.Background(), r, 2) })
}

func annulledAndWait(dir string) error {
	return hold(dir, func(j *Journal, r terminal.Reservation) error {
		return j.Annul(context.Background(), r, terminal.NoPassage)
	})
}

func doubtfulAndWait(dir string) error {
	return hold(dir, func(j *Journal, r terminal.Reservation) error {
		return j.Doubt(context.Background(), r, terminal.GateFault)
	})
}

// start runs a child until it has said a line.
func start(t *testing.T, name, dir, want string) *exec.Cmd {
	t.Helper()
	cmd := child(t, name, dir)
	out, err := cmd.StdoutPipe()
	check(t, err, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != want {
		t.Fatalf("child said %q, %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	check(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("child ended by itself")
	}
}

// What a killed process left open nobody can tell of: it counts, in doubt, until
// somebody settles it.
func TestReservationSurvivesKill(t *testing.T) {
	for state, tc := range map[string]struct {
		passages int
		doubt    bool
		people   uint32
		passed   uint32
		events   uint64 // once it is opened again
	}{
		"reserved":  {1, true, 3, 0, 2},
		"passed":    {1, true, 3, 2, 3},
		"committed": {1, false, 2, 2, 2},
		"annulled":  {0, false, 0, 0, 2},
		"doubtful":  {1, true, 3, 0, 2},
	} {
		t.Run(state, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "journal.db")
			cmd := start(t, state, dir, "1\n")
			if _, err := Open(path, nil); !errors.Is(err, ErrInUse) {
				t.Errorf("while the other process lives: %v, want ErrInUse", err)
			}
			kill(t, cmd)

			if r, err := OpenReader(path); err != nil {
				t.Error(err)
			} else if report, err := r.Verify(t.Context()); err != nil || report.Events > tc.events {
				t.Errorf("reading wrote something: %+v, %v", report, err)
			} else {
				r.Close()
			}
			for range 2 { // the second time there is nothing to put in doubt
				j := open(t, path)
				h := lookUp(t, j, "t")
				if len(h.Passages) != tc.passages || h.Entered() != tc.people ||
					tc.passages > 0 && (h.Passages[0].Doubt != tc.doubt || h.Passages[0].Passed != tc.passed) {
					t.Errorf("%+v", h)
				}
				if r, err := j.Verify(t.Context()); err != nil || r.Events != tc.events || r.Open > 0 != tc.doubt || j.Reindexed() {
					t.Errorf("%+v, %v", r, err)
				}
				check(t, j.Close())
			}
			if !tc.doubt {
				return
			}
			for name, settle := range map[string]func(j *Journal) (left uint32, err error){
				"commit":   func(j *Journal) (uint32, error) { return 2, j.Commit(t.Context(), 1, 2) },
				"annul":    func(j *Journal) (uint32, error) { return 0, j.Annul(t.Context(), 1, terminal.Annulled) },
				"by staff": func(j *Journal) (uint32, error) { return 0, j.SettleBy(t.Context(), 1, 0, steward, "stood outside") },
			} {
				copied := copyJournal(t, path)
				j := open(t, copied)
				left, err := settle(j)
				if left == 0 && tc.passed > 0 { // the sensor saw some: nobody says otherwise
					if !errors.Is(err, ErrPeople) {
						t.Errorf("%s: %v, want ErrPeople", name, err)
					}
					check(t, j.Close())
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				wantUses(t, j, "t", left)
				if r, err := j.Verify(t.Context()); err != nil || r.Open != 0 {
					t.Errorf("%s: %+v, %v", name, r, err)
				}
				if err := j.Doubt(t.Context(), 1, terminal.GateFault); !errors.Is(err, ErrSettled) {
					t.Errorf("%s: in doubt again: %v, want ErrSettled", name, err)
				}
			}
		})
	}
}

var steward = terminal.Staff{Name: "Sato", Role: terminal.Steward}

// copyJournal copies a journal that is closed.
func copyJournal(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	copied := temp(t)
	check(t, os.WriteFile(copied, b, 0o600))
	return copied
}

func TestFullDiskStopsEntries(t *testing.T) { runOnTmpfs(t, "full") }

func fillTheDisk(dir string) error {
	ctx := context.Background()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "journal.db")
	if err := os.WriteFile(filler, make([]byte, 500<<10), 0o600); err != nil {
		return err
	}
	j, err := Open(path, clock)
	if err != nil {
		return err
	}
	written := uint64(0)
	for err = nil; err == nil; {
		if err = j.Record(ctx, denial()); err == nil {
			written++
		}
		if written > 1e5 {
			return errors.New("the disk does not get full")
		}
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), path) {
		return fmt.Errorf("recording on a full disk: %w, want ErrFull with the file", err)
	}
	// It may take the rest of a page; then it must fail, and count nothing.
	n, last := uint32(0), terminal.Reservation(0)
	for err = nil; err == nil && n < 1e5; {
		var r terminal.Reservation
		if r, err = j.Reserve(ctx, admission("t"), uint64(last)); err == nil {
			n, last = n+1, r
		}
	}
	if !errors.Is(err, ErrFull) {
		return fmt.Errorf("reserving on a full disk: %w, want ErrFull", err)
	}
	if h, err := j.History(ctx, "t"); err != nil || h.Entered() != n {
		return fmt.Errorf("%d entries stand, want %d (%w)", h.Entered(), n, err)
	}
	if r, err := j.Verify(ctx); err != nil || r.Events != written+uint64(n) {
		return fmt.Errorf("%d events of %d verify: %w", r.Events, written+uint64(n), err)
	}

	// With room again the same journal goes on, and opens again.
	if err := os.Remove(filler); err != nil {
		return err
	}
	r, err := j.Reserve(ctx, admission("t"), uint64(last))
	if err != nil {
		return fmt.Errorf("after making room: %w", err)
	}
	if err := j.Commit(ctx, r, 1); err != nil {
		return err
	}
	if err := j.Close(); err != nil {
		return err
	}
	if j, err = Open(path, clock); err != nil {
		return fmt.Errorf("opening again: %w", err)
	}
	// Those before are in doubt now.
	if r, err := j.Verify(ctx); err != nil || r.Events != written+2*uint64(n)+2 || j.Reindexed() {
		return fmt.Errorf("after opening again: %+v, %w", r, err)
	}
	return j.Close()
}

// The same where no namespace is to be had: SQLite's own limit.
func TestFullDatabaseStopsEntries(t *testing.T) {
	j := open(t, temp(t))
	if _, err := j.w.Exec(`PRAGMA max_page_count = 40`); err != nil {
		t.Fatal(err)
	}
	n, last, err := uint32(0), terminal.Reservation(0), error(nil)
	for ; err == nil && n < 1e4; n++ {
		var r terminal.Reservation
		if r, err = j.Reserve(t.Context(), admission("t"), uint64(last)); err == nil {
			last = r
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	n-- // the last one failed
	wantUses(t, j, "t", n)
	if r, err := j.Verify(t.Context()); err != nil || r.Events != uint64(n) {
		t.Errorf("%d events, %v; want %d", r.Events, err, n)
	}
	if _, err := j.w.Exec(`PRAGMA max_page_count = 1000`); err != nil {
		t.Fatal(err)
	}
	reserve(t, j, "t")
}

func TestReadOnlyJournalIsRefused(t *testing.T) { runOnTmpfs(t, "read-only") }

func withReadOnlyDisk(dir string) error {
	ctx := context.Background()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	path := filepath.Join(dir, "journal.db")
	j, err := Open(path, clock)
	if err != nil {
		return err
	}
	if _, err := j.Reserve(ctx, admission("t"), 0); err != nil {
		return err
	}
	if err := j.Close(); err != nil {
		return err
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"); err != nil {
		return fmt.Errorf("mounting read-only: %w", err)
	}
	for _, p := range []string{path, path + "2"} { // there, and not there
		if _, err := Open(p, clock); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), p) {
			return fmt.Errorf("opening: %w, want ErrReadOnly with the file", err)
		}
	}
	r, err := OpenReader(path)
	if err != nil {
		return fmt.Errorf("reading a journal on a read-only medium: %w", err)
	}
	if report, err := r.Verify(ctx); err != nil || report.Events != 1 {
		return fmt.Errorf("verifying on a read-only medium: %+v, %w", report, err)
	}
	return r.Close()
}
