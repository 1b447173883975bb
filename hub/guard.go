package hub

import (
	"net/http"
	"strings"

	"github.com/gate-agent/gate-agent/internal/filename"
)

// A Guard lets a terminal that shows a certificate have the files of its own scope, and
// of those for one terminal its own; nothing of others.
type Guard struct {
	Files http.Handler

	// Terminal is which one a request comes from. shown is whether it has shown a
	// certificate; the error is why it is nobody's, and goes to nobody.
	Terminal func(*http.Request) (scope, terminal string, shown bool, err error)

	// Required refuses those that show none, too. Else they have what any web server
	// would give them: every file is signed or sealed.
	Required bool
}

func (g Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != healthURL && !g.may(r) {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "not for this terminal: is it enrolled for this scope, and in force?", http.StatusForbidden)
		return
	}
	g.Files.ServeHTTP(w, r)
}

func (g Guard) may(r *http.Request) bool {
	scope, terminal, shown, err := g.Terminal(r)
	if !shown {
		return !g.Required
	}
	if err != nil {
		return false
	}
	folder, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if folder != filename.Of(scope) {
		return false
	}
	kind, of, one := strings.Cut(name, "/")
	return !one || kind != "lease" && kind != "commands" || of == filename.Of(terminal)
}
