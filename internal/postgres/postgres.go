// Package postgres runs a PostgreSQL server of Debian's for the tests of a
// process: on a Unix socket and with a state of its own, until they end.
package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ErrNotInstalled says that there is no PostgreSQL on this machine.
var ErrNotInstalled = errors.New("PostgreSQL not installed: apt install postgresql")

// owner is the role that tests connect as.
const owner = "gate"

// A Server runs from the first Database to the end of Main, or Stop. Its zero value is
// ready.
type Server struct {
	once sync.Once
	err  error

	bin, dir string
	as       *syscall.Credential // nil: ourselves
	process  *os.Process
	ended    chan struct{}
	log      bytes.Buffer

	mu        sync.Mutex
	databases int
}

// Database makes an empty database and returns its URL, which opens it without a
// password. The first call starts the server. Where PostgreSQL is not installed
// the test fails in CI, and is skipped elsewhere.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.once.Do(func() { s.err = s.start() })
	if errors.Is(s.err, ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip(s.err)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.mu.Lock()
	s.databases++
	name := "test" + strconv.Itoa(s.databases)
	s.mu.Unlock()
	if err := s.run("createdb", "-h", s.dir, "-U", owner, name); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.User(owner), Path: "/" + name, RawQuery: url.Values{"host": {s.dir}}.Encode()}
	return u.String()
}

// Main is TestMain.
func (s *Server) Main(m *testing.M) {
	code := m.Run()
	if err := s.Stop(); err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

func (s *Server) start() (err error) {
	if s.bin, err = programs(); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil { // t.TempDir can be too long for a socket
		return err
	}
	if os.Getuid() == 0 { // PostgreSQL refuses root
		if s.as, err = unprivileged(); err != nil {
			return err
		}
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	// A collation of a language, as a real database may have: what has to sort by
	// bytes must ask for it.
	if err := s.run("initdb", "-D", data, "-U", owner, "-A", "trust", "-E", "UTF8", "--no-sync",
		"--locale=C", "--locale-provider=icu", "--icu-locale=ja-JP"); err != nil {
		return err
	}
	return s.serve()
}

// Kill ends the server as a power cut does. Its databases stay, for Restart.
func (s *Server) Kill() error {
	if err := s.process.Signal(syscall.SIGQUIT); err != nil { // its "immediate shutdown", which takes its children with it
		return err
	}
	<-s.ended
	s.process = nil
	return nil
}

// Restart starts a server that was killed.
func (s *Server) Restart() error { return s.serve() }

// serve starts the process, and waits until it answers.
func (s *Server) serve() (err error) {
	data := filepath.Join(s.dir, "data")
	cmd := s.command("postgres", "-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	started, ended := make(chan error), make(chan struct{})
	go func() { // ends with the process; Stop waits for it
		// Pdeathsig watches the thread that forked, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // Stop has asked it to end
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.ended = cmd.Process, ended
	for range 600 {
		if err = s.run("pg_isready", "-q", "-h", s.dir); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(err, s.Stop())
}

// Stop ends the server, if there is one, and removes what it kept: at the end of the
// tests of a process that has a TestMain of its own.
func (s *Server) Stop() error {
	if s.process != nil {
		if err := s.process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) { // its "fast shutdown"
			return err
		}
		<-s.ended
		s.process = nil
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: s.as}
	return cmd
}

func (s *Server) run(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s%s", name, err, out, s.tail())
	}
	return nil
}

// tail is the end of the server's log once it has ended.
func (s *Server) tail() string {
	select {
	case <-s.ended: // nil before there is a server: never
	default:
		return ""
	}
	return s.log.String()
}

// programs is the folder of the newest server: Debian keeps them off the path.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // 0 of what is no number
			return n
		}
		newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
		return filepath.Dir(newest), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", ErrNotInstalled
}

// unprivileged is who runs the server when we are root: the package's user, or nobody.
func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
