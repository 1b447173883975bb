package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// ErrFolder says that a source is a folder of files, not one file.
var ErrFolder = errors.New("a folder of files, not one file")

// A folder is one on a mounted medium, or one that another program fills. It is
// opened for each file anew: an open folder would keep the medium from being
// unmounted.
type folder string

func (f folder) String() string { return string(f) }

func (folder) close() {}

func (f folder) open(name string) (*os.File, fs.FileInfo, error) {
	// The dot: opening a pipe, unlike looking for something in it, would wait.
	root, err := os.OpenRoot(string(f) + "/.")
	if err != nil {
		return nil, nil, err
	}
	defer root.Close() // only read
	return regular(root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0))
}

// get does not go by the time of a file: on a stick it is coarse, and reading
// a small file costs nothing.
func (f folder) get(_ context.Context, name string, _ version, max int64) (io.ReadCloser, version, error) {
	file, info, err := f.open(name)
	if err != nil {
		return nil, version{}, err
	}
	if info.Size() > max {
		err = fmt.Errorf("%d bytes, at most %d", info.Size(), max)
		return nil, version{}, errors.Join(err, file.Close())
	}
	return file, version{}, nil
}

func (f folder) from(_ context.Context, name string, offset, size int64) (io.ReadCloser, int64, error) {
	file, info, err := f.open(name)
	if err != nil {
		return nil, 0, err
	}
	if info.Size() != size {
		err = sizeError(info.Size(), size)
	} else {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, 0, nil
}

// regular refuses what is no regular file.
func regular(f *os.File, err error) (*os.File, fs.FileInfo, error) {
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// A stamp tells one content of the one file of a source from another.
type stamp struct {
	modified time.Time
	size     int64
}

// Whole is a whole list in one file: a manifest with its rows.
type Whole struct {
	*os.File
	source *Source
	stamp  stamp
}

// Keep says that this file need not be brought again until it changes; see
// [Answer.Keep].
func (w Whole) Keep() {
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	w.source.seen = w.stamp
}

// Whole opens a source that is one regular file of at most max bytes, or
// returns ErrUnchanged when it has the size and time of the one that was kept.
// The error is ErrFolder for a folder and for a web server. What is at a path
// can change with the stick that is in.
func (s *Source) Whole(max int64) (Whole, error) {
	path, ok := s.origin.(folder)
	if !ok {
		return Whole{}, ErrFolder
	}
	if info, err := os.Stat(string(path)); err == nil && info.IsDir() {
		return Whole{}, ErrFolder
	}
	// Opening a pipe would wait for a writer, and nothing could end that.
	f, info, err := regular(os.OpenFile(string(path), os.O_RDONLY|syscall.O_NONBLOCK, 0))
	if err != nil {
		return Whole{}, err
	}
	now := stamp{info.ModTime(), info.Size()}
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	switch {
	case now.size > max:
		err = fmt.Errorf("%s has %d bytes, at most %d", path, now.size, max)
	case now == seen:
		err = ErrUnchanged
	default:
		return Whole{f, s, now}, nil
	}
	return Whole{}, errors.Join(err, f.Close())
}
