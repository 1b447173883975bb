package pcscd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func start(t *testing.T, opt Options) *Daemon {
	t.Helper()
	d, err := Start(t.Context(), opt)
	if errors.Is(err, ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Log())
		}
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// readers asks the daemon through a program that knows nothing of us.
func readers(t *testing.T, d *Daemon) string {
	t.Helper()
	path, err := exec.LookPath("opensc-tool")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("opensc-tool not installed: apt install opensc")
	}
	cmd := exec.CommandContext(t.Context(), path, "--list-readers")
	cmd.Env = append(os.Environ(), d.Env())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("opensc-tool: %v\n%s", err, out)
	}
	return string(out)
}

func TestEverySlotIsListedUnderItsName(t *testing.T) {
	for _, slots := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			d := start(t, Options{Slots: slots})
			list := readers(t, d)
			for i := range slots {
				if !strings.Contains(list, d.SlotName(i)) {
					t.Errorf("slot %d: no %q in\n%s", i, d.SlotName(i), list)
				}
			}
		})
	}
}

func TestTwoDaemonsRunSideBySide(t *testing.T) {
	a, b := start(t, Options{}), start(t, Options{})
	readers(t, a)
	readers(t, b)
	if a.SlotAddr(0) == b.SlotAddr(0) {
		t.Error("both on one port")
	}
}

func TestRestartKeepsSocketAndPorts(t *testing.T) {
	d := start(t, Options{})
	before := [...]string{d.Env(), d.SlotAddr(0), d.SlotAddr(1)}
	for range 3 {
		if err := d.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		readers(t, d)
	}
	if after := [...]string{d.Env(), d.SlotAddr(0), d.SlotAddr(1)}; after != before {
		t.Errorf("before %v, after %v", before, after)
	}
}

// A daemon that is killed comes back on its ports, whatever others were started
// meanwhile.
func TestPortsOfAKilledDaemonStayItsOwn(t *testing.T) {
	d := start(t, Options{})
	d.Kill()
	other, err := os.OpenFile(d.locks.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(d.ports[0]), Len: 1}
	if err := unix.FcntlFlock(d.locks.Fd(), unix.F_OFD_GETLK, &lock); err != nil || lock.Type != unix.F_UNLCK {
		t.Errorf("its own lock keeps it out: %v, %v", lock.Type, err)
	}
	lock = unix.Flock_t{Type: unix.F_WRLCK, Start: int64(d.ports[0]), Len: 1}
	if err := unix.FcntlFlock(other.Fd(), unix.F_OFD_GETLK, &lock); err != nil || lock.Type != unix.F_WRLCK {
		t.Errorf("another daemon can take its port: %v, %v", lock.Type, err)
	}
	if err := d.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTakenPortIsNoticed(t *testing.T) {
	d := start(t, Options{})
	d.Kill()
	taken, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", d.ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := d.start(t.Context()); !errors.Is(err, errPortTaken) {
			t.Fatalf("error %v, want %v", err, errPortTaken)
		}
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	readers(t, d)
}

func TestStopLeavesNothingBehind(t *testing.T) {
	d := start(t, Options{})
	pid := d.Pid()
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder: %v", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process: %v", err)
	}
}

func TestCardIsSeenWhileTheConnectionIsOpen(t *testing.T) {
	d := start(t, Options{})
	conn, err := Dial(t.Context(), d.SlotAddr(1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The first thing a slot asks of a card is its ATR.
	b := make([]byte, 3)
	for n := 0; n < len(b); {
		m, err := conn.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if string(b) != "\x00\x01\x04" {
		t.Errorf("% X, want a request for the ATR", b)
	}
}

func TestCancelledStartEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Options{})
	if errors.Is(err, ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
