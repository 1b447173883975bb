package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Of a download so much is on its way to the disk at once: what a tap writes
// there, and waits for, does not queue behind a whole list.
const syncBytes = 4 << 20

// A part is as much of a big file as has come, from its beginning.
type part struct {
	file    *os.File
	dir     *os.Root
	want    Want
	size    int64
	synced  int64
	written *atomic.Int64
}

// openPart opens what is there of a file, locked against another process, and
// takes from the disk the room for the rest, unless less than spare would be left.
func openPart(dir *os.Root, want Want, spare int64, written *atomic.Int64) (_ *part, err error) {
	name := partName(want.SHA256)
	// Not a pipe that lies there, which would wait.
	f, info, err := regular(dir.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600))
	if err != nil {
		return nil, err
	}
	p := &part{file: f, dir: dir, want: want, size: info.Size(), synced: info.Size(), written: written}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process is fetching it: %w", err), f.Close())
	}
	if p.size > want.Size {
		err = p.restart()
	}
	if err == nil && want.Size > p.size {
		err = reserve(f, want.Size, spare)
	}
	if err == nil {
		_, err = f.Seek(p.size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, p.leave(err))
	}
	return p, nil
}

// reserve takes the room for a file of that size, which keeps its own, if that
// leaves spare bytes.
func reserve(f *os.File, size, spare int64) error {
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) { // the runtime's own signals
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // this file system tells when it is full, no sooner
	}
	var disk unix.Statfs_t
	if err == nil {
		err = unix.Fstatfs(int(f.Fd()), &disk)
	}
	if err == nil && uint64(disk.Bavail)*uint64(disk.Bsize) < uint64(spare) {
		err = unix.ENOSPC
	}
	if err != nil {
		return fmt.Errorf("room for %d bytes, and %d to spare: %w", size, spare, err)
	}
	return nil
}

func (p *part) write(b []byte) error {
	n, err := p.file.Write(b)
	p.size += int64(n)
	p.written.Add(int64(n))
	if err == nil && p.size-p.synced >= syncBytes {
		p.synced = p.size
		err = p.file.Sync()
	}
	return err
}

// verify reads it back, from the disk, and leaves it at its beginning.
func (p *part) verify(ctx context.Context) error {
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(reader{ctx, p.file}, p.want.Size))
	switch {
	case err != nil:
		return err
	case n != p.want.Size || [sha256.Size]byte(h.Sum(nil)) != p.want.SHA256:
		return ErrDigest
	}
	_, err = p.file.Seek(0, io.SeekStart)
	return err
}

// restart forgets all that has come.
func (p *part) restart() error {
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	p.size, p.synced = 0, 0
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

// leave closes it after an error, and removes it when it is wrong, the disk is
// full or nothing came.
func (p *part) leave(because error) error {
	var err error
	if p.size == 0 || errors.Is(because, ErrDigest) || isFull(because) {
		if err = p.dir.Remove(partName(p.want.SHA256)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, p.file.Close())
}

// A reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}
