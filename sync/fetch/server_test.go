package fetch_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

// A wire connects a source to a server within a test's bubble of time, where a
// minute of nothing takes none.
type wire struct {
	conns chan net.Conn
	ended context.Context
	end   context.CancelFunc
	roots *x509.CertPool
}

func (w wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.ended.Done():
		return nil, net.ErrClosed
	}
}

func (w wire) Close() error   { w.end(); return nil }
func (w wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (w wire) dial(context.Context, string, string) (net.Conn, error) {
	server, client := net.Pipe()
	select {
	case w.conns <- server:
		return client, nil
	case <-w.ended.Done():
		return nil, syscall.ECONNREFUSED
	}
}

// serve is a source whose server is h.
func serve(t *testing.T, h http.HandlerFunc) *fetch.Source {
	t.Helper()
	return serveAs(t, "https://example.com/lists/demo/", h)
}

// serveAs is a source at a URL whose server is h, which is example.com.
func serveAs(t *testing.T, url string, h http.HandlerFunc) *fetch.Source {
	t.Helper()
	w := newWire(t, h)
	s, err := fetch.New(url, fetch.Options{Roots: w.roots, Dial: w.dial, Rand: func(n int64) int64 { return n - 1 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newWire(t *testing.T, h http.HandlerFunc) wire {
	t.Helper()
	w := wire{conns: make(chan net.Conn), roots: x509.NewCertPool()}
	w.ended, w.end = context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close() // the one of the machine
	server.Listener = w
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of connections that we end
	server.StartTLS()
	t.Cleanup(server.Close)
	w.roots.AddCert(server.Certificate())
	return w
}

func folder(t *testing.T) *os.Root {
	t.Helper()
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// left is what is in a folder, with its size.
func left(t *testing.T, dir *os.Root) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(dir.Name())
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		m[e.Name()] = info.Size()
	}
	return m
}

// big is a file of a megabyte, and what one wants who wants it.
func big() ([]byte, fetch.Want) {
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i * i >> 8)
	}
	return b, wanted(b)
}

func wanted(b []byte) fetch.Want {
	return fetch.Want{SHA256: sha256.Sum256(b), Size: int64(len(b))}
}

// read is all of a download, which it closes.
func read(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(t *testing.T, dir *os.Root, want fetch.Want, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir.Name(), partName(want)), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func partName(want fetch.Want) string { return fetch.PartName(want.SHA256) }
