package hub

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// What one connection may cost.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second // of a whole request, which has no body
	idleTimeout   = 15 * time.Second // a terminal asks once a minute, and then for several files
	maxHeader     = 8 << 10          // bytes

	writeGrace = 30 * time.Second // and further time by the bytes that were taken:
	leastRate  = 4 << 10          // bytes a second
	paceEvery  = 256 << 10        // bytes between two looks at the clock

	stopTimeout = 10 * time.Second
)

// DefaultConnections is how many connections a server holds at once.
const DefaultConnections = 10000

// NewServer returns a server with the bounds of this package, for Serve.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeGrace, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
}

// Serve answers connections of l until ctx ends; then those under way have ten
// seconds. A server with a TLSConfig speaks HTTPS, without one plain HTTP. Of
// connections beyond most the kernel holds some, and they wait. l is closed.
func Serve(ctx context.Context, s *http.Server, l net.Listener, most int) error {
	l = &limited{Listener: l, room: make(chan struct{}, most), closed: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { // ends when s is shut down or closed, below
		if s.TLSConfig != nil {
			ended <- s.ServeTLS(l, "", "")
		} else {
			ended <- s.Serve(l)
		}
	}()
	select {
	case err := <-ended:
		return errors.Join(err, s.Close())
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := s.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close() // they resume elsewhere, or later
	}
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// limited accepts while there is room.
type limited struct {
	net.Listener
	room   chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &counted{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// ReadFrom lets the kernel send a file (sendfile) where the connection can.
func (c *counted) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// paced is a response that must be taken with at least leastRate, on the whole:
// a file of a gigabyte has its time, and whoever reads a byte a second has not.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	begun   time.Time
	written int64
}

func newPaced(w http.ResponseWriter) *paced {
	return &paced{ResponseWriter: w, control: http.NewResponseController(w), begun: time.Now()}
}

func (p *paced) extend() error {
	end := p.begun.Add(writeGrace + time.Duration(p.written/leastRate)*time.Second)
	if err := p.control.SetWriteDeadline(end); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (p *paced) Write(b []byte) (int, error) {
	if err := p.extend(); err != nil {
		return 0, err
	}
	n, err := p.ResponseWriter.Write(b)
	p.written += int64(n)
	return n, err
}

// ReadFrom is for io.Copy, and so for http.ServeContent.
func (p *paced) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		if err := p.extend(); err != nil {
			return n, err
		}
		some, err := io.CopyN(p.ResponseWriter, r, paceEvery)
		n += some
		p.written += some
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
