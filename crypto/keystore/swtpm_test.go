package keystore

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// An swtpm is a TPM 2.0 in software, not ours, on a socket and with a state of its
// own.
type swtpm struct {
	dir string
	log bytes.Buffer

	process *os.Process   // nil: it is off
	ended   chan struct{} // closed when it has
}

func newTPM(t testing.TB) *swtpm {
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
	s := &swtpm{dir: dir}
	s.start(t)
	t.Cleanup(func() {
		s.kill(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *swtpm) device() string { return filepath.Join(s.dir, "tpm") }

func (s *swtpm) uri(handle string) string { return "tpm:device=" + s.device() + ";handle=" + handle }

// start gives the TPM power.
func (s *swtpm) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.device(), "--ctrl", "type=unixio,path="+filepath.Join(s.dir, "ctrl"),
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() { // ends with the process; kill waits for it
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
	s.process, s.ended = cmd.Process, ended
	for range 2000 {
		if c, err := linuxudstpm.Open(s.device()); err == nil {
			if _, err := (tpm2.GetRandom{BytesRequested: 1}).Execute(c); err == nil {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.kill(t)
	t.Fatal("swtpm does not answer: ", s.log.String())
}

// kill cuts its power.
func (s *swtpm) kill(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	if err := s.process.Kill(); err != nil {
		t.Error(err)
	}
	<-s.ended
	s.process = nil
}

// stop shuts it down as an operating system does.
func (s *swtpm) stop(t testing.TB) {
	t.Helper()
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(s.raw(t)); err != nil {
		t.Fatal(err)
	}
	s.kill(t)
}

// raw speaks to the TPM without this package.
func (s *swtpm) raw(t testing.TB) transport.TPM {
	t.Helper()
	c, err := linuxudstpm.Open(s.device())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// persist makes an object of a template below the owner's storage key, with an auth
// value, and keeps it at a handle.
func (s *swtpm) persist(t testing.TB, area tpm2.TPMTPublic, auth string, h tpm2.TPMHandle) {
	t.Helper()
	c := s.raw(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
	must(err)
	parent := tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name}
	made, err := tpm2.Create{
		ParentHandle: parent,
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(auth)}, Data: noData()}},
		InPublic:     tpm2.New2B(area),
	}.Execute(c)
	must(err)
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(c)
	must(err)
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, PersistentHandle: h,
		ObjectHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
	}.Execute(c)
	must(err)
	for _, h := range []tpm2.TPMHandle{loaded.ObjectHandle, srk.ObjectHandle} {
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(c)
		must(err)
	}
}

// loaded counts what is loaded and would be in somebody's way.
func (s *swtpm) loaded(t testing.TB) (n int) {
	t.Helper()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // objects, sessions
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(s.raw(t))
		if err != nil {
			t.Fatal(err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		n += len(list.Handle)
	}
	return n
}
