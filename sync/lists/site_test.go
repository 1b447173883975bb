package lists_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// aWorld is that of all tests, each of which has a copy.
var aWorld *world.World

// TestMain makes the world outside of bubbles, where it is another year.
func TestMain(m *testing.M) {
	var err error
	if aWorld, err = world.New(time.Now()); err != nil {
		fmt.Println("making a world:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A site is a hub with its folder behind a web server, and a terminal that
// follows it.
type site struct {
	world *world.World // a copy
	hub   *world.Published
	rows  []whitelist.Listed

	server  *httptest.Server
	handler atomic.Pointer[http.HandlerFunc] // nil: the folder
	asked   sync.Mutex
	paths   []string // that the server was asked for

	first []byte // the head of list 1

	state string
	store *listdb.Store
	*lists.Updater
}

// order is the number of a row; row 0 is on every list.
func order(i int) string { return fmt.Sprintf("ORDER-%04d", i) }

// newSite has a web server before the hub's folder; trust is whom the terminal
// trusts, nil for the world's list key.
func newSite(t *testing.T, trust *roles.Trust) *site {
	t.Helper()
	s := newQuietSite(t, trust)
	folder := http.FileServerFS(os.DirFS(s.hub.Dir))
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.asked.Lock()
		s.paths = append(s.paths, r.URL.Path)
		s.asked.Unlock()
		if h := s.handler.Load(); h != nil {
			(*h)(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/octet-stream")
		folder.ServeHTTP(rw, r)
	}))
	t.Cleanup(s.server.Close)
	s.Updater = s.from(t, s.server.URL, nil)
	return s
}

// newQuietSite has no server, and so can be in a bubble of synctest.
func newQuietSite(t *testing.T, trust *roles.Trust) *site {
	t.Helper()
	w := *aWorld
	s := &site{world: &w, state: t.TempDir()}
	s.hub = s.world.Publish(t.TempDir())
	for i := range 50 {
		row, err := w.Order(order(i), fmt.Sprint("ticket-", i))
		if err != nil {
			t.Fatal(err)
		}
		s.rows = append(s.rows, row)
	}
	if trust == nil {
		keys, err := w.ListKeys()
		if err != nil {
			t.Fatal(err)
		}
		trust = &roles.Trust{Pinned: keys}
	}
	var err error
	if s.store, err = listdb.Open(listdb.Config{Dir: s.state, Scope: world.Scope, Hierarchy: whitelist.Test, Trust: *trust, ScopeKey: w.ScopeKey}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// from is an updater of the site with another source.
func (s *site) from(t *testing.T, from string, change func(*lists.Config, *fetch.Options)) *lists.Updater {
	t.Helper()
	var opt fetch.Options
	if s.server != nil {
		opt.Roots = x509.NewCertPool()
		opt.Roots.AddCert(s.server.Certificate())
	}
	cfg := lists.Config{From: from, Store: s.store, State: s.state, Terminal: world.Terminal}
	if change != nil {
		change(&cfg, &opt)
	}
	var err error
	if cfg.Source, err = fetch.New(from, opt); err != nil {
		t.Fatal(err)
	}
	u, err := lists.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// publish publishes rows under a number.
func (s *site) publish(t *testing.T, seq uint64, rows []whitelist.Listed, change func(*whitelist.Manifest)) whitelist.Manifest {
	t.Helper()
	s.world.Manifest.Seq = seq
	m, err := s.hub.List(false, change, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// revoking are the site's rows with some of them revoked.
func (s *site) revoking(which ...int) []whitelist.Listed {
	rows := slices.Clone(s.rows)
	for _, i := range which {
		rows[i].Row.Status = whitelist.Revoked
	}
	return rows
}

// brings makes a round that has to bring a list.
func (s *site) brings(t *testing.T, seq uint64, by lists.Way) lists.Round {
	t.Helper()
	r := s.Round(t.Context())
	if r.Err != nil || r.Came != by || !r.Contact {
		t.Fatalf("round: %s, want a list by %s", said(r), by)
	}
	s.inForce(t, seq)
	return r
}

func (s *site) inForce(t *testing.T, seq uint64) {
	t.Helper()
	view, err := s.store.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	if got := view.Manifest().Seq; got != seq {
		t.Errorf("list %d is in force, want %d", got, seq)
	}
}

// status is the row of an order.
func (s *site) status(t *testing.T, i int) whitelist.Status {
	t.Helper()
	row, err := s.lookup(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	return row.Status
}

func (s *site) lookup(ctx context.Context, i int) (whitelist.Row, error) {
	view, err := s.store.Current()
	if err != nil {
		return whitelist.Row{}, err
	}
	defer view.Release()
	return view.Lookup(ctx, s.rows[i].Head)
}

// cardID is the pseudonym of an order.
func (s *site) cardID(t *testing.T, i int) cardid.CardID {
	t.Helper()
	return s.world.ScopeKey.ID(s.rows[i].Head)
}

// taps looks somebody up, as taps do, until the test ends: each has to succeed.
func (s *site) taps(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for ; ctx.Err() == nil; n++ {
			if _, err := s.lookup(context.WithoutCancel(ctx), 0); err != nil {
				t.Errorf("tap %d: %v", n, err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() {
		stop()
		if wg.Wait(); n == 0 {
			t.Error("nobody tapped")
		}
	})
}

// answer has the server answer itself; nil is from the folder again.
func (s *site) answer(h http.HandlerFunc) {
	if h == nil {
		s.handler.Store(nil)
		return
	}
	s.handler.Store(&h)
}

// fetched are the paths that were asked for since the last call.
func (s *site) fetched() []string {
	s.asked.Lock()
	defer s.asked.Unlock()
	paths := s.paths
	s.paths = nil
	return paths
}

// file is a path below the hub's folder.
func (s *site) file(name string) string { return filepath.Join(s.hub.Dir, name) }

// edit changes a published file.
func (s *site) edit(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(s.file(name))
	if err == nil {
		err = errors.Join(os.WriteFile(s.file(name), change(b), 0o600), os.Chtimes(s.file(name), time.Time{}, time.Now().Add(time.Minute)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// said is a round in short.
func said(r lists.Round) string {
	return fmt.Sprintf("contact %v, came %q, deltas %d, bytes %d, alarm %v, detour %v, error %v", r.Contact, r.Came, r.Deltas, r.Received, r.Alarm, r.Detour, r.Err)
}
