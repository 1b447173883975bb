// Package nginx runs Debian's nginx, a web server that is not ours, for a test: over
// https on a port of this machine, with a folder and a configuration of its own, until
// the test ends.
package nginx

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Server serves the files of a folder. Its methods are for one goroutine.
type Server struct {
	URL   string         // https://127.0.0.1:PORT
	Roots *x509.CertPool // who vouches for it
	CA    string         // the same, as a PEM file

	dir     string
	server  string // block of the configuration, with %d where its port goes
	port    int
	ended   chan struct{} // closed when the process has; nil: stopped
	process *os.Process
}

// New serves the folder files. Each of extra is a directive for the server, such as
// "limit_rate 64k;". Without nginx the test fails in CI, and is skipped elsewhere.
func New(t testing.TB, files string, extra ...string) *Server {
	t.Helper()
	return run(t, fmt.Sprintf(plain, files, strings.Join(extra, " ")))
}

// Sample serves the folder files as the configuration sample of docs/hub.md says: text
// is that page, and only what differs from machine to machine is another than on it.
func Sample(t testing.TB, text, files string) *Server {
	t.Helper()
	_, block, _ := strings.Cut(text, "\n```nginx\n")
	block, _, found := strings.Cut(block, "```")
	if !found || strings.Contains(block, "%") {
		t.Fatal("no sample that this package can use")
	}
	for from, to := range map[string]string{
		"listen 443 ssl;": "listen 127.0.0.1:%d ssl;", "/etc/ssl/hub.pem;": "cert.pem;", "/etc/ssl/private/hub.key;": "key.pem;",
		"root /var/lib/gate-hub/files;": fmt.Sprintf("root %q;", files),
	} {
		if strings.Count(block, from) != 1 {
			t.Fatalf("the sample has not one %q", from)
		}
		block = strings.Replace(block, from, to, 1)
	}
	return run(t, block)
}

func run(t testing.TB, server string) *Server {
	t.Helper()
	path, err := look()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("nginx not installed: apt install nginx")
		}
		t.Skip("nginx not installed: apt install nginx")
	}
	s := &Server{dir: t.TempDir(), server: server}
	if err := os.Mkdir(filepath.Join(s.dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.CA = filepath.Join(s.dir, "cert.pem")
	cert, err := certify(s.CA, filepath.Join(s.dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AddCert(cert)
	t.Cleanup(func() { s.Stop(t) })
	// Nothing can reserve a port from every other program: choose, and choose
	// again when somebody else was faster.
	for range 20 {
		if s.port, err = freePort(); err != nil {
			t.Fatal(err)
		}
		if err = s.start(path); err == nil {
			s.URL = fmt.Sprintf("https://127.0.0.1:%d", s.port)
			return s
		}
	}
	t.Fatal(err)
	return nil
}

func look() (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/nginx") // not in everybody's PATH
}

// freePort is below the range from which the kernel gives ports to clients, so that
// none of those takes it while the server is stopped.
func freePort() (int, error) {
	for port := 20000 + os.Getpid()%5000; port < 32000; port++ {
		if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port below 32000")
}

// The test's own user runs it, and the whole of it: no other, no privileges, no file
// outside its folder.
const configuration = `daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log notice;
events { worker_connections 256; }
http {
	log_format one '$request_method $uri $status $body_bytes_sent $http_range';
	access_log access.log one;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
	default_type application/octet-stream;
	%s
}
`

// plain is a server without a word of its own.
const plain = `server {
	listen 127.0.0.1:%%d ssl;
	ssl_certificate cert.pem;
	ssl_certificate_key key.pem;
	root "%s";
	%s
}
`

func (s *Server) start(path string) error {
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n" // the folders of a test are its owner's alone
	}
	conf := user + fmt.Sprintf(configuration, fmt.Sprintf(s.server, s.port))
	if err := os.WriteFile(filepath.Join(s.dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "-p", s.dir, "-c", "nginx.conf", "-e", "error.log")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // its worker ends with it
	started, ended := make(chan error), make(chan struct{})
	go func() { // ends with the process; end waits for it
		// Pdeathsig watches the thread that forked, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is always ended by a signal
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.ended = cmd.Process, ended
	for range 2000 {
		if s.answers() {
			return nil
		}
		select {
		case <-ended: // the port is taken, as a rule
			s.ended = nil
			return fmt.Errorf("nginx does not start: %s", log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.end()
	return fmt.Errorf("nginx does not answer: %s", log.String())
}

// answers reports whether this server, by its certificate, is on the port.
func (s *Server) answers() bool {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", s.port), &tls.Config{RootCAs: s.Roots})
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// Start starts it again where it was.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	path, err := look()
	if err == nil {
		err = s.start(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Stop ends it, with its connections.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.ended == nil {
		return
	}
	s.end()
}

func (s *Server) end() {
	// The process is not reaped before ended is closed, so the number is its own.
	_ = s.process.Signal(syscall.SIGTERM) // an error: it has ended by itself
	<-s.ended
	s.ended = nil
}

// Log is a line for each answer, once there are n: method, path, status, bytes and Range. The
// server writes one when it has sent the answer, which its client can have a little sooner.
func (s *Server) Log(t testing.TB, n int) []string {
	t.Helper()
	for range 2000 {
		b, err := os.ReadFile(filepath.Join(s.dir, "access.log"))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"); len(b) > 0 && len(lines) >= n {
			return lines
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("nginx has given fewer than %d answers", n)
	return nil
}
