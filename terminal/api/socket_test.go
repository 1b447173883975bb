package api

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shortDir is a folder for a socket: t.TempDir can be longer than its path may be.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSocketIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), SocketName)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// The kernel says who made the socket, whatever the agent would say.
func TestProcessAtTheSocketIsNamed(t *testing.T) {
	r := newRig(t, nil)
	if p, err := r.client.Process(t.Context()); err != nil || p != (Process{os.Getpid(), os.Geteuid()}) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := NewClient(filepath.Join(shortDir(t), SocketName)).Process(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

func TestTwoAgentsAtOneSocket(t *testing.T) {
	r := newRig(t, nil)
	l, err := Listen(r.socket)
	if err == nil {
		l.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "an agent answers at "+r.socket) {
		t.Errorf("%v", err)
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("the first one does not answer any more: %v", err)
	}
}

func TestSocketOfADeadAgentIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), SocketName)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestFileInThePlaceOfTheSocketStays(t *testing.T) {
	path := filepath.Join(shortDir(t), SocketName)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), path+" is no socket") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestPathThatIsTooLong(t *testing.T) {
	path := filepath.Join("/", strings.Repeat("a", 107-len("/"+"/"+SocketName)), SocketName)
	if err := CheckPath(path); len(path) != 107 || err != nil {
		t.Errorf("%d bytes: %v", len(path), err)
	}
	if _, err := Listen("/a" + path[1:]); err == nil || !strings.Contains(err.Error(), "108 bytes, at most 107: choose a state folder") {
		t.Errorf("%v", err)
	}
	if _, err := NewClient("/a" + path[1:]).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("%v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	path := filepath.Join(shortDir(t), SocketName)
	_, err := NewClient(path).Status(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "gate-agent run") {
		t.Errorf("%v", err)
	}
}
