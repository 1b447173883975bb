package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/rescue"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// An operator has a hub that publishes the folders of scopes, under a root of two keys,
// and two people with command keys.
type operator struct {
	t         *testing.T
	dir       string // of the folders
	root      [2]ed25519.PrivateKey
	list      ed25519.PrivateKey
	lease     ed25519.PrivateKey
	anna, ben ed25519.PrivateKey
	identity  string // of rescue files
	recipient string

	forger ed25519.PrivateKey // signs leases in the place of the right key, unless nil

	issued time.Time // of the last lease; a newer one is later
	number uint64    // of the last command
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{t: t, dir: t.TempDir()}
	for _, k := range []*ed25519.PrivateKey{&o.root[0], &o.root[1], &o.list, &o.lease, &o.anna, &o.ben} {
		var err error
		if _, *k, err = ed25519.GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if o.identity, o.recipient, err = rescue.NewIdentity(); err != nil {
		t.Fatal(err)
	}
	o.issued = time.Now().Add(-time.Hour).Truncate(time.Second)
	return o
}

func (o *operator) delegation(scope string) []byte {
	o.t.Helper()
	from, to := time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	d := roles.Delegation{Scope: scope, Hierarchy: whitelist.Test, Version: 1, IssuedAt: from, NotAfter: to}
	for _, g := range []struct {
		key  ed25519.PrivateKey
		role sign1.Role
	}{{o.list, sign1.RoleList}, {o.lease, sign1.RoleLease}, {o.anna, sign1.RoleCommand}, {o.ben, sign1.RoleCommand}} {
		d.Grants = append(d.Grants, roles.Grant{Key: g.key.Public(), Role: g.role, NotBefore: from, NotAfter: to})
	}
	var signed [][]byte
	for _, k := range o.root {
		s, err := d.Sign(nil, k)
		if err != nil {
			o.t.Fatal(err)
		}
		signed = append(signed, s)
	}
	b, err := roles.Join(signed)
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// publish publishes the town's list for a scope, under its own scope key.
func (o *operator) publish(scope string, secret []byte, seq uint64, rows []whitelist.Listed) {
	o.t.Helper()
	w := *theTown(o.t).World
	var err error
	if w.ScopeKey, err = cardid.NewScopeKey(secret); err != nil {
		o.t.Fatal(err)
	}
	w.Manifest.Scope, w.Manifest.Seq = scope, seq
	p := w.Publish(filepath.Join(o.dir, filename.Of(scope)))
	p.Key, p.Delegation = o.list, o.delegation(scope)
	if _, err := p.List(false, nil, rows...); err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) write(scope, name string, b []byte) {
	o.t.Helper()
	path := filepath.Join(o.dir, filename.Of(scope), name)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	err = errors.Join(err, os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path))
	if err != nil {
		o.t.Fatal(err)
	}
}

// issue leases a scope key to a terminal for so long.
func (o *operator) issue(s site, scope string, secret []byte, d time.Duration) {
	o.t.Helper()
	var key struct{ Public string }
	if err := json.Unmarshal([]byte(s.must(o.t, "key", "delivery", "--json")), &key); err != nil {
		o.t.Fatal(err)
	}
	public, err := lease.ParsePublic([]byte(key.Public))
	if err != nil {
		o.t.Fatal(err)
	}
	o.issued = o.issued.Add(time.Second)
	signer := o.lease
	if o.forger != nil {
		signer = o.forger
	}
	b, err := lease.Issue(signer, o.delegation(scope), public, secret, lease.Terms{
		Scope: scope, Hierarchy: whitelist.Test, Terminal: world.Terminal, IssuedAt: o.issued, NotAfter: time.Now().Add(d).Truncate(time.Second),
	})
	if err != nil {
		o.t.Fatal(err)
	}
	o.write(scope, lease.File(world.Terminal), b)
}

// command publishes a command, signed by these keys, behind the earlier ones.
func (o *operator) command(scope string, c command.Command, keys ...ed25519.PrivateKey) (file []byte) {
	o.t.Helper()
	o.number++
	c.Scope, c.Hierarchy, c.Terminal, c.Number = scope, whitelist.Test, world.Terminal, o.number
	c.IssuedAt, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	var all [][]byte
	for _, k := range keys {
		item, err := c.Sign(k)
		if err != nil {
			o.t.Fatal(err)
		}
		all = append(all, item)
	}
	item, err := command.Join(all...)
	if err != nil {
		o.t.Fatal(err)
	}
	name := command.File(world.Terminal)
	old, err := os.ReadFile(filepath.Join(o.dir, filename.Of(scope), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.t.Fatal(err)
	}
	if file, err = command.Append(old, o.delegation(scope), item, time.Now()); err != nil {
		o.t.Fatal(err)
	}
	o.write(scope, name, file)
	return file
}

func (o *operator) wipe() command.Command {
	return command.Command{Action: command.Wipe, RescueKey: o.recipient}
}

// enlist makes the terminal one of the operator's: it trusts the root, and gets list,
// lease and commands from the hub.
func (o *operator) enlist(s site) {
	o.t.Helper()
	var names []string
	for i, k := range o.root {
		text, err := sign1.MarshalPublicKey(k.Public())
		if err != nil {
			o.t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("root%d.pub.pem", i))
		s.write(o.t, names[i], text)
	}
	s.edit(o.t, `keys = ["list.pub.pem"]`, fmt.Sprintf("source = \"file:%s/{scope}\"\nevery = \"1s\"\n\n[root]\nkeys = %q\nthreshold = 2", o.dir, names))
	s.edit(o.t, `["root0.pub.pem" "root1.pub.pem"]`, `["root0.pub.pem", "root1.pub.pem"]`)
	s.edit(o.t, `file    = "scope.key"`, `lease   = true`)
}

// leased is a terminal of the operator's, with a lease for so long and the town's list.
func (o *operator) leased(d time.Duration) site {
	o.t.Helper()
	w := theTown(o.t)
	s := install(o.t, filepath.Join(shortDir(o.t), "terminal"))
	o.enlist(s)
	o.publish(world.Scope, w.ScopeSecret, 1, w.rows)
	o.issue(s, world.Scope, w.ScopeSecret, d)
	return s
}

func TestLeaseEndsAndANewOneOpensTheGateAgain(t *testing.T) {
	t.Parallel()
	w, r, o := theTown(t), newReaders(t), newOperator(t)
	s := install(t, filepath.Join(shortDir(t), "terminal"))
	o.enlist(s)
	o.publish(world.Scope, w.ScopeSecret, 1, w.rows)

	// It starts without a key, and denies.
	a := launch(t, s, r.daemon.Env())
	a.says("no scope key: every card is denied")
	time.Sleep(settled)
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.DataStale)
	a.process()

	o.issue(s, world.Scope, w.ScopeSecret, 12*time.Second)
	a.says(`"msg":"list in force"`)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.says("scope key ends soon")
	a.says("its lease has ended")
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.DataStale)
	if _, err := os.Stat(s.path("state/lease")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lease is still on the disk: %v", err)
	}
	for _, said := range []string{s.must(t, "status"), s.must(t, "check-config")} {
		if !strings.Contains(said, "no lease has come") && !strings.Contains(said, "its lease has ended") {
			t.Errorf("it says\n%s", said)
		}
	}
	o.issue(s, world.Scope, w.ScopeSecret, time.Hour)
	for deadline := time.Now().Add(patience); strings.Count(a.stderr.String(), `"msg":"list in force"`) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a new lease does not come into force")
		}
	}
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.stop()
	agree(t, s, a.all)
}

// A lease that has long to go is looked for once an hour, and nobody can wait for that
// when the hub has made a new scope key.
func TestNewScopeKeyComesInTheRoundThatItsListNeedsIt(t *testing.T) {
	t.Parallel()
	w, r, o := theTown(t), newReaders(t), newOperator(t)
	s := o.leased(time.Hour)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	second := bytes.Repeat([]byte{2}, cardid.ScopeKeySize)
	o.publish(world.Scope, second, 2, w.rows)
	a.says("rows sealed with another scope key")
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK) // by the list and the key of before
	o.issue(s, world.Scope, second, time.Hour)
	a.says(`"msg":"list brought","by":"snapshot","epoch":1,"seq":2`)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.stop()
	agree(t, s, a.all)

	// By hand, where no agent runs.
	third := bytes.Repeat([]byte{3}, cardid.ScopeKeySize)
	o.publish(world.Scope, third, 3, w.rows)
	if _, stderr, code := s.run(t, "sync", "now"); code != 4 || !strings.Contains(stderr, "another scope key") {
		t.Errorf("sync now before the lease: exit code %d: %s", code, stderr)
	}
	o.issue(s, world.Scope, third, time.Hour)
	says(t, s.must(t, "sync", "now"), "a new list, by a snapshot")
}

func TestOlderLeaseAndStrangersLeaseAreRefused(t *testing.T) {
	t.Parallel()
	w, o := theTown(t), newOperator(t)
	s := o.leased(time.Hour)
	r := newReaders(t)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.stop()

	refused := func(reason string) {
		t.Helper()
		if err := os.Remove(s.path("state/lease")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		a := launch(t, s, r.daemon.Env())
		a.says(reason)
		a.stop()
	}
	o.issued = o.issued.Add(-time.Minute)
	o.issue(s, world.Scope, w.ScopeSecret, time.Hour)
	refused("was here before")
	o.issued = o.issued.Add(time.Hour)
	o.forger = o.list
	o.issue(s, world.Scope, w.ScopeSecret, time.Hour)
	o.forger = nil
	refused("signed by a key of another role")
	o.issue(s, world.Scope, w.ScopeSecret, time.Hour)
	again := start(t, s, r)
	want(t, r.tap(again, w.alice(t)), terminal.Admit, terminal.OK)
	again.stop()
}

func TestCommandShutsTheGateAcrossARestart(t *testing.T) {
	t.Parallel()
	w, r, o := theTown(t), newReaders(t), newOperator(t)
	s := o.leased(time.Hour)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	// A stranger shuts nothing.
	o.command(world.Scope, command.Command{Action: command.OutOfOrder, Message: "by nobody"}, o.list)
	a.says("signed by a key of another role")
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	o.command(world.Scope, command.Command{Action: command.OutOfOrder, Message: "改札を閉じます"}, o.anna)
	a.says(`"action":"out_of_order","message":"改札を閉じます"`)
	if out := s.must(t, "status"); !strings.Contains(out, "改札を閉じます") || !strings.Contains(out, "halted by") {
		t.Errorf("status says\n%s", out)
	}
	a.stop()
	again := start(t, s, r)
	again.says("out of order by command")
	lying := r.insert(w.alice(t), how{})
	again.silent(2*time.Second, "out of order by command")
	lying.remove()
	o.command(world.Scope, command.Command{Action: command.InOrder}, o.ben)
	again.says(`"action":"in_order"`)
	time.Sleep(settled) // it has not looked for cards before
	want(t, r.tap(again, w.alice(t)), terminal.Admit, terminal.OK)
	again.stop()
	var seen []string
	for _, e := range s.journal(t) {
		if e.Kind == "command" {
			seen = append(seen, e.Action)
		}
	}
	if !slices.Equal(seen, []string{"out_of_order", "in_order"}) {
		t.Errorf("in the journal: %q", seen)
	}
}

func TestTerminalGoesOnInAnotherScopeByItself(t *testing.T) {
	t.Parallel()
	w, r, o := theTown(t), newReaders(t), newOperator(t)
	s := o.leased(time.Hour)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	kept := s.path("before.cose")
	s.must(t, "journal", "checkpoint", "--out", kept)

	const hall = "第二ホール"
	secret := make([]byte, cardid.ScopeKeySize)
	rand.Read(secret)
	o.command(world.Scope, command.Command{Action: command.ChangeScope, NewScope: hall}, o.anna)
	a.says("preparing scope") // nothing is there yet: it goes on as it is
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	rows := slices.Clone(w.rows)
	for i := range rows {
		if rows[i].Row.Entitlements[0].ID == "ticket-alice" {
			rows[i].Row.Status = whitelist.Revoked
		}
	}
	o.publish(hall, secret, 7, rows)
	o.issue(s, hall, secret, time.Hour)
	a.says(`"seq":7`)
	time.Sleep(settled)
	e := r.tap(a, w.alice(t))
	want(t, e, terminal.Deny, terminal.Revoked)
	if e.ListSeq != 7 {
		t.Errorf("list %d decided", e.ListSeq)
	}
	if _, err := os.Stat(s.path("state/lease")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lease of the old scope is still there: %v", err)
	}
	a.stop()
	scopes := []string{}
	for _, e := range s.journal(t) { // one chain: it verifies as a whole
		if e.Kind == "start" {
			scopes = append(scopes, e.Scope)
		}
	}
	if !slices.Equal(scopes, []string{world.Scope, hall}) {
		t.Errorf("starts in the scopes %q", scopes)
	}
	s.must(t, "journal", "verify", "--checkpoint", kept) // from the scope before
	// And it is there after a restart, and comes back by a command of the new scope.
	again := start(t, s, r)
	want(t, r.tap(again, w.alice(t)), terminal.Deny, terminal.Revoked)
	o.issue(s, world.Scope, w.ScopeSecret, time.Hour)
	o.command(hall, command.Command{Action: command.ChangeScope, NewScope: world.Scope}, o.ben)
	again.says(`"seq":1`)
	time.Sleep(settled)
	want(t, r.tap(again, w.alice(t)), terminal.Admit, terminal.OK)
	again.stop()
}
