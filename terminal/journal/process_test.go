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
)

// The tests here need a process that can be killed, or a file system that can
// be filled: the test binary runs itself again, as one of these.
var children = map[string]func(dir string) error{
	"reserve":   reserveAndWait,
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

func reserveAndWait(dir string) error {
	j, err := Open(filepath.Join(dir, "journal.db"), clock)
	if err != nil {
		return err
	}
	r, err := j.Reserve(context.Background(), admission("t"), 0)
	if err != nil {
		return err
	}
	fmt.Println(r)
	select {} // until it is killed
}

func TestReservationSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.db")
	cmd := child(t, "reserve", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "1\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if _, err := Open(path, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("while the other process lives: %v, want ErrInUse", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("child ended by itself")
	}
	j := open(t, path)
	wantUses(t, j, "t", 1)
	if r, err := j.Verify(t.Context()); err != nil || r.Events != 1 || r.Open != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := j.Commit(t.Context(), 1); err != nil {
		t.Error(err)
	}
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
	n := uint32(0)
	for err = nil; err == nil && n < 1e5; {
		if _, err = j.Reserve(ctx, admission("t"), n); err == nil {
			n++
		}
	}
	if !errors.Is(err, ErrFull) {
		return fmt.Errorf("reserving on a full disk: %w, want ErrFull", err)
	}
	if got, err := j.Uses(ctx, "t"); err != nil || got != n {
		return fmt.Errorf("%d entries stand, want %d (%w)", got, n, err)
	}
	if r, err := j.Verify(ctx); err != nil || r.Events != written+uint64(n) {
		return fmt.Errorf("%d events of %d verify: %w", r.Events, written+uint64(n), err)
	}

	// With room again the same journal goes on, and opens again.
	if err := os.Remove(filler); err != nil {
		return err
	}
	if _, err := j.Reserve(ctx, admission("t"), n); err != nil {
		return fmt.Errorf("after making room: %w", err)
	}
	if err := j.Close(); err != nil {
		return err
	}
	if j, err = Open(path, clock); err != nil {
		return fmt.Errorf("opening again: %w", err)
	}
	if r, err := j.Verify(ctx); err != nil || r.Events != written+uint64(n)+1 || j.Reindexed() {
		return fmt.Errorf("after opening again: %+v, %w", r, err)
	}
	return j.Close()
}

// The same where no namespace is to be had: SQLite's own limit.
func TestFullDatabaseStopsEntries(t *testing.T) {
	j := open(t, temp(t))
	if _, err := j.w.Exec(`PRAGMA max_page_count = 20`); err != nil {
		t.Fatal(err)
	}
	n, err := uint32(0), error(nil)
	for ; err == nil && n < 1e4; n++ {
		_, err = j.Reserve(t.Context(), admission("t"), n)
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
	reserve(t, j, "t", n)
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
