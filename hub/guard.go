package hub

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gate-agent/gate-agent/internal/filename"
)

// Why a request comes from no terminal that is known.
var (
	// ErrNoCertificate: it has shown none.
	ErrNoCertificate = errors.New("no certificate of a terminal was shown")
	// ErrUnknownTerminal: it has shown one, and that is nobody's, or nobody's any more.
	ErrUnknownTerminal = errors.New("no terminal in force has this certificate")
)

// A Guard lets a terminal that shows a certificate have the files of its own scope, and
// of those for one terminal its own; nothing of others.
type Guard struct {
	Files http.Handler

	// Terminal is which one a request comes from. The error is ErrNoCertificate,
	// ErrUnknownTerminal, or why that cannot be found out now.
	Terminal func(*http.Request) (scope, terminal string, err error)

	// Required refuses those that show no certificate, too. Else they have what any web
	// server would give them: every file is signed or sealed.
	Required bool
}

func (g Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == healthURL {
		g.Files.ServeHTTP(w, r)
		return
	}
	scope, terminal, err := g.Terminal(r)
	switch {
	case err == nil && own(scope, terminal, r.URL.Path), errors.Is(err, ErrNoCertificate) && !g.Required:
		g.Files.ServeHTTP(w, r)
	case err == nil, errors.Is(err, ErrNoCertificate), errors.Is(err, ErrUnknownTerminal):
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "not for this terminal: is it enrolled for this scope, and in force?", http.StatusForbidden)
	default: // it is not refused: it shall come again
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Retry-After", "30")
		http.Error(w, "the hub cannot look terminals up now", http.StatusServiceUnavailable)
	}
}

// own is whether a path is of a scope, and of no other terminal in it.
func own(scope, terminal, path string) bool {
	folder, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if folder != filename.Of(scope) {
		return false
	}
	kind, of, one := strings.Cut(name, "/")
	return !one || kind != "lease" && kind != "commands" || of == filename.Of(terminal)
}
