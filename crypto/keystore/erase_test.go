package keystore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A key is erased also where it does not open, and erasing it again is no error.
func TestEraseRemovesAKeyWhateverItsState(t *testing.T) {
	dir := t.TempDir()
	source, path := filepath.Join(dir, "source"), filepath.Join(dir, "key")
	uri := "sealed:path=" + path + ";key-source=" + source
	if err := GenerateKeySource(source); err != nil {
		t.Fatal(err)
	}
	var s Store
	for name, spoil := range map[string]func() error{
		"whole":       func() error { return nil },
		"overwritten": func() error { return os.WriteFile(path, make([]byte, 900), 0o600) },
		"gone":        func() error { return os.Remove(path) },
	} {
		if _, err := s.Generate(t.Context(), uri, Identity, Ed25519); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Erase(t.Context(), uri, Identity); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Erase(t.Context(), "scard:reader=none;aid=D392F000260100000001;key=17?pin-source="+source, ExternalAuth); !errors.Is(err, ErrCannot) {
		t.Errorf("a card destroys nothing: %v", err)
	}
}
