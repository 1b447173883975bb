package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
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
	d, err := createDraft(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	only()

	if d, err = createDraft(path); err != nil {
		t.Fatal(err)
	}
	other, err := createDraft(path) // nobody is first yet
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
	if _, err := createDraft(path); err == nil {
		t.Error("a draft for a file that exists")
	}
}
