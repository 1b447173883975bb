package command

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/sync/rescue"
)

var issued = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// Keys of the command role, and one of another.
var anna, ben, listKey = private(1), private(2), private(3)

func delegate(t testing.TB, version uint64) []byte {
	t.Helper()
	d := roles.Delegation{Scope: "arena", Hierarchy: "test", Version: version, IssuedAt: issued, NotAfter: issued.AddDate(1, 0, 0)}
	for _, g := range []struct {
		key  ed25519.PrivateKey
		role sign1.Role
	}{{anna, sign1.RoleCommand}, {ben, sign1.RoleCommand}, {listKey, sign1.RoleList}} {
		d.Grants = append(d.Grants, roles.Grant{Key: g.key.Public(), Role: g.role, NotBefore: issued, NotAfter: issued.AddDate(0, 1, 0)})
	}
	b, err := d.Sign(nil, private(9))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func terminal(t testing.TB) Terminal {
	t.Helper()
	root, err := roles.NewRoot(1, private(9).Public())
	if err != nil {
		t.Fatal(err)
	}
	return Terminal{Scope: "arena", Hierarchy: "test", Name: "gate-1-left", Trust: roles.Trust{Root: root}, At: issued.Add(time.Hour)}
}

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

func stop(number uint64) Command {
	return Command{
		Scope: "arena", Hierarchy: "test", Terminal: "gate-1-left", Number: number, IssuedAt: issued, NotAfter: issued.Add(24 * time.Hour),
		Action: OutOfOrder, Message: "改札を閉じます",
	}
}

func wipe(number uint64) Command {
	c := stop(number)
	c.Action, c.RescueKey = Wipe, recipient
	return c
}

func signed(t testing.TB, c Command, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	var all [][]byte
	for _, k := range keys {
		item, err := c.Sign(k)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item)
	}
	item, err := Join(all...)
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// file is one as a hub might publish it, whatever is in it.
func file(t testing.TB, items ...[]byte) []byte {
	b := delegate(t, 1)
	for _, item := range items {
		b = append(b, wrapped(item)...)
	}
	return b
}

func TestCommandsComeInTheirOrder(t *testing.T) {
	on := stop(2)
	on.Action, on.Message = InOrder, ""
	move := stop(5)
	move.Action, move.NewScope = ChangeScope, "hall"
	all, delegation, err := terminal(t).Read(file(t, signed(t, stop(1), anna), signed(t, on, ben), signed(t, move, anna), signed(t, wipe(9), anna, ben)))
	if err != nil || len(all) != 4 || delegation != 1 {
		t.Fatalf("%+v, %d, %v", all, delegation, err)
	}
	for i, want := range []Command{stop(1), on, move, wipe(9)} {
		if all[i].Err != nil || all[i].Command != want {
			t.Errorf("command %d: %+v, %v", i+1, all[i].Command, all[i].Err)
		}
	}
	if len(all[3].Signers) != 2 {
		t.Errorf("%d signers of a wipe", len(all[3].Signers))
	}
}

func TestNoFileAndNoCommandsAreNothingToDo(t *testing.T) {
	for _, b := range [][]byte{nil, delegate(t, 1)} {
		if all, _, err := terminal(t).Read(b); err != nil || len(all) != 0 {
			t.Errorf("%+v, %v", all, err)
		}
	}
}

func TestCommandsThatAreRefused(t *testing.T) {
	elsewhere, hall, production, ended := stop(5), stop(5), stop(5), stop(5)
	elsewhere.Terminal, hall.Scope, production.Hierarchy = "gate-2", "hall", "production"
	ended.NotAfter = issued.Add(time.Hour - time.Second)
	asLease, err := stop(5).encode()
	if err != nil {
		t.Fatal(err)
	}
	lease, err := sign1.Sign(nil, sign1.RoleLease, anna, asLease)
	if err != nil {
		t.Fatal(err)
	}
	tampered := signed(t, stop(5), anna)
	tampered[len(tampered)-1] ^= 1
	for _, c := range []struct {
		name string
		item []byte
		want error
	}{
		{"played again", signed(t, stop(4), anna), ErrNumber},
		{"older", signed(t, stop(3), anna), ErrNumber},
		{"expired", signed(t, ended, anna), ErrExpired},
		{"another terminal", signed(t, elsewhere, anna), ErrNotOurs},
		{"another scope", signed(t, hall, anna), ErrNotOurs},
		{"another hierarchy", signed(t, production, anna), ErrNotOurs},
		{"key of another role", signed(t, stop(5), listKey), sign1.ErrRole},
		{"unknown key", signed(t, stop(5), private(7)), sign1.ErrUnknownKey},
		{"good key and unknown key", signed(t, stop(5), anna, private(7)), sign1.ErrUnknownKey},
		{"signed for another role", append([]byte{0x81}, lease...), sign1.ErrSignature},
		{"tampered", tampered, sign1.ErrSignature},
		{"wipe of one", signed(t, wipe(5), anna), ErrSigners},
		{"wipe of one and a stranger", signed(t, wipe(5), anna, private(7)), sign1.ErrUnknownKey},
		{"no array", []byte("out of order"), ErrMalformed},
	} {
		tm := terminal(t)
		tm.Floor = 4
		// A good command behind it is carried out all the same.
		all, _, err := tm.Read(file(t, c.item, signed(t, stop(6), ben)))
		if err != nil || len(all) != 2 || !errors.Is(all[0].Err, c.want) || all[1].Err != nil {
			t.Errorf("%s: %+v, %v; want %v", c.name, all, err, c.want)
		}
	}
}

// ECDSA signs one content in many ways: two signatures are not two people.
func TestWipeSignedTwiceByOneKeyIsRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := wipe(5).encode()
	if err != nil {
		t.Fatal(err)
	}
	var both [][]byte
	for range 2 {
		m, err := sign1.Sign(rand.Reader, sign1.RoleCommand, key, payload)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, m)
	}
	item, err := pack(both)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := sign1.NewKeys(sign1.Key{Public: key.Public(), Role: sign1.RoleCommand, Scope: "arena"})
	if err != nil {
		t.Fatal(err)
	}
	tm := terminal(t)
	tm.Trust = roles.Trust{Pinned: pinned}
	all, _, err := tm.Read(wrapped(item))
	if err != nil || len(all) != 1 || !errors.Is(all[0].Err, ErrSigners) {
		t.Errorf("%+v, %v", all, err)
	}
	// Ed25519 gives the same signature again, and Join keeps one.
	all, _, err = terminal(t).Read(file(t, signed(t, wipe(5), anna, anna)))
	if err != nil || len(all) != 1 || !errors.Is(all[0].Err, ErrSigners) {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestRoleThatHasEndedCommandsNothing(t *testing.T) {
	tm := terminal(t)
	tm.At = issued.AddDate(0, 2, 0)
	late := stop(5)
	late.NotAfter = issued.AddDate(0, 3, 0)
	all, _, err := tm.Read(file(t, signed(t, late, anna)))
	if err != nil || len(all) != 1 || !errors.Is(all[0].Err, roles.ErrExpired) {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestOlderDelegationCommandsNothing(t *testing.T) {
	tm := terminal(t)
	tm.Delegation = 2
	if _, _, err := tm.Read(file(t, signed(t, stop(5), anna))); !errors.Is(err, roles.ErrOlder) {
		t.Errorf("%v", err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	good := file(t, signed(t, stop(5), anna))
	pinned := wrapped(signed(t, stop(5), anna))
	many := delegate(t, 1)
	for range MaxCommands + 1 {
		many = append(many, 0x41, 0)
	}
	for _, c := range []struct {
		name string
		file []byte
		want error
	}{
		{"truncated", good[:len(good)-1], ErrMalformed},
		{"truncated in the delegation", good[:20], ErrMalformed},
		{"bytes behind it", append(bytes.Clone(good), 0), ErrMalformed},
		{"long form of a length", append(delegate(t, 1), 0x58, 1, 0), ErrMalformed},
		{"too many", many, ErrMalformed},
		{"gigantic", make([]byte, MaxFile+1), ErrMalformed},
		{"no delegation", pinned, roles.ErrMissing},
		{"a web page", []byte("<html>"), roles.ErrMissing},
	} {
		if _, _, err := terminal(t).Read(c.file); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCommandsThatMakeNoSenseAreNotSigned(t *testing.T) {
	for what, change := range map[string]func(*Command){
		"number 0":               func(c *Command) { c.Number = 0 },
		"no terminal":            func(c *Command) { c.Terminal = "" },
		"message of two lines":   func(c *Command) { c.Message = "a\nb" },
		"long message":           func(c *Command) { c.Message = strings.Repeat("a", MaxMessage+1) },
		"ends first":             func(c *Command) { c.NotAfter = c.IssuedAt },
		"unknown action":         func(c *Command) { c.Action = "open" },
		"change to nowhere":      func(c *Command) { c.Action = ChangeScope },
		"change to itself":       func(c *Command) { c.Action, c.NewScope = ChangeScope, c.Scope },
		"new scope":              func(c *Command) { c.NewScope = "hall" },
		"wipe without a key":     func(c *Command) { c.Action = Wipe },
		"wipe to nobody":         func(c *Command) { c.Action, c.RescueKey = Wipe, "age1nobody" },
		"rescue key of no wipe":  func(c *Command) { c.RescueKey = recipient },
		"neither test nor world": func(c *Command) { c.Hierarchy = "" },
	} {
		c := stop(1)
		change(&c)
		if _, err := c.Sign(anna); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSecondPersonSignsWhatTheFirstDid(t *testing.T) {
	first := signed(t, wipe(1), anna)
	both, err := Countersign(first, ben)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Peek(both); err != nil || c != wipe(1) {
		t.Errorf("%+v, %v", c, err)
	}
	all, _, err := terminal(t).Read(file(t, both))
	if err != nil || len(all) != 1 || all[0].Err != nil {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := Join(first, signed(t, wipe(2), ben)); !errors.Is(err, ErrMalformed) {
		t.Errorf("signatures of two commands are joined: %v", err)
	}
	if _, err := Countersign(both, private(4)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a third one signs: %v", err)
	}
}

func TestFileGrowsByOneCommandAndLosesThoseThatEnded(t *testing.T) {
	long := stop(3)
	long.NotAfter = issued.AddDate(0, 0, 9)
	var b []byte
	for _, c := range []Command{stop(1), stop(2), long} {
		var err error
		if b, err = Append(b, delegate(t, 1), signed(t, c, anna), issued); err != nil {
			t.Fatal(err)
		}
	}
	if all, _, err := terminal(t).Read(b); err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	if _, err := Append(b, delegate(t, 1), signed(t, stop(3), ben), issued); !errors.Is(err, ErrNumber) {
		t.Errorf("a number twice: %v", err)
	}
	b, err := Append(b, delegate(t, 2), signed(t, stop(4), anna), issued.AddDate(0, 0, 2))
	if err != nil {
		t.Fatal(err)
	}
	all, err := Commands(b)
	if err != nil || len(all) != 2 || all[0].Number != 3 || all[1].Number != 4 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, delegation, err := terminal(t).Read(b); err != nil || delegation != 2 {
		t.Errorf("delegation %d, %v", delegation, err)
	}
}

// No file makes a terminal do what two keys have not signed, and what is read in one
// way is read so again.
func FuzzRead(f *testing.F) {
	f.Add(file(f, signed(f, stop(1), anna), signed(f, wipe(2), anna, ben)))
	f.Add(file(f, signed(f, wipe(2), anna)))
	tm := terminal(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _, err := tm.Read(b)
		if err != nil && all != nil {
			t.Fatal("commands of a file that is refused")
		}
		for _, r := range all {
			if r.Err == nil && r.Action == Wipe && len(r.Signers) != 2 {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func TestRescueKeysAreThoseOfAge(t *testing.T) {
	_, to, err := rescue.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	c := wipe(1)
	c.RescueKey = to
	if _, err := c.Sign(anna); err != nil {
		t.Error(err)
	}
	for name, key := range map[string]string{
		"none": "", "secret half": "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
		"cut": to[:len(to)-1], "two": to + "\n" + to,
		"point of small order": "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
	} {
		c.RescueKey = key
		if _, err := c.Sign(anna); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stolen key could command once with the highest number of all, and no command would
// come after it, also when the root has taken the key back.
func TestNumbersAreNotUsedUpAtOnce(t *testing.T) {
	for _, c := range []struct {
		number uint64
		taken  bool
	}{{5, true}, {4 + MaxStep, true}, {5 + MaxStep, false}, {1<<64 - 1, false}} {
		tm := terminal(t)
		tm.Floor = 4
		all, _, err := tm.Read(file(t, signed(t, stop(c.number), anna)))
		if err != nil || (all[0].Err == nil) != c.taken {
			t.Errorf("number %d: %v, %v", c.number, all, err)
		}
	}
}
