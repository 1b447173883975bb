package listdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A process is killed before each system call by which it changes the folder, and has
// each of them fail. strace does both.

const childEnv = "GATE_LISTDB_TEST_CHILD"

func TestMain(m *testing.M) {
	what, dir, isChild := strings.Cut(os.Getenv(childEnv), ":")
	if !isChild {
		os.Exit(m.Run())
	}
	// strace counts the calls of each thread apart.
	runtime.LockOSThread()
	if err := childWrites(what, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// noTest is what helpers report to in the child.
type noTest struct{ testing.TB }

func (noTest) Helper()        {}
func (noTest) Fatal(a ...any) { panic(fmt.Sprint(a...)) }

// childWrites does one thing to the store in dir/state. The files lie beside it.
func childWrites(what, dir string) error {
	s, err := Open(config(noTest{}, filepath.Join(dir, "state")))
	if err != nil {
		return err
	}
	ctx := context.Background()
	if what == "merge" {
		_, err := s.Merge(ctx, true)
		return err
	}
	head, err := os.ReadFile(filepath.Join(dir, "head"))
	if err != nil {
		return err
	}
	delta, err := os.ReadFile(filepath.Join(dir, "delta"))
	if err != nil {
		return err
	}
	snapshot, err := os.ReadFile(filepath.Join(dir, "snapshot"))
	if err != nil {
		return err
	}
	var files whitelist.Files
	switch what {
	case "delta":
		files.Deltas = append(files.Deltas, bytes.NewReader(delta))
	case "snapshot":
		files.Snapshot = bytes.NewReader(snapshot)
	case "whole":
		_, err = s.Import(ctx, bytes.NewReader(append(head, snapshot...)), now, nil)
		return err
	}
	_, err = s.Apply(ctx, head, now, files, nil)
	return err
}

// writes are the system calls by which files of the folder change, come and go. Which
// of them open files is no matter: they change nothing.
var writes = []string{"pwrite64", "write", "fsync", "ftruncate", "renameat", "unlinkat"}

// Killed at every step, a store has the old list or the new one, whole, and the next
// that comes is taken. Where a step fails it is the same.
func TestKilledOrFailingAtEveryStepLeavesOldOrNew(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		const msg = "needs strace, which kills a process at a system call"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	for _, what := range []string{"delta", "snapshot", "whole", "merge"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h, dir := prepared(t)
			steps := 0
			for _, call := range writes {
				for _, how := range []string{"signal=KILL", "error=EIO"} {
					for n := 1; ; n++ {
						at := filepath.Join(t.TempDir(), "copy")
						if err := os.CopyFS(at, os.DirFS(dir)); err != nil {
							t.Fatal(err)
						}
						injected := inject(t, what, at, fmt.Sprintf("%s:%s:when=%d", call, how, n))
						if !oldOrNew(t, h, what, filepath.Join(at, "state")) {
							t.Fatalf("%s %d, %s", call, n, how)
						}
						if !injected {
							break
						}
						steps++
					}
				}
			}
			if steps < 20 { // each call twice
				t.Errorf("only %d steps", steps)
			}
		})
	}
}

// prepared is a folder whose state has the list of set 2 above that of set 1, and beside
// it what leads to set 3.
func prepared(t *testing.T) (*hub, string) {
	t.Helper()
	h, _, state := three(t)
	h.snapshot, h.deltas = 3, [][2]uint64{{2, 3}}
	m := h.manifest(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"head": h.sign(t, m), "delta": h.files[m.Deltas[0].SHA256], "snapshot": h.files[m.Snapshot.SHA256]} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "state"), os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	return h, dir
}

// inject runs a child in which something happens to a system call, and reports whether
// it came to that.
func inject(t *testing.T, what, dir, injection string) bool {
	t.Helper()
	log := filepath.Join(dir, "strace")
	call, _, _ := strings.Cut(injection, ":")
	cmd := exec.Command("strace", "-f", "-qq", "-o", log, "-e", "trace="+call, "-e", "inject="+injection, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what+":"+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	trace, readErr := os.ReadFile(log)
	if readErr != nil {
		t.Fatalf("strace: %v, %v\n%s", readErr, err, out)
	}
	injected := bytes.Contains(trace, []byte("(INJECTED)")) || bytes.Contains(trace, []byte("killed by SIGKILL"))
	if err != nil && !injected {
		t.Fatalf("%s: %v\n%s\n%s", injection, err, out, trace)
	}
	return injected
}

func oldOrNew(t *testing.T, h *hub, what, dir string) (ok bool) {
	t.Helper()
	s, err := Open(config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := s.Current()
	if err != nil {
		t.Error(err)
		return false
	}
	set := v.Manifest().Set.Seq
	v.Release()
	if set != 2 && set != 3 || what == "merge" && set != 2 {
		t.Errorf("set %d", set)
		return false
	}
	h.stands(t, s, h.sets[set], 6)
	if _, err := h.follow(t, s, h.head(t)); err != nil {
		t.Error(err)
		return false
	}
	h.stands(t, s, h.sets[3], 6)
	return true
}

func TestFullDiskLeavesTheOldListWhateverComes(t *testing.T) {
	disk, inside := smalldisk.Mount(t)
	if !inside {
		return
	}
	for _, what := range []string{"delta", "snapshot", "merge"} {
		dir := filepath.Join(disk, what)
		h := newHub(scopeKey(t))
		all := map[int]int{}
		for holder := range 300 {
			all[holder] = 1
		}
		h.change(all)
		s := open(t, dir)
		follows(t, h, s, "snapshot")
		h.change(map[int]int{1: 2, 3: 0})
		h.deltas = [][2]uint64{{1, 2}}
		follows(t, h, s, "1 deltas")
		for holder := range 150 {
			all[holder] = 2
		}
		h.change(all)
		h.deltas = append(h.deltas, [2]uint64{2, 3})
		m := h.manifest(t)
		signed := h.sign(t, m)
		refused, set := 0, uint64(3)
		for free := 0; ; free += 4 << 10 {
			if err := os.WriteFile(filepath.Join(disk, "ballast"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			smalldisk.Fill(t, disk, free)
			var err error
			switch what {
			case "delta":
				_, err = s.Apply(t.Context(), signed, now, whitelist.Files{Deltas: h.open(m.Deltas[1:])}, nil)
			case "snapshot":
				_, err = s.Apply(t.Context(), signed, now, h.snapshotFiles(t, m), nil)
			case "merge":
				_, err = s.Merge(t.Context(), true)
				set = 2
			}
			if err == nil {
				break
			}
			if _, ok := errors.AsType[*whitelist.RefusedError](err); ok || errors.Is(err, whitelist.ErrSet) {
				t.Errorf("%s with %d bytes free: the list is at fault: %v", what, free, err)
			}
			refused++
			h.stands(t, s, h.sets[2], 6)
			inForce(t, s, 2)
		}
		if refused < 5 {
			t.Errorf("%s: the disk was full %d times", what, refused)
		}
		h.stands(t, open(t, dir), h.sets[set], 6)
		s.Close()
		if err := errors.Join(os.RemoveAll(dir), os.WriteFile(filepath.Join(disk, "ballast"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
