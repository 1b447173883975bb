// Package pcscd runs a private PC/SC daemon whose readers are virtual.
//
// It promises that the machine's own pcscd, its socket and its readers are
// never touched: the daemon lives in a user and mount namespace of its own,
// answers on a socket in a temporary folder, and dies with the process that
// started it. It needs no root. Cards are put into its slots through the vpcd
// driver of the vsmartcard project (see Dial).
//
// The driver listens on every address of the machine, not on loopback alone,
// and asks nobody who they are: this is for tests and demonstrations.
package pcscd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotInstalled says that a program or driver is missing; the text names
// the Debian package that has it.
var ErrNotInstalled = errors.New("not installed")

const (
	driver       = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
	slotsPerUnit = 2                // slots of one vpcd reader, on adjacent ports
	maxSlots     = 16               // PCSCLITE_MAX_READERS_CONTEXTS
	maxSocket    = 107              // bytes of a socket path, sockaddr_un
	startTimeout = 10 * time.Second // a start takes some 20 ms
	portTries    = 20
)

// The daemon looks for its socket folder in a fixed place, so a mount covers
// it. Where the folder does not exist nobody may make it in /run, hence the
// tmpfs.
const script = `set -e
if ! [ -d /run/pcscd ]; then
	mount -t tmpfs tmpfs /run
	mkdir /run/pcscd
fi
mount --bind "$1/run" /run/pcscd
exec "$2" --foreground --info --config "$1/conf"
`

// Options describe the daemon.
type Options struct {
	// Slots is how many card slots there are, 1 to 16; zero means 2. They
	// come in pairs, so an odd number leaves a slot that stays empty.
	Slots int
}

// A Daemon is a running private pcscd. Its methods are for one goroutine.
type Daemon struct {
	dir   string
	path  string // of the pcscd program
	slots int
	ports []int // first port of each pair
	locks *os.File
	run   *run
}

// A run is one life of the daemon's process.
type run struct {
	log    *tail
	pid    int
	exited chan struct{} // closed when the process is gone
}

// Start starts a daemon and returns when it answers. The daemon ends with
// Stop, or when the process ends; ctx bounds the start alone.
func Start(ctx context.Context, opt Options) (_ *Daemon, err error) {
	d := &Daemon{slots: opt.Slots}
	if d.slots == 0 {
		d.slots = 2
	}
	if d.slots < 1 || d.slots > maxSlots {
		return nil, fmt.Errorf("private pcscd: %d slots, want 1 to %d", d.slots, maxSlots)
	}
	if d.path, err = lookPath(); err != nil {
		return nil, fmt.Errorf("private pcscd: %w", err)
	}
	if d.dir, err = os.MkdirTemp("", "pcscd-"); err != nil {
		return nil, fmt.Errorf("private pcscd: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(d.dir))
		}
	}()
	if n := len(d.socket()); n > maxSocket {
		return nil, fmt.Errorf("private pcscd: socket path of %d bytes, at most %d: choose a shorter TMPDIR", n, maxSocket)
	}
	for _, name := range []string{"run", "conf"} {
		if err := os.Mkdir(filepath.Join(d.dir, name), 0o755); err != nil {
			return nil, fmt.Errorf("private pcscd: %w", err)
		}
	}
	if d.locks, err = os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("pcscd-ports-%d", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("private pcscd: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.locks.Close())
		}
	}()
	// Nothing can reserve a port from every other program: choose, try, and
	// choose again when somebody else was faster.
	for range portTries {
		d.ports = nil
		if err = d.configure(); err == nil {
			err = d.start(ctx)
		}
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("private pcscd: %w", err)
	}
	return d, nil
}

// lookPath finds the programs and the driver.
func lookPath() (string, error) {
	path, err := exec.LookPath("pcscd")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/pcscd") // not in everybody's PATH
	}
	if err != nil {
		return "", fmt.Errorf("pcscd %w: apt install pcscd", ErrNotInstalled)
	}
	if _, err := exec.LookPath("mount"); err != nil {
		return "", fmt.Errorf("mount %w: apt install mount", ErrNotInstalled)
	}
	if _, err := os.Stat(driver); err != nil {
		return "", fmt.Errorf("%s %w: apt install vsmartcard-vpcd", filepath.Base(driver), ErrNotInstalled)
	}
	return path, nil
}

// configure chooses ports and writes one reader file for each pair of slots
// that has none yet.
func (d *Daemon) configure() error {
	for unit := len(d.ports); unit < (d.slots+slotsPerUnit-1)/slotsPerUnit; unit++ {
		port, err := d.freePorts()
		if err != nil {
			return err
		}
		d.ports = append(d.ports, port)
		lib := driver
		if unit > 0 {
			// One library keeps one set of slots: two readers on one file hang.
			lib = filepath.Join(d.dir, fmt.Sprintf("vpcd%d.so", unit))
			if err := copyFile(lib, driver); err != nil {
				return err
			}
		}
		conf := fmt.Sprintf("FRIENDLYNAME %q\nDEVICENAME /dev/null:%d\nLIBPATH %s\nCHANNELID %d\n",
			friendlyName(unit), port, lib, port)
		if err := os.WriteFile(filepath.Join(d.dir, "conf", fmt.Sprintf("vpcd%d", unit)), []byte(conf), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func friendlyName(unit int) string { return fmt.Sprintf("Virtual Reader %c", 'A'+unit) }

// freePorts finds two adjacent free ports below the range from which the
// kernel gives ports to clients, so that a dialling card cannot take one. They are
// locked in a file that all daemons of this user share, until Stop: also while this one
// is killed, to be restarted on them, no other takes them.
func (d *Daemon) freePorts() (int, error) {
	const low, high = 20000, 32000
	for range portTries {
		port := low + 2*rand.IntN((high-low)/2)
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1}
		if slices.Contains(d.ports, port) || unix.FcntlFlock(d.locks.Fd(), unix.F_OFD_SETLK, &lock) != nil {
			continue
		}
		if isFree(port) && isFree(port+1) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two adjacent free ports in %d tries between %d and %d", portTries, low, high)
}

func isFree(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func copyFile(dst, src string) error {
	b, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, b, 0o644)
}

// errPortTaken says that the driver could not listen.
var errPortTaken = errors.New("port taken")

// start brings a process up and waits until it answers.
func (d *Daemon) start(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("no answer after %v", startTimeout))
	defer cancel()
	// What a killed daemon leaves behind would keep the next one from starting.
	for _, name := range []string{"pcscd.comm", "pcscd.pid"} {
		if err := os.Remove(filepath.Join(d.dir, "run", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	cmd := exec.Command("/bin/sh", "-c", script, "pcscd", d.dir, d.path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	r := &run{log: new(tail), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = r.log, r.log

	started := make(chan error)
	go func() { // ends with the process; run.end waits for it
		// Pdeathsig watches the thread that forked, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// How it ended says nothing: it is always ended by a signal.
			_ = cmd.Wait()
			close(r.exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting it in a user namespace: %w", err)
	}
	r.pid = cmd.Process.Pid
	if err := r.ready(ctx, d.socket()); err != nil {
		r.end(syscall.SIGKILL)
		return err
	}
	d.run = r
	return nil
}

// ready waits until the daemon answers on its socket and has said so. It opens
// the readers before; what it says arrives through a pipe, on a busy machine
// after the socket answers, so its last word stands for all words before it.
func (r *run) ready(ctx context.Context, socket string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if log := r.log.String(); strings.Contains(log, "daemon ready.") {
			if strings.Contains(log, "Could not initialize connection") {
				return errPortTaken
			}
			if conn, err := net.Dial("unix", socket); err == nil {
				return conn.Close()
			}
		}
		select {
		case <-tick.C:
		case <-r.exited:
			return fmt.Errorf("it ended at once:\n%s", r.log)
		case <-ctx.Done():
			return fmt.Errorf("%w:\n%s", context.Cause(ctx), r.log)
		}
	}
}

// end sends a signal, and SIGKILL to a process that does not heed it, and
// waits until the process is gone.
func (r *run) end(sig syscall.Signal) {
	for {
		// The process is not reaped before exited is closed, so the number
		// is still its own; an error means that it has ended by itself.
		select {
		case <-r.exited:
			return
		default:
			_ = syscall.Kill(r.pid, sig)
		}
		select {
		case <-r.exited:
			return
		case <-time.After(time.Second):
			sig = syscall.SIGKILL
		}
	}
}

func (d *Daemon) socket() string { return filepath.Join(d.dir, "run", "pcscd.comm") }

// Env is the environment entry that leads a child process to this daemon.
func (d *Daemon) Env() string { return socketVariable + "=" + d.socket() }

// The client library reads it once in the life of a process.
const socketVariable = "PCSCLITE_CSOCK_NAME"

// Setenv leads this process to the daemon. It must come before the first call
// into the PC/SC client library, which remembers what it found then.
func (d *Daemon) Setenv() error { return os.Setenv(socketVariable, d.socket()) }

// SlotAddr is the TCP address at which slot i takes a card.
func (d *Daemon) SlotAddr(i int) string {
	return fmt.Sprintf("127.0.0.1:%d", d.ports[i/slotsPerUnit]+i%slotsPerUnit)
}

// SlotName is the name under which PC/SC lists slot i.
func (d *Daemon) SlotName(i int) string {
	return fmt.Sprintf("%s 00 %02d", friendlyName(i/slotsPerUnit), i%slotsPerUnit)
}

// Log is what the daemon has written so far, at most the last 64 KiB.
func (d *Daemon) Log() string {
	if d.run == nil {
		return ""
	}
	return d.run.log.String()
}

// Pid is the process number of the daemon, zero when it is not running.
func (d *Daemon) Pid() int {
	if d.run == nil {
		return 0
	}
	return d.run.pid
}

// Kill ends the daemon as a crash does. Restart brings it back.
func (d *Daemon) Kill() {
	if d.run != nil {
		d.run.end(syscall.SIGKILL)
		d.run = nil
	}
}

// Restart kills the daemon if it runs, and starts it with the same socket,
// ports and readers. Cards have to be put in again.
func (d *Daemon) Restart(ctx context.Context) error {
	d.Kill()
	err := d.start(ctx)
	// Another daemon that looks for a free port holds each for a moment.
	for range portTries {
		if !errors.Is(err, errPortTaken) {
			break
		}
		err = d.start(ctx)
	}
	if err != nil {
		return fmt.Errorf("restarting private pcscd: %w", err)
	}
	return nil
}

// Grow restarts the daemon with more slots; those it had keep their addresses
// and names.
func (d *Daemon) Grow(ctx context.Context, slots int) error {
	if slots < d.slots || slots > maxSlots {
		return fmt.Errorf("private pcscd: %d slots, want %d to %d", slots, d.slots, maxSlots)
	}
	d.slots = slots
	if err := d.configure(); err != nil {
		return fmt.Errorf("private pcscd: %w", err)
	}
	return d.Restart(ctx)
}

// Stop ends the daemon and removes its folder.
func (d *Daemon) Stop() error {
	if d.run != nil {
		d.run.end(syscall.SIGTERM)
		d.run = nil
	}
	err := os.RemoveAll(d.dir)
	if d.locks != nil {
		err = errors.Join(err, d.locks.Close())
		d.locks = nil
	}
	if err != nil {
		return fmt.Errorf("stopping private pcscd: %w", err)
	}
	return nil
}
