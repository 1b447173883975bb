package fetch_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

func source(t *testing.T, path string) *fetch.Source {
	t.Helper()
	s, err := fetch.New("file:"+path, fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestWholeListIsBroughtOncePerContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.cose")
	s := source(t, path)
	start := time.Now().Truncate(time.Second)
	write(t, path, "one", start)
	for range 2 { // not kept yet: brought again
		w, err := s.Whole(100)
		if err != nil {
			t.Fatal(err)
		}
		if b := read(t, w.File); b != "one" {
			t.Fatalf("brings %q", b)
		}
		defer w.Keep()
	}
	w, err := s.Whole(100)
	if err != nil {
		t.Fatal(err)
	}
	read(t, w.File)
	w.Keep()
	if _, err := s.Whole(100); !errors.Is(err, fetch.ErrUnchanged) {
		t.Errorf("kept and brought again: %v", err)
	}
	write(t, path, "two", start.Add(time.Second))
	if w, err := s.Whole(100); err != nil {
		t.Errorf("a new content is not brought: %v", err)
	} else {
		read(t, w.File)
	}
	if _, err := s.Get(t.Context(), "manifest", 100); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file in a file: %v", err)
	}
}

func TestWhatIsNoWholeListIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.cose")
	s := source(t, path)
	if _, err := s.Whole(3); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	write(t, path, "four", time.Now())
	if _, err := s.Whole(3); err == nil || !strings.Contains(err.Error(), "at most 3") {
		t.Errorf("oversized file: %v", err)
	}
	if _, err := source(t, filepath.Dir(path)).Whole(3); !errors.Is(err, fetch.ErrFolder) {
		t.Errorf("folder: %v", err)
	}
	web, err := fetch.New("https://hub.example", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := web.Whole(3); !errors.Is(err, fetch.ErrFolder) {
		t.Errorf("web server: %v", err)
	}
}

// A pipe that nobody writes to holds up neither the lane of lists nor the end
// of the agent, in whichever place it lies.
func TestPipeIsRefusedWithoutWaiting(t *testing.T) {
	_, want := big()
	dir, parts := t.TempDir(), folder(t)
	for _, path := range []string{filepath.Join(dir, "pipe"), filepath.Join(parts.Name(), partName(want))} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := make(chan error)
	go func() { // ends when nothing waits
		pipe := source(t, filepath.Join(dir, "pipe"))
		_, err := pipe.Whole(100)
		refused <- err
		_, err = pipe.Get(t.Context(), "manifest", 100)
		refused <- err
		_, err = source(t, dir).Get(t.Context(), "pipe", 100)
		refused <- err
		_, err = source(t, dir).Download(t.Context(), "pipe", want, folder(t), nil)
		refused <- err
		_, err = source(t, dir).Download(t.Context(), "anything", want, parts, nil)
		refused <- err
	}()
	for i := range 5 {
		select {
		case err := <-refused:
			if err == nil || !strings.Contains(err.Error(), "not a regular file") && !errors.Is(err, syscall.ENOTDIR) {
				t.Errorf("pipe %d: %v", i, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("pipe %d waits for a writer", i)
		}
	}
}

// A stick as a hub writes it, that changes and is pulled out.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	stick, away := filepath.Join(dir, "stick"), filepath.Join(dir, "away")
	at := time.Now()
	content, want := big()
	write(t, filepath.Join(stick, "manifest"), "one", at)
	write(t, filepath.Join(stick, "snapshot", "abc"), string(content), at)
	s := source(t, stick)
	get := func(name, body string) fetch.Answer {
		t.Helper()
		a, err := s.Get(t.Context(), name, 100)
		if err != nil || string(a.Body) != body {
			t.Fatalf("%q, %v, want %q", a.Body, err, body)
		}
		return a
	}
	get("manifest", "one")
	get("manifest", "one").Keep()
	if _, err := s.Get(t.Context(), "manifest", 100); !errors.Is(err, fetch.ErrUnchanged) {
		t.Errorf("kept, and brought again: %v", err)
	}
	write(t, filepath.Join(stick, "manifest"), "two", at) // times on a stick are coarse
	get("manifest", "two")

	parts := folder(t)
	f, err := s.Download(t.Context(), "snapshot/abc", want, parts, nil)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, f) != string(content) {
		t.Error("another snapshot")
	}
	put(t, parts, want, content[:1000])
	before := s.Counts()
	if f, err = s.Download(t.Context(), "snapshot/abc", want, parts, nil); err != nil {
		t.Fatal(err)
	}
	read(t, f)
	if got := s.Counts().Written - before.Written; got != want.Size-1000 {
		t.Errorf("%d bytes written to go on from 1000", got)
	}

	if err := os.Rename(stick, away); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "manifest", 100); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pulled out: %v", err)
	}
	if err := os.Rename(away, stick); err != nil {
		t.Fatal(err)
	}
	get("manifest", "two")
}

func TestNothingOnAStickLeadsOutsideOrPassesForAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "secret", time.Now())
	stick := filepath.Join(dir, "stick")
	write(t, filepath.Join(stick, "long"), strings.Repeat("x", 101), time.Now())
	write(t, filepath.Join(stick, "page"), "<!DOCTYPE html>", time.Now())
	for name, to := range map[string]string{"up": "../secret", "absolute": filepath.Join(dir, "secret"), "folder/up": "../../secret"} {
		if err := os.MkdirAll(filepath.Join(stick, "folder"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(stick, name)); err != nil {
			t.Fatal(err)
		}
	}
	s, parts := source(t, stick), folder(t)
	for name, want := range map[string]string{
		"up": "escapes", "absolute": "escapes", "folder/up": "escapes", "folder": "not a regular file", "long": "at most 100", "page": "web page", "none": "no such file",
	} {
		if _, err := s.Get(t.Context(), name, 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		_, err := s.Download(t.Context(), name, fetch.Want{Size: 15}, parts, nil)
		if err == nil || !strings.Contains(err.Error(), strings.Replace(want, "at most 100", "101 bytes, want 15", 1)) {
			t.Errorf("download of %s: %v", name, err)
		}
	}
	if m := left(t, parts); len(m) != 0 {
		t.Errorf("left: %v", m)
	}
}
