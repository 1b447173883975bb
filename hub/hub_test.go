package hub

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/hub/authority"
)

// folder holds a hub's files, a secret beside them, and things that have no
// business there.
func folder(t *testing.T) (root *os.Root, dir, snapshot string, content []byte) {
	t.Helper()
	dir = t.TempDir()
	content = []byte(strings.Repeat("sealed row ", 100_000))
	sum := sha256.Sum256(content)
	snapshot = "arena/snapshot/" + hex.EncodeToString(sum[:])
	write(t, dir, "secret", "the key of the authority")
	write(t, dir, "files/arena/manifest", "manifest 1")
	write(t, dir, "files/"+snapshot, string(content))
	write(t, dir, "files/arena/lease/gate-1", "lease")
	write(t, dir, "files/arena/.draft-1", "half of something")
	write(t, dir, "files/index.html", "<html>")
	if err := os.Symlink("../../../secret", filepath.Join(dir, "files/arena/lease/stolen")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "files/arena/lease/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return root, dir, snapshot, content
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ask(h http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, "http://hub/", nil)
	r.URL.Path = path
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPublishedFilesAreServed(t *testing.T) {
	root, dir, snapshot, content := folder(t)
	h := NewHandler(root, nil)

	r := ask(h, "GET", "/"+snapshot)
	if r.StatusCode != 200 || body(t, r) != string(content) || r.Header.Get("ETag") != `"`+filepath.Base(snapshot)+`"` {
		t.Errorf("snapshot: %s, ETag %s", r.Status, r.Header.Get("ETag"))
	}
	if c := r.Header.Get("Cache-Control"); !strings.Contains(c, "immutable") {
		t.Errorf("snapshot: Cache-Control %q", c)
	}
	if r.Header.Get("Last-Modified") != "" || r.Header.Get("Content-Encoding") != "" {
		t.Errorf("snapshot: %v", r.Header)
	}
	r = ask(h, "GET", "/"+snapshot, "Range", "bytes=11-21", "If-Range", r.Header.Get("ETag"))
	if got := body(t, r); r.StatusCode != 206 || got != string(content[11:22]) {
		t.Errorf("range: %s, %q", r.Status, got)
	}
	r = ask(h, "HEAD", "/"+snapshot)
	if body(t, r) != "" || r.ContentLength != int64(len(content)) {
		t.Errorf("HEAD: %d bytes", r.ContentLength)
	}

	r = ask(h, "GET", "/arena/manifest")
	etag := r.Header.Get("ETag")
	if r.StatusCode != 200 || body(t, r) != "manifest 1" || r.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("manifest: %s, %v", r.Status, r.Header)
	}
	if r = ask(h, "GET", "/arena/manifest", "If-None-Match", etag); r.StatusCode != 304 || body(t, r) != "" {
		t.Errorf("the same manifest: %s", r.Status)
	}
	// Replaced as package publish does, by a file of the same size.
	write(t, dir, "files/arena/.draft-2", "manifest 2")
	if err := os.Rename(filepath.Join(dir, "files/arena/.draft-2"), filepath.Join(dir, "files/arena/manifest")); err != nil {
		t.Fatal(err)
	}
	if r = ask(h, "GET", "/arena/manifest", "If-None-Match", etag); r.StatusCode != 200 || body(t, r) != "manifest 2" {
		t.Errorf("another manifest: %s", r.Status)
	}
	if r = ask(h, "GET", "/arena/lease/gate-1"); r.StatusCode != 200 || body(t, r) != "lease" {
		t.Errorf("lease: %s", r.Status)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	root, _, snapshot, _ := folder(t)
	h := NewHandler(root, nil)
	for _, path := range []string{
		"", "/", "/arena", "/arena/", "/arena/snapshot", "/arena/snapshot/", "/index.html", "/arena/.draft-1", "/arena/manifest/", "//arena/manifest",
		"/../secret", "/arena/../../secret", "/arena/lease/../../../secret", "/arena/lease/..", "/arena/lease/.", "/arena/lease/stolen", "/arena/lease/pipe",
		"/arena/lease/", "/arena/lease/nobody", "/arena/lease/gate-1\x00", "/arena\\manifest", "/" + snapshot + "/", "/" + snapshot + ".gz",
		"/" + strings.ToUpper(snapshot), "/./" + snapshot, "/arena/snapshot/" + strings.Repeat("0", 64), "/arena/delta/0-1/" + strings.Repeat("0", 64),
	} {
		if r := ask(h, "GET", path); r.StatusCode != 404 || strings.Contains(body(t, r), "key of") {
			t.Errorf("%q: %s", path, r.Status)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PROPFIND"} {
		if r := ask(h, method, "/arena/manifest"); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s", method, r.Status)
		}
	}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	root, _, _, _ := folder(t)
	if r := ask(NewHandler(root, nil), "GET", "/healthz"); r.StatusCode != 200 {
		t.Errorf("%s", r.Status)
	}
	sick := NewHandler(root, func() error { return errors.New("the list of arena ended an hour ago") })
	if r := ask(sick, "GET", "/healthz"); r.StatusCode != 503 || !strings.Contains(body(t, r), "an hour ago") {
		t.Errorf("%s", r.Status)
	}
}

// serve runs a server until the test ends, and returns its address.
func serve(t *testing.T, config *tls.Config, most int, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h)
	s.TLSConfig = config
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, s, l, most) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestOwnAuthorityIsEnoughForHTTPS(t *testing.T) {
	root, _, snapshot, content := folder(t)
	dir := t.TempDir()
	a, err := authority.Create(dir, "arena", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Server([]string{"hub.example.jp", "127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, authority.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, &tls.Config{Certificates: []tls.Certificate{pair}}, DefaultConnections, NewHandler(root, nil))

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport}).Get("https://" + addr + "/" + snapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 200 || body(t, r) != string(content) {
		t.Errorf("%s", r.Status)
	}
	stranger := &http.Transport{}
	defer stranger.CloseIdleConnections()
	if _, err := (&http.Client{Transport: stranger}).Get("https://" + addr + "/" + snapshot); err == nil {
		t.Error("trusted by somebody who does not know the authority")
	}
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	root, _, _, _ := folder(t)
	addr := serve(t, nil, 1, NewHandler(root, nil))
	get := func(c net.Conn) error {
		if _, err := fmt.Fprintf(c, "GET /arena/manifest HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
			return err
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := get(first); err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	answered := make(chan error, 1)
	go func() { answered <- get(second) }()
	select {
	case err := <-answered:
		t.Errorf("answered beside the first: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// A deadline that was set counts: who takes a byte now and then is cut off by it.
func TestSlowReaderHasItsTimeByWhatItTook(t *testing.T) {
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	p := newPaced(w)
	if _, err := io.CopyN(p, strings.NewReader(strings.Repeat("x", 4<<20)), 4<<20); err != nil {
		t.Fatal(err)
	}
	if first, last := w.set[0].Sub(p.begun), w.set[len(w.set)-1].Sub(p.begun); first != writeGrace || last != writeGrace+4<<20/leastRate*time.Second {
		t.Errorf("deadlines from %v to %v", first, last)
	}
}

type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func FuzzPathsStayInside(f *testing.F) {
	for _, path := range []string{"/arena/manifest", "/../secret", "/arena/lease/../../../secret", "/arena/lease/gate-1"} {
		f.Add(path)
	}
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "files", "arena", "lease"), 0o700); err != nil {
		f.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(dir, "files"))
	if err != nil {
		f.Fatal(err)
	}
	defer root.Close()
	h := NewHandler(root, nil)
	f.Fuzz(func(t *testing.T, path string) {
		if r := ask(h, "GET", path); r.StatusCode == 200 && path != "/healthz" {
			t.Errorf("%q: %s", path, r.Status)
		}
	})
}
