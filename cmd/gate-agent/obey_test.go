package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/rescue"
)

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
	if err := f.o.poll(t.Context()); err != nil || f.keyless() {
		t.Fatalf("no lease to begin with: %v\n%s", err, f.said)
	}
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
	f := changing(t, 8*time.Second)
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
