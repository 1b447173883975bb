package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/internal/nginx"
	"github.com/gate-agent/gate-agent/internal/world"
)

// A carrier brings what a hub publishes to terminals.
type carrier interface {
	source() (url, ca string)
	publish() // what has changed at the hub
	away()
	back()
}

// A served hub serves its files itself, and publishes what changes.
type served struct{ *hub }

func serve(h *hub) carrier {
	h.serve()
	return served{h}
}

func (c served) source() (url, ca string) {
	return "https://" + c.address + "/" + world.Scope, c.path("tls/ca.pem")
}
func (c served) publish() {}
func (c served) away()    { c.stop() }
func (c served) back()    { c.serve() }

// A web server serves the files of a hub that publishes by hand.
type webServer struct {
	*hub
	*nginx.Server
}

// serveByNginx has the sample of the hub's page serve the folder.
func serveByNginx(h *hub) carrier {
	h.t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "hub.md"))
	if err != nil {
		h.t.Fatal(err)
	}
	return webServer{h, nginx.Sample(h.t, string(page), h.files())}
}

func (c webServer) source() (url, ca string) { return c.URL + "/" + world.Scope, c.CA }
func (c webServer) publish()                 { c.publishes() }
func (c webServer) away()                    { c.Stop(c.t) }
func (c webServer) back()                    { c.Start(c.t) }

// A stick has a copy of what a hub has published, and is carried to the terminal.
type stick struct {
	*hub
	dir string // where it is plugged in
}

func carryByStick(h *hub) carrier { return stick{h, filepath.Join(shortDir(h.t), "stick")} }

func (c stick) source() (url, ca string) { return "file:" + c.dir, "" }

func (c stick) publish() {
	c.t.Helper()
	c.publishes()
	copied := c.dir + ".copied"
	err := os.CopyFS(copied, os.DirFS(filepath.Join(c.files(), world.Scope)))
	if err = errors.Join(err, os.RemoveAll(c.dir), os.Rename(copied, c.dir)); err != nil {
		c.t.Fatal(err)
	}
}

func (c stick) away() { // somebody pulls it out
	c.t.Helper()
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Fatal(err)
	}
}

func (c stick) back() { c.publish() }

// What is common to all ways from a hub to a gate, and how they differ.
var shapes = []struct {
	name    string
	db      func(t *testing.T) []string // arguments of gate-hub init
	rooted  bool
	carrier func(*hub) carrier
	expired string // the policy of a list that has ended
}{
	{"one machine", func(*testing.T) []string { return nil }, false, serve, "deny"},
	{"PostgreSQL, a root and nginx", func(t *testing.T) []string { return []string{"--db", databases.Database(t)} }, true, serveByNginx, "warn"},
	{"a root and a stick", func(*testing.T) []string { return nil }, true, carryByStick, "attend"},
}
