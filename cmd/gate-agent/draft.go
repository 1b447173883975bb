package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A draft is a file of mode 0600 that appears whole or not at all, survives a
// power cut once it is kept, and replaces no other.
type draft struct {
	f    *os.File
	path string
}

// createDraft begins the file path, before there is something to write: a
// folder that takes none is known then, and no holder has typed a PIN for it.
func createDraft(path string) (draft, error) {
	if _, err := os.Lstat(path); err == nil {
		return draft{}, fmt.Errorf("%s exists, and is not replaced: name another file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".draft-*") // mode 0600
	return draft{f, path}, err
}

// Keep writes the content and gives the file its name.
func (d draft) Keep(content []byte) error {
	if _, err := d.f.Write(content); err != nil {
		return err
	}
	if err := d.f.Sync(); err != nil {
		return err
	}
	// Not link, which a USB stick does not have.
	err := unix.Renameat2(unix.AT_FDCWD, d.f.Name(), unix.AT_FDCWD, d.path, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: d.f.Name(), New: d.path, Err: err}
	}
	dir, err := os.Open(filepath.Dir(d.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Discard closes the draft, and removes it unless it was kept.
func (d draft) Discard() error {
	err := os.Remove(d.f.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.f.Close())
}
