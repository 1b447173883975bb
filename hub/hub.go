// Package hub serves what a hub publishes (package publish) over HTTPS: the
// files of one folder, and nothing else. docs/list-distribution.md describes them.
//
// It promises:
//
//   - Nothing outside that folder is read, and nothing in it whose name is not one
//     of the published kinds. There are no listings.
//   - A file that is named by its digest has the digest as its ETag and may be
//     kept for ever; every other is asked for again each time.
//   - Whoever reads slowly, sends slowly or comes a hundred times at once costs a
//     bounded amount, and nobody else their answer.
//
// Trust is none of its business: every file is signed, or named by something
// that is. Any other web server can serve the folder.
package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxSmall bounds the files that are read whole to be answered, in bytes: a
// manifest with its delegation has at most 80 KiB.
const maxSmall = 256 << 10

// A Handler answers GET and HEAD for the files of a folder. Make one with
// NewHandler.
type Handler struct {
	root   *os.Root
	health func() error

	mu        sync.Mutex
	manifests map[string]small // by path, at most maxManifests
}

// maxManifests bounds the manifests that are held in memory.
const maxManifests = 1024

// small is a file that was read whole.
type small struct {
	info    os.FileInfo
	content string
	etag    string
}

// NewHandler serves the files below root, which stays open as long as the
// handler is used. health says at /healthz what is wrong with the hub; nil is
// never anything.
func NewHandler(root *os.Root, health func() error) *Handler {
	return &Handler{root: root, health: health, manifests: make(map[string]small)}
}

// The published kinds, below the folder of a scope. The names of folders and of
// files for one terminal are those of package filename.
var (
	addressed = regexp.MustCompile(`^` + plain + `/(?:snapshot|delta/[1-9][0-9]{0,19}-[1-9][0-9]{0,19})/([0-9a-f]{64})$`)
	changing  = regexp.MustCompile(`^` + plain + `/(?:manifest|(?:lease|commands)/` + plain + `)$`)
)

const plain = `[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}`

// Cache headers (RFC 9111 §5.2.2, RFC 8246).
const (
	forEver   = "public, max-age=31536000, immutable"
	askAgain  = "no-cache"
	octets    = "application/octet-stream"
	healthURL = "/healthz"
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", askAgain)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == healthURL {
		h.serveHealth(w)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if m := addressed.FindStringSubmatch(name); m != nil {
		h.serveAddressed(w, r, name, m[1])
		return
	}
	if changing.MatchString(name) {
		h.serveChanging(w, r, name)
		return
	}
	http.NotFound(w, r)
}

func (h *Handler) serveHealth(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if h.health != nil {
		if err := h.health(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

func (h *Handler) serveAddressed(w http.ResponseWriter, r *http.Request, name, digest string) {
	f, _, err := h.open(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close() // only read
	w.Header().Set("Content-Type", octets)
	w.Header().Set("Cache-Control", forEver)
	w.Header().Set("ETag", `"`+digest+`"`)
	// Without a time of change: that of the file says nothing about its content.
	http.ServeContent(newPaced(w), r, "", time.Time{}, f)
}

func (h *Handler) serveChanging(w http.ResponseWriter, r *http.Request, name string) {
	s, err := h.small(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", octets)
	w.Header().Set("ETag", s.etag)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(s.content))
}

// open opens a regular file. One that would block, such as a pipe, is none.
func (h *Handler) open(name string) (*os.File, os.FileInfo, error) {
	f, err := h.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// small reads a file that is replaced as a whole, by rename. Manifests are asked
// for by every terminal once a minute: they are held as long as the file is the
// same.
func (h *Handler) small(name string) (small, error) {
	held := strings.HasSuffix(name, "/manifest")
	if held {
		info, err := h.root.Stat(name)
		if err != nil {
			return small{}, err
		}
		h.mu.Lock()
		s, ok := h.manifests[name]
		h.mu.Unlock()
		if ok && os.SameFile(s.info, info) && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) {
			return s, nil
		}
	}
	f, info, err := h.open(name)
	if err != nil {
		return small{}, err
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err != nil {
		return small{}, err
	}
	if len(b) > maxSmall {
		return small{}, fmt.Errorf("%s has more than %d bytes", name, maxSmall)
	}
	sum := sha256.Sum256(b)
	s := small{info, string(b), `"` + hex.EncodeToString(sum[:]) + `"`}
	if held {
		h.mu.Lock()
		if len(h.manifests) >= maxManifests {
			clear(h.manifests)
		}
		h.manifests[name] = s
		h.mu.Unlock()
	}
	return s, nil
}
