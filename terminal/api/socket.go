package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the name of the socket in the state folder.
const SocketName = "agent.sock"

// maxPath is the longest path of a Unix socket, in bytes (unix(7): 108, with the
// zero that ends it).
const maxPath = 107

// CheckPath reports whether the path of a socket is one that the kernel takes.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("the socket %s has a path of %d bytes, at most %d: choose a state folder with a shorter path", path, len(path), maxPath)
	}
	return nil
}

// Listen makes the socket at path. It belongs to whom its folder belongs, and
// nobody else gets to it. A socket that an agent left behind is replaced; one at
// which an agent answers is not, and neither is anything else of that name.
func Listen(path string) (net.Listener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := checkFree(path); err != nil {
		return nil, err
	}
	// It gets its name when its mode is right. The draft's is no longer than it.
	draft := filepath.Join(filepath.Dir(path), ".sock.new")
	if err := os.Remove(draft); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: draft, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(own(draft), os.Rename(draft, path)); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(draft))
	}
	return socket{l, path}, nil
}

// checkFree fails unless there is nothing at path, or a socket at which nobody
// listens.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is no socket: it is in the way, remove it", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil // its agent is gone
	}
	if err != nil {
		return fmt.Errorf("asking who listens at %s: %w", path, err)
	}
	return errors.Join(fmt.Errorf("an agent answers at %s: stop it first, two cannot serve one gate", path), c.Close())
}

// own gives the socket to the owner of its folder, and to nobody else.
func own(path string) error {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid) // always so on Linux
	if owner != os.Geteuid() {
		if err := os.Chown(path, owner, -1); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o600)
}

// A socket takes its name away with it.
type socket struct {
	*net.UnixListener
	path string
}

func (s socket) Close() error {
	err := os.Remove(s.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(s.UnixListener.Close(), err)
}

// stopping is how long requests that are being served may take to end.
const stopping = 2 * time.Second

// Serve answers at l until ctx ends, and then ends what is being asked: a lane
// that ends after it is opened by nobody.
func Serve(ctx context.Context, server *http.Server, l net.Listener) error {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	server.BaseContext = func(net.Listener) context.Context { return requests }
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // Shutdown ends it
	select {
	case err := <-served:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	end()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping)
	defer cancel()
	err := server.Shutdown(bound)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
