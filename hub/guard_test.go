package hub

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gate-agent/gate-agent/internal/filename"
)

func TestWhoCannotBeLookedUpComesAgain(t *testing.T) {
	files := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "file") })
	for _, c := range []struct {
		name     string
		err      error
		required bool
		status   int
	}{
		{"a terminal", nil, true, http.StatusOK},
		{"nobody in particular", ErrNoCertificate, false, http.StatusOK},
		{"nobody, where a certificate is required", ErrNoCertificate, true, http.StatusForbidden},
		{"a stranger", fmt.Errorf("retired: %w", ErrUnknownTerminal), false, http.StatusForbidden},
		{"a terminal, and no registry", errors.New("the database is away"), false, http.StatusServiceUnavailable},
	} {
		g := Guard{Files: files, Required: c.required, Terminal: func(*http.Request) (string, string, error) { return "会場", "gate-1", c.err }}
		w := httptest.NewRecorder()
		path := "/~8c6b0b6d6b1d2b0c3d4e5f60718293a4/manifest" // of another scope, for those who are known
		if c.err == nil {
			path = "/" + filename.Of("会場") + "/manifest"
		}
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != c.status || c.status != http.StatusOK && w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d %v, want %d", c.name, w.Code, w.Header(), c.status)
		}
	}
}

// What is one's own is told by the names of files, which are not those of people.
func TestOwnFilesAreThoseOfTheOwnNames(t *testing.T) {
	hall, gate := filename.Of("会場"), filename.Of("1番")
	for path, want := range map[string]bool{
		"/" + hall + "/manifest": true, "/" + hall + "/lease/" + gate: true, "/" + hall + "/snapshot/00": true,
		"/会場/manifest": false, "/" + hall + "/lease/1番": false, "/" + hall + "/lease/": false, "/" + hall + "/lease/" + gate + "/": false,
		"/" + hall + "/commands/" + gate + "x": false, "/": false, "": false, "//" + hall + "/manifest": false,
	} {
		if got := own("会場", "1番", path); got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}
