package fetch_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/nginx"
	"github.com/gate-agent/gate-agent/sync/fetch"
)

// Debian's nginx, as it is, serves what a hub writes.
func TestWebServerThatIsNotOurs(t *testing.T) {
	site := t.TempDir()
	content, want := big()
	write(t, filepath.Join(site, "demo/manifest"), "one", time.Now())
	write(t, filepath.Join(site, "demo/snapshot/abc"), string(content), time.Now())
	web := nginx.New(t, site)
	s, err := fetch.New(web.URL+"/demo", fetch.Options{Roots: web.Roots})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.Get(t.Context(), "manifest", 100)
	if err != nil || string(a.Body) != "one" {
		t.Fatalf("%q, %v", a.Body, err)
	}
	a.Keep()
	if _, err := s.Get(t.Context(), "manifest", 100); !errors.Is(err, fetch.ErrUnchanged) {
		t.Errorf("kept, and brought again: %v", err)
	}
	write(t, filepath.Join(site, "demo/manifest"), "two!", time.Now())
	if a, err := s.Get(t.Context(), "manifest", 100); err != nil || string(a.Body) != "two!" {
		t.Errorf("%q, %v", a.Body, err)
	}
	if _, err := s.Get(t.Context(), "lease/none", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	dir := folder(t)
	put(t, dir, want, content[:1000])
	f, err := s.Download(t.Context(), "snapshot/abc", want, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, f) != string(content) {
		t.Error("another content")
	}
	log := web.Log(t, 5)
	if want := []string{
		"GET /demo/manifest 200 3 -",
		"GET /demo/manifest 304 0 -",
		"GET /demo/manifest 200 4 -",
	}; !slices.Equal(log[:3], want) || !strings.HasPrefix(log[3], "GET /demo/lease/none 404") || log[4] != "GET /demo/snapshot/abc 206 1047576 bytes=1000-1048575" {
		t.Errorf("%q", log)
	}
}

// The agent stops in the middle of a download, and the server later, and both
// come back.
func TestDownloadOutlivesAgentAndServer(t *testing.T) {
	site := t.TempDir()
	content, want := big()
	write(t, filepath.Join(site, "abc"), string(content), time.Now())
	web := nginx.New(t, site, "limit_rate_after 100k; limit_rate 200k;")
	dir := folder(t)
	download := func(ctx context.Context, progress func(int64, int64)) (*os.File, *fetch.Source, error) {
		s, err := fetch.New(web.URL, fetch.Options{Roots: web.Roots, Rand: func(int64) int64 { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f, err := s.Download(ctx, "abc", want, dir, progress)
		return f, s, err
	}
	ctx, stop := context.WithCancel(t.Context())
	_, _, err := download(ctx, func(done, _ int64) {
		if done > 50_000 {
			stop()
		}
	})
	there := left(t, dir)[partName(want)]
	if !errors.Is(err, context.Canceled) || there <= 50_000 || there == want.Size {
		t.Fatalf("%v, left %d bytes", err, there)
	}
	stopped := false
	if _, _, err := download(t.Context(), func(done, _ int64) {
		if !stopped && done > there+50_000 {
			stopped = true
			web.Stop(t)
		}
	}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("server stopped: %v", err)
	}
	web.Start(t)
	there = left(t, dir)[partName(want)]
	f, s, err := download(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, f) != string(content) {
		t.Error("another content")
	}
	if c := s.Counts(); c.Written != want.Size-there || c.Received != c.Written {
		t.Errorf("%+v to go on from %d of %d", c, there, want.Size)
	}
}

// A list of 64 MB costs no memory to speak of.
func TestDownloadIsNotHeldInMemory(t *testing.T) {
	site := t.TempDir()
	content := []byte(strings.Repeat("\x00sixty-three bytes and a zero, so that it is no web page, again.", 1<<20))
	want := wanted(content)
	write(t, filepath.Join(site, "abc"), string(content), time.Now())
	content = nil
	web := nginx.New(t, site)
	s, err := fetch.New(web.URL, fetch.Options{Roots: web.Roots})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir := folder(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := s.Download(t.Context(), "abc", want, dir, nil)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes allocated for %d", n, want.Size)
	}
}
