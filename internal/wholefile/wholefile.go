// Package wholefile writes files of mode 0600 that appear whole or not at all,
// and survive a power cut once they are there.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Draft is a file to be, which replaces no other.
type Draft struct {
	f    *os.File
	path string
}

// Create begins the file path, before there is something to write: a folder that
// takes none is known then, and nobody has typed a PIN for it. The error is
// fs.ErrExist when a file has that name. Discard it.
func Create(path string) (Draft, error) {
	if _, err := os.Lstat(path); err == nil {
		return Draft{}, &os.PathError{Op: "create", Path: path, Err: os.ErrExist}
	}
	return begin(path)
}

func begin(path string) (Draft, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".draft-*") // mode 0600
	return Draft{f, path}, err
}

// Write implements io.Writer, for what is too long to be made at once.
func (d Draft) Write(b []byte) (int, error) { return d.f.Write(b) }

// Keep writes the content, or the rest of it, and gives the file its name. The error is fs.ErrExist when
// a file has that name.
func (d Draft) Keep(content []byte) error {
	// Not link, which a USB stick does not have.
	return d.keep(content, unix.RENAME_NOREPLACE)
}

func (d Draft) keep(content []byte, flags uint) error {
	if _, err := d.f.Write(content); err != nil {
		return err
	}
	if err := d.f.Sync(); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, d.f.Name(), unix.AT_FDCWD, d.path, flags); err != nil {
		if errors.Is(err, os.ErrExist) {
			return &os.PathError{Op: "create", Path: d.path, Err: os.ErrExist}
		}
		return &os.LinkError{Op: "rename", Old: d.f.Name(), New: d.path, Err: err}
	}
	return SyncFolder(filepath.Dir(d.path))
}

// Discard closes the draft, and removes it unless it was kept.
func (d Draft) Discard() error {
	err := os.Remove(d.f.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.f.Close())
}

// New writes a file that replaces no other. The error is fs.ErrExist when it would.
func New(path string, content []byte) error {
	return write(path, content, unix.RENAME_NOREPLACE)
}

// Replace writes a file in the place of the one that is there, if any.
func Replace(path string, content []byte) error { return write(path, content, 0) }

func write(path string, content []byte, flags uint) (err error) {
	d, err := begin(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Discard()) }()
	return d.keep(content, flags)
}

// SyncFolder makes durable which names a folder has.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
