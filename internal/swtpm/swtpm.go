// Package swtpm runs a TPM 2.0 in software, not ours, for a test: on a socket and with
// a state of its own, until the test ends.
package swtpm

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A TPM keeps its state while it has no power.
type TPM struct {
	Process *os.Process // nil: no power

	dir   string
	log   bytes.Buffer
	ended chan struct{} // closed when the process has
}

// New is a TPM with power. Without swtpm the test fails in CI, and is skipped elsewhere.
func New(t testing.TB) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("swtpm not installed: apt install swtpm")
		}
		t.Skip("swtpm not installed: apt install swtpm")
	}
	dir, err := os.MkdirTemp("", "swtpm") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &TPM{dir: dir}
	t.Cleanup(func() {
		s.PowerOff(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.PowerOn(t)
	return s
}

// Device is the path of its socket.
func (s *TPM) Device() string { return filepath.Join(s.dir, "tpm") }

// URI names a persistent handle, such as 81000010.
func (s *TPM) URI(handle string) string { return "tpm:device=" + s.Device() + ";handle=" + handle }

// PowerOn starts it, and returns when it answers.
func (s *TPM) PowerOn(t testing.TB) {
	t.Helper()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.Device(), "--ctrl", "type=unixio,path="+filepath.Join(s.dir, "ctrl"),
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() { // ends with the process; PowerOff waits for it
		// Pdeathsig watches the thread that forked, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is always killed
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	s.Process, s.ended = cmd.Process, ended
	for range 2000 {
		if s.answers() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.PowerOff(t)
	t.Fatal("swtpm does not answer: ", s.log.String())
}

// answers asks it for one random byte (TPM2_GetRandom).
func (s *TPM) answers() bool {
	c, err := net.Dial("unix", s.Device())
	if err != nil {
		return false
	}
	defer c.Close() // it has been of use
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := c.Write([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 1}); err != nil {
		return false
	}
	response := make([]byte, 13)
	_, err = io.ReadFull(c, response)
	return err == nil && bytes.Equal(response[6:10], make([]byte, 4)) // TPM_RC_SUCCESS
}

// PowerOff cuts its power.
func (s *TPM) PowerOff(t testing.TB) {
	t.Helper()
	if s.Process == nil {
		return
	}
	if err := s.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-s.ended
	s.Process = nil
}
