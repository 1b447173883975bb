package fetch_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

func source(t *testing.T, max int64) (*fetch.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list")
	f, err := fetch.NewFile("file:"+path, max)
	if err != nil {
		t.Fatal(err)
	}
	return f, path
}

func write(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsFetchedOncePerContent(t *testing.T) {
	f, path := source(t, 100)
	start := time.Now().Truncate(time.Second)
	write(t, path, "one", start)
	for i, want := range []string{"one", "one"} { // not kept yet: fetched again
		r, err := f.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r)
		if r.Close(); string(b) != want {
			t.Fatalf("fetch %d brings %q", i, b)
		}
	}
	f.Keep()
	if _, err := f.Fetch(t.Context()); !errors.Is(err, fetch.ErrUnchanged) {
		t.Errorf("kept and fetched again: %v", err)
	}
	write(t, path, "two", start.Add(time.Second))
	if r, err := f.Fetch(t.Context()); err != nil {
		t.Errorf("a new content is not fetched: %v", err)
	} else {
		r.Close()
	}
}

func TestWhatIsNoListFileIsRefused(t *testing.T) {
	f, path := source(t, 3)
	if _, err := f.Fetch(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	write(t, path, "four", time.Now())
	if _, err := f.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "at most 3") {
		t.Errorf("oversized file: %v", err)
	}
	dir, _ := fetch.NewFile("file:"+filepath.Dir(path), 3)
	if _, err := dir.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("folder: %v", err)
	}
	for _, s := range []string{"", "file:", "http://example.com/list", path} {
		if _, err := fetch.NewFile(s, 3); err == nil {
			t.Errorf("source %q is accepted", s)
		}
	}
}

// A pipe that nobody writes to holds up neither the lane of lists nor the end
// of the agent.
func TestPipeIsRefusedWithoutWaiting(t *testing.T) {
	f, path := source(t, 100)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	go func() {
		_, err := f.Fetch(t.Context())
		refused <- err
	}()
	select {
	case err := <-refused:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("fetching a pipe: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("fetching a pipe waits for a writer")
	}
}
