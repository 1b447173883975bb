package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pty is a pseudo-terminal with a person at it, who sees what is written and
// types.
type pty struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	screen *output // what the person sees
	read   int     // how much of it they have read
	ended  chan struct{}
}

// newPTY opens a pseudo-terminal (pty(7)).
func newPTY(t *testing.T) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: master, screen: new(output), ended: make(chan struct{})}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if p.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = p.screen.Write(buf[:n])
			if err != nil { // EIO: nobody has the other side any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		p.slave.Close()
		master.Close()
		<-p.ended
		if t.Failed() {
			t.Logf("what was on the screen:\n%s", p.screen)
		}
	})
	return p
}

// control makes the pseudo-terminal the controlling one of cmd, and its standard
// error.
func (p *pty) control(cmd *exec.Cmd) {
	cmd.Stderr = p.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2, Pdeathsig: syscall.SIGKILL}
}

// sees reads on until the text comes.
func (p *pty) sees(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if i := strings.Index(p.screen.String()[p.read:], text); i >= 0 {
			p.read += i + len(text)
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("nobody sees %q", text)
		}
	}
}

// types types a line.
func (p *pty) types(line string) {
	p.t.Helper()
	if _, err := p.master.WriteString(line + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// echoes reports whether what is typed shows.
func (p *pty) echoes() bool {
	p.t.Helper()
	termios, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return termios.Lflag&unix.ECHO != 0
}
