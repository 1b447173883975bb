// Package smalldisk gives a test a disk that it can fill up: a tmpfs, in a
// process with user and mount namespaces of its own.
package smalldisk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const inside = "GATE_TEST_SMALL_DISK"

// Size of the disk in bytes.
const Size = 1 << 20

// Mount runs the calling test again in such a process. There it returns the
// folder and true; in the first process it returns false when the other has
// passed. It skips where namespaces may not be used, and fails so in CI.
func Mount(t *testing.T) (dir string, ok bool) {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		dir = t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
		return dir, true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs user namespaces: %v", err)
		}
		t.Skipf("needs user namespaces: %v", err)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return "", false
}

// Fill writes a file that leaves less than free bytes on the disk of dir.
func Fill(t *testing.T, dir string, free int) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/ballast", make([]byte, max(0, int(fs.Bavail)*int(fs.Bsize)-free)), 0o600); err != nil {
		t.Fatal(err)
	}
}
