// Package fetch brings files that others have signed, from a web server, a
// folder or a stick. It trusts nothing that it carries: whoever receives a
// file verifies it. What it promises is that no server, however hostile or
// slow, costs more than a bounded amount of time, memory and disk.
//
// A [Source] is a folder of files, by URL or path. Small files are brought
// whole and conditionally ([Source.Get]), big ones, whose digest and size a
// verified small one has named, into a folder, resumed where they broke off
// ([Source.Download]).
//
// # Over https
//
// HTTP/1.1 over TLS 1.2 or newer (RFC 9110, RFC 9112), against the system's or
// the given certification authorities. Plain http is for a server on this
// machine only: lists are signed, but in between one could read which
// terminals there are, and withhold lists until they are stale. At most 3
// redirects, to https. No cookies and no compression. No proxy: what a
// terminal connects to stands in its configuration, not in an environment; a
// site without a way out puts a web server with the files inside.
//
//	a small file       30 s in all, at most as long as the caller says
//	a big file         64 KiB in every 30 s, or the attempt ends;
//	                   5 attempts in a call, then the caller's next one resumes
//	connect, TLS       10 s each
//	response header    16 KiB
//	Retry-After        told to the caller, at most an hour
//
// # From a medium
//
// Only regular files below the folder, whatever links lie there. The medium is
// open for no longer than a call, so that it can be pulled out.
package fetch

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const smallTime = 30 * time.Second // for a small file, in all

// ErrUnchanged says that the file is the one that was kept before.
var ErrUnchanged = errors.New("unchanged")

// Options of a source; the zero value is right for a terminal.
type Options struct {
	Roots       *x509.CertPool                                              // who vouches for web servers; nil is the system's
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error) // shown to a server that asks for one; nil is none

	UserAgent string // what web servers are told; "" is "gate-agent"

	// Spare is how many bytes a download leaves free on its disk, for what
	// cannot wait, such as a journal.
	Spare int64

	// Dial connects to web servers, nil over TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Rand is a random number in [0, n), nil of math/rand/v2.
	Rand func(n int64) int64
}

// A Source is a folder of files. It is safe for concurrent use.
type Source struct {
	origin origin
	rand   func(int64) int64
	spare  int64

	received, written atomic.Int64

	mu   sync.Mutex
	kept map[string]version // by name
	seen stamp              // of the one file, see Whole
}

// An origin is where files come from.
type origin interface {
	fmt.Stringer
	// get opens a small file, or returns ErrUnchanged when it can tell that it
	// has this version.
	get(ctx context.Context, name string, have version, max int64) (io.ReadCloser, version, error)
	// from opens a file of that size at an offset. Of the body, as many bytes
	// as skip come before the offset.
	from(ctx context.Context, name string, offset, size int64) (body io.ReadCloser, skip int64, err error)
	close()
}

// A version tells one content of a file from another. The zero value is none.
type version struct {
	etag, modified string // as the server wrote them
	digest         [sha256.Size]byte
}

// New returns the source at https://HOST/FOLDER or file:FOLDER; for file:FILE
// see [Source.Whole]. Nothing is opened yet.
func New(source string, opt Options) (*Source, error) {
	s := &Source{rand: opt.Rand, spare: max(0, opt.Spare), kept: map[string]version{}}
	if s.rand == nil {
		s.rand = rand.Int64N
	}
	if path, ok := strings.CutPrefix(source, "file:"); ok && strings.TrimPrefix(path, "//") != "" {
		s.origin = folder(strings.TrimPrefix(path, "//"))
		return s, nil
	}
	web, err := newWeb(source, opt)
	if err != nil {
		return nil, err
	}
	s.origin = web
	return s, nil
}

// Close gives up idle connections. The source can still be used.
func (s *Source) Close() { s.origin.close() }

// Counts are what a source has cost so far, in bytes.
type Counts struct {
	Received int64 // of bodies
	Written  int64 // to parts of downloads
}

func (s *Source) Counts() Counts { return Counts{s.received.Load(), s.written.Load()} }

// An Answer is a small file.
type Answer struct {
	Body []byte

	source  *Source
	name    string
	version version
}

// Keep says that this file need not be brought again until it changes: it was
// taken over, or refused, and will not become better. What failed for another
// reason, such as a full disk, is not kept.
func (a Answer) Keep() {
	a.source.mu.Lock()
	defer a.source.mu.Unlock()
	a.source.kept[a.name] = a.version
}

// Get brings a file of at most max bytes, or returns ErrUnchanged when it is
// the one that was kept: by its ETag, else by Last-Modified, and in any case
// by its bytes. Of a missing file the error is fs.ErrNotExist; a *StatusError
// may say when to ask again; an *Error has a hint for people.
func (s *Source) Get(ctx context.Context, name string, max int64) (Answer, error) {
	a, err := s.get(ctx, name, max)
	if err != nil && !errors.Is(err, ErrUnchanged) {
		err = fmt.Errorf("%s from %s: %w", name, s.origin, explain(err))
	}
	return a, err
}

func (s *Source) get(parent context.Context, name string, max int64) (Answer, error) {
	if err := checkName(name); err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeoutCause(parent, smallTime, fmt.Errorf("not whole after %v", smallTime))
	defer cancel()

	s.mu.Lock()
	have, known := s.kept[name]
	s.mu.Unlock()
	body, v, err := s.origin.get(ctx, name, have, max)
	if err != nil {
		return Answer{}, err
	}
	defer body.Close() // only read
	b, err := io.ReadAll(io.LimitReader(body, max+1))
	s.received.Add(int64(len(b)))
	switch {
	case ctx.Err() != nil:
		return Answer{}, context.Cause(ctx)
	case err != nil:
		return Answer{}, plain(err)
	case int64(len(b)) > max:
		return Answer{}, fmt.Errorf("more than %d bytes", max)
	case looksLikePage(b):
		return Answer{}, errPage()
	}
	v.digest = sha256.Sum256(b)
	a := Answer{Body: b, source: s, name: name, version: v}
	if known && v.digest == have.digest {
		a.Keep() // under its new validators
		return Answer{}, ErrUnchanged
	}
	return a, nil
}

// checkName refuses what is no plain path below the source.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' || r == '%' }) {
		return fmt.Errorf("%q is no name of a file", name)
	}
	return nil
}
