package wholefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/internal/wholefile"
)

func TestDraftAppearsWholeAndReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record")
	only := func(names ...string) {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != len(names) {
			t.Errorf("%v, %v", files, err)
		}
		for i, f := range files {
			if f.Name() != names[i] {
				t.Errorf("file %s", f.Name())
			}
		}
	}
	d, err := wholefile.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	only()

	if d, err = wholefile.Create(path); err != nil {
		t.Fatal(err)
	}
	other, err := wholefile.Create(path) // nobody is first yet
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Keep([]byte("first")), d.Discard()); err != nil {
		t.Fatal(err)
	}
	if err := other.Keep([]byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second: %v", err)
	}
	if err := other.Discard(); err != nil {
		t.Fatal(err)
	}
	only("record")
	if b, err := os.ReadFile(path); err != nil || string(b) != "first" {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := wholefile.New(path, []byte("third")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a new file in the place of another: %v", err)
	}
	if err := wholefile.Replace(path, []byte("fourth")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "fourth" {
		t.Errorf("%q, %v", b, err)
	}
	only("record")
}
