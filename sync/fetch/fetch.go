// Package fetch brings files that others have signed. It trusts nothing that
// it carries: whoever receives a file verifies it.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// ErrUnchanged says that the file is the one that was fetched before.
var ErrUnchanged = errors.New("unchanged")

// A File is a source on a mounted medium, such as a USB stick, or in a folder
// that another program fills. It is for one goroutine.
type File struct {
	path string
	max  int64

	seen stamp // of the file that was fetched and kept last
	next stamp // of the file that Fetch has opened
}

// A stamp tells one content of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// NewFile reads a source of the form file:PATH. Files over max bytes are
// refused.
func NewFile(source string, max int64) (*File, error) {
	path, ok := strings.CutPrefix(source, "file:")
	if !ok || path == "" {
		return nil, fmt.Errorf("source %q: want file:PATH", source)
	}
	return &File{path: strings.TrimPrefix(path, "//"), max: max}, nil
}

// Fetch opens the file, or returns ErrUnchanged.
func (f *File) Fetch(context.Context) (io.ReadCloser, error) {
	// Opening a pipe would wait for a writer, and nothing could end that.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.path)
	}
	if err == nil && info.Size() > f.max {
		err = fmt.Errorf("%s has %d bytes, at most %d", f.path, info.Size(), f.max)
	}
	if err == nil {
		f.next = stamp{info.ModTime(), info.Size()}
		if f.next == f.seen {
			err = ErrUnchanged
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Keep says that what Fetch opened last need not be fetched again.
func (f *File) Keep() { f.seen = f.next }
