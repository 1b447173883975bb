package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// Erase removes whatever key for a purpose is at uri, as Destroy does, without knowing
// which one: also a sealed file that does not open any more, or not yet. That nothing
// is there is no error, so an Erase that was interrupted can be said again. A medium
// that cannot destroy keys, or that is not there, is one.
func (s *Store) Erase(ctx context.Context, uri string, p Purpose) error {
	u, err := ParseURI(uri)
	if err != nil {
		return err
	}
	if u.Scheme() == "sealed" {
		if err := Shred(u.Get("path")); err != nil {
			return fmt.Errorf("erasing %s key %s: %w", p, u, err)
		}
		return nil
	}
	if _, err := as[destroyer](s.medium(u), u, "erasing"); err != nil {
		return err
	}
	if p == Wrap {
		err = s.Destroy(ctx, uri, p, nil)
	} else {
		var k *Key
		if k, err = s.OpenSigner(ctx, uri, p); err == nil {
			public := k.Public()
			if err = k.Close(); err == nil {
				err = s.Destroy(ctx, uri, p, public)
			}
		}
	}
	if errors.Is(err, ErrNoKey) {
		return nil
	}
	return err
}

// Shred overwrites a file with zeros and removes it. Storage that moves what is
// rewritten (flash) may keep the old blocks. That there is none is no error.
func Shred(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = zero(f)
	if err := errors.Join(err, f.Sync(), f.Close(), os.Remove(path)); err != nil {
		return err
	}
	return wholefile.SyncFolder(filepath.Dir(path))
}

func zero(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	piece := make([]byte, 64<<10)
	for left := info.Size(); left > 0; {
		n, err := f.Write(piece[:min(left, int64(len(piece)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
