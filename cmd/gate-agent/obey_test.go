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
	"slices"
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
	"github.com/gate-agent/gate-agent/sync/rescue"
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

// changing is a fleet whose hub has commanded a change of scope, and never sends the
// list of that.
func changing(t *testing.T, leased time.Duration) *fleet {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().Add(-time.Minute), time.Now().Add(leased))
	f.publish(hall)
	f.lease(hall, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	silent := "/" + hall + "/snapshot/"
	f.silent.Store(&silent)
	f.start()
	f.command(command.Command{Action: command.ChangeScope, NewScope: hall})
	f.follow()
	f.until("the list of the new scope is asked for", func() bool {
		asked := false
		f.asked.Range(func(path, _ any) bool { asked = asked || strings.HasPrefix(path.(string), silent); return true })
		return asked
	})
	return f
}

// A hub that is slow with something else does not put off the end of a lease.
func TestLeaseEndsWhileAChangeOfScopeWaitsForItsList(t *testing.T) {
	f := changing(t, 5*time.Second)
	f.until("the lease ends", f.keyless)
	if _, err := os.Stat(f.c.leasePath()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file is still there: %v", err)
	}
}

func TestWipeDoesNotWaitForAChangeOfScope(t *testing.T) {
	f := changing(t, time.Hour)
	_, to, err := rescue.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	f.command(command.Command{Action: command.Wipe, RescueKey: to})
	f.until("the wipe begins", func() bool { return f.c.memory.State().Wiped.Number == 2 })
	if err := <-f.why; !errors.Is(err, errRestart) {
		t.Errorf("the run ends by %v", err)
	}
}

// A scope that a terminal is moved to has what was seen there from the first second:
// neither an older lease nor an older delegation comes after it.
func TestScopeThatWasPreparedIsRemembered(t *testing.T) {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	f.version = 4
	f.publish(hall)
	issued := time.Now().Add(-time.Minute).Truncate(time.Second)
	f.lease(hall, issued, time.Now().Add(time.Hour))
	f.version = 1
	f.start()
	f.command(command.Command{Action: command.ChangeScope, NewScope: hall})
	f.follow()
	if err := <-f.why; !errors.Is(err, errRestart) {
		t.Fatalf("the run ends by %v", err)
	}
	if s := f.c.memory.State(); s.Moved.To != hall || s.Of(hall).Delegation != 4 || !s.Of(hall).Lease.Equal(issued) {
		t.Errorf("%+v", s)
	}
}

// The root does not delegate a scope that nobody but the hub has heard of.
func TestScopeThatTheRootDoesNotDelegateIsNotTaken(t *testing.T) {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	f.publish(hall)
	right := f.key
	_, f.key, _ = ed25519.GenerateKey(rand.Reader)
	f.lease(hall, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	f.key = right
	f.start()
	f.command(command.Command{Action: command.ChangeScope, NewScope: hall})
	f.follow()
	f.until("it is refused", func() bool { return strings.Contains(f.said.String(), roles.ErrThreshold.Error()) })
	if s := f.c.memory.State(); s.Moved.Number != 0 || s.Of(world.Scope).Number != 0 {
		t.Errorf("%+v", s)
	}
}

// A clock that is wrong and ahead ends the lease and lets commands expire. When staff has
// set it right nobody has to publish anything anew.
func TestLeaseAndCommandsComeBackWhenTheClockIsSetRight(t *testing.T) {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	f.start()
	set := func(ahead time.Duration) { // and accepted by staff
		at := time.Now().Add(ahead)
		f.o.clock = newSureClock(time.Time{}, func() time.Time { return at }, func() time.Time { return time.Time{} }, func() time.Duration { return 0 })
	}
	set(0)
	if err := f.o.poll(t.Context()); err != nil || f.keyless() {
		t.Fatalf("%v\n%s", err, f.said)
	}
	f.command(command.Command{Action: command.OutOfOrder})
	set(9 * time.Hour)
	f.o.keeper.look()
	if !f.keyless() {
		t.Error("the lease has not ended")
	}
	if err := f.o.poll(t.Context()); err != nil || f.c.memory.State().Halted.Number != 0 {
		t.Errorf("%v, %+v", err, f.c.memory.State())
	}
	set(0)
	if err := f.o.poll(t.Context()); err != nil {
		t.Error(err)
	}
	if f.keyless() || f.c.memory.State().Halted.Number != 1 {
		t.Errorf("no scope key: %t, %+v\n%s", f.keyless(), f.c.memory.State(), f.said)
	}
}

// A hub whose clock was a month ahead has issued a lease; those that it issues with a
// right clock are taken over all the same.
func TestLeaseFromTheFutureDoesNotShutOutThoseThatFollow(t *testing.T) {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().AddDate(0, 1, 0), time.Now().AddDate(0, 2, 0))
	f.start()
	if err := f.o.poll(t.Context()); err != nil || f.keyless() {
		t.Fatalf("%v\n%s", err, f.said)
	}
	later := time.Now().AddDate(0, 0, 3)
	f.o.clock = newSureClock(time.Time{}, func() time.Time { return later }, func() time.Time { return time.Time{} }, func() time.Duration { return 0 })
	issued := later.Truncate(time.Second)
	f.lease(world.Scope, issued, issued.AddDate(0, 0, 7))
	f.o.leased = time.Time{}
	if err := f.o.pollLease(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.o.keeper.held.IssuedAt; !got.Equal(issued) {
		t.Errorf("held is that of %s", got)
	}
}

// The root has said something newer, of which commands tell first: the lease that is held
// was valid when it came, also for a terminal that starts again.
func TestLeaseOutlivesItsDelegation(t *testing.T) {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	f.start()
	if err := f.o.poll(t.Context()); err != nil || f.keyless() {
		t.Fatalf("%v\n%s", err, f.said)
	}
	f.version = 2
	f.command(command.Command{Action: command.InOrder})
	f.o.leased = time.Time{}
	if err := f.o.poll(t.Context()); err != nil || f.o.lost != "" {
		t.Errorf("%v, %s", err, f.o.lost)
	}
	if s := f.c.memory.State(); s.Of(world.Scope).Delegation != 2 {
		t.Fatalf("%+v", s)
	}
	if err := f.o.keeper.begin(); err != nil || f.keyless() {
		t.Errorf("after a restart: %v\n%s", err, f.said)
	}
	// Another one under the old delegation is refused all the same.
	f.version = 1
	f.lease(world.Scope, time.Now(), time.Now().Add(time.Hour))
	if err := f.o.pollLease(t.Context()); err != nil {
		t.Errorf("within an hour nobody asks: %v", err)
	}
	f.o.leased = time.Time{}
	if err := f.o.pollLease(t.Context()); !errors.Is(err, roles.ErrOlder) {
		t.Errorf("%v", err)
	}
}

// A lease that is not there is no reason to look less often for a wipe; a hub that asks
// for peace gets it.
func TestHubIsLeftAloneWhenItAsksForItAndOnlyThen(t *testing.T) {
	f := newFleet(t)
	f.start()
	if err := f.o.poll(t.Context()); err != nil || !strings.Contains(f.said.String(), "404") {
		t.Errorf("no lease: %v\n%s", err, f.said)
	}
	f.busy.Store(true)
	f.follow()
	f.until("the hub is asked", func() bool { return strings.Contains(f.said.String(), "503") })
	f.asked.Clear()
	time.Sleep(5 * time.Second) // intervals; the first random wait alone is shorter
	var asked []string
	f.asked.Range(func(path, _ any) bool { asked = append(asked, path.(string)); return true })
	if len(asked) > 0 {
		t.Errorf("asked again for %q", asked)
	}
}

// What opens a lease may be late, and the hub away: the lease that is stored is looked at
// again.
func TestStoredLeaseIsTakenOverWhenItCanBeOpenedAtLast(t *testing.T) {
	f := newFleet(t)
	f.lease(world.Scope, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	f.start()
	if err := f.o.poll(t.Context()); err != nil || f.keyless() {
		t.Fatalf("%v\n%s", err, f.said)
	}
	path := f.c.deliveryPath()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := f.o.keeper.begin(); err != nil || !f.keyless() {
		t.Fatalf("without its delivery key: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	f.busy.Store(true)
	f.o.poll(t.Context())
	if f.keyless() {
		t.Errorf("the hub is away, and it is not taken over:\n%s", f.said)
	}
	if said := f.said.String(); strings.Contains(said, string(f.w.ScopeSecret)) || slices.ContainsFunc([]string{"AGE-SECRET", "PRIVATE KEY"}, func(s string) bool { return strings.Contains(said, s) }) {
		t.Error("the log holds a secret")
	}
}

// Why no list comes is asked most where there is no lease.
func TestRoundsAreToldWithoutALease(t *testing.T) {
	f := newFleet(t)
	cmd := rootCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"sync", "status", "--config", f.file, "--json"})
	if err := cmd.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), errNoLease.Error()) {
		t.Errorf("%v\n%s", err, &out)
	}
}
