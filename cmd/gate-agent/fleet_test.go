package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/whitelist"
)

const hall = "hall" // another scope than the world's

// A fleet is a web server with the folders of scopes, under a root of one key, and a
// terminal that follows it.
type fleet struct {
	t       *testing.T
	w       *world.World
	dir     string
	key     ed25519.PrivateKey // root, list and first person
	others  [3]ed25519.PrivateKey
	version uint64 // of delegations
	number  uint64 // of the last command
	asked   sync.Map
	silent  atomic.Pointer[string] // paths that begin so are never answered
	busy    atomic.Bool            // every answer is 503

	file string // the configuration
	c    *config
	wall time.Time // what the terminal's clock shows, if not zero
	o    *operator
	list *listSwitch
	said *lockedBuffer
	why  chan error // why the run is to end
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), version: 1, said: new(lockedBuffer), why: make(chan error, 1)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	f.w, err = world.New(time.Now())
	must(err)
	for _, k := range []*ed25519.PrivateKey{&f.key, &f.others[0], &f.others[1], &f.others[2]} {
		_, *k, err = ed25519.GenerateKey(rand.Reader)
		must(err)
	}
	files := http.FileServer(http.Dir(f.dir))
	ending := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Store(r.URL.Path, true)
		if s := f.silent.Load(); s != nil && strings.HasPrefix(r.URL.Path, *s) {
			select {
			case <-ending:
			case <-r.Context().Done():
			}
			return
		}
		if f.busy.Load() {
			w.Header().Set("Retry-After", "1200")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ending) })

	list, err := f.w.List()
	must(err)
	file, err := f.w.Install(t.TempDir(), `["tap-use"]`, list)
	must(err)
	root, err := sign1.MarshalPublicKey(f.key.Public())
	must(err)
	text, err := os.ReadFile(file)
	must(err)
	text = bytes.Replace(text, []byte(`keys = ["list.pub.pem"]`), fmt.Appendf(nil, "source = \"%s/{scope}\"\nevery = \"1s\"\n\n[root]\nkeys = [\"root.pem\"]\nthreshold = 1", server.URL), 1)
	text = bytes.Replace(text, []byte(`file    = "scope.key"`), []byte("lease = true"), 1)
	must(errors.Join(os.WriteFile(file, text, 0o600), os.WriteFile(filepath.Join(filepath.Dir(file), "root.pem"), root, 0o600)))
	f.file = file
	f.c, err = loadConfig(file)
	must(err)
	t.Cleanup(func() { f.c.keys.close() })
	_, _, err = f.c.makeDeliveryKey()
	must(err)
	return f
}

func (f *fleet) delegation(scope string) []byte {
	f.t.Helper()
	from, to := time.Now().AddDate(0, 0, -1), time.Now().AddDate(0, 1, 0)
	d := roles.Delegation{Scope: scope, Hierarchy: whitelist.Test, Version: f.version, IssuedAt: from, NotAfter: to}
	for i, role := range []sign1.Role{sign1.RoleList, sign1.RoleLease, sign1.RoleCommand, sign1.RoleCommand} {
		key := append([]ed25519.PrivateKey{f.key}, f.others[:]...)[i]
		d.Grants = append(d.Grants, roles.Grant{Key: key.Public(), Role: role, NotBefore: from, NotAfter: to})
	}
	b, err := d.Sign(nil, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *fleet) write(scope, name string, b []byte) {
	f.t.Helper()
	path := filepath.Join(f.dir, filename.Of(scope), name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path)); err != nil {
		f.t.Fatal(err)
	}
}

// publish publishes a list of a scope, with nobody on it.
func (f *fleet) publish(scope string) {
	f.t.Helper()
	w := *f.w
	w.Manifest.Scope = scope
	p := w.Publish(filepath.Join(f.dir, filename.Of(scope)))
	p.Key, p.Delegation = f.key, f.delegation(scope)
	order, err := w.Order("ABC12", "ticket")
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := p.List(false, nil, order); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) lease(scope string, issued, end time.Time) {
	f.t.Helper()
	k, err := f.c.openDeliveryKey()
	if err != nil {
		f.t.Fatal(err)
	}
	public, err := k.Public()
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := lease.Issue(f.others[0], f.delegation(scope), public, f.w.ScopeSecret, lease.Terms{
		Scope: scope, Hierarchy: whitelist.Test, Terminal: world.Terminal, IssuedAt: issued.Truncate(time.Second), NotAfter: end.Truncate(time.Second),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(scope, lease.File(world.Terminal), b)
}

func (f *fleet) command(c command.Command) {
	f.t.Helper()
	f.number++
	c.Scope, c.Hierarchy, c.Terminal, c.Number = world.Scope, whitelist.Test, world.Terminal, f.number
	c.IssuedAt, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	item, err := c.Sign(f.others[1])
	if err == nil && c.Action == command.Wipe {
		item, err = command.Countersign(item, f.others[2])
	}
	if err != nil {
		f.t.Fatal(err)
	}
	name := command.File(world.Terminal)
	old, _ := os.ReadFile(filepath.Join(f.dir, filename.Of(world.Scope), name))
	b, err := command.Append(old, f.delegation(world.Scope), item, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(world.Scope, name, b)
}

// start makes the operator of a running agent, which does nothing yet.
func (f *fleet) start() {
	f.t.Helper()
	now := func() time.Time {
		if f.wall.IsZero() {
			return time.Now()
		}
		return f.wall
	}
	record, err := f.c.openJournal(now)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { record.Close() })
	source, err := f.c.openSource()
	if err != nil {
		f.t.Fatal(err)
	}
	f.list = newListSwitch()
	f.t.Cleanup(func() { f.list.Close() })
	if err := f.c.openLists(f.list); err != nil {
		f.t.Fatal(err)
	}
	f.o, err = f.c.newOperator(slog.New(slog.NewTextHandler(f.said, nil)), source, f.list, record, nil, now, func(err error) { f.why <- err })
	if err != nil {
		f.t.Fatal(err)
	}
}

// follow has it run until the test ends.
func (f *fleet) follow() {
	ctx, stop := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.o.follow(ctx)
	}()
	f.t.Cleanup(func() { stop(); <-done })
}

func (f *fleet) until(what string, is func() bool) {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("not within a minute: %s\n%s", what, f.said)
		}
	}
}

func (f *fleet) keyless() bool {
	_, err := f.list.get()
	return errors.Is(err, errNoScopeKey)
}
