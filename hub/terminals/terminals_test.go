package terminals

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/whitelist"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

func by(why string) registry.By { return registry.By{Actor: "test", Reason: why, At: noon} }

// lessor is one of a scope with three terminals, of which the first two have delivery keys.
func lessor(t *testing.T) (l Lessor, keys []lease.DeliveryKey) {
	t.Helper()
	dir := t.TempDir()
	r, err := registry.Open(t.Context(), "sqlite:"+filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	scope := registry.Scope{Name: "arena", Hierarchy: whitelist.Test, Lifetime: time.Hour, LeaseDays: 7, Policy: whitelist.Policy{RevocationMaxAge: time.Hour}}
	if err := r.AddScope(t.Context(), by(""), scope); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"gate-1", "gate-2", "gate-3"} {
		spki, err := x509.MarshalPKIXPublicKey(private(byte(10 + i)).Public())
		if err != nil {
			t.Fatal(err)
		}
		terminal := registry.Terminal{Name: name, Identity: spki}
		if i < 2 {
			k, err := lease.NewDeliveryKey()
			if err != nil {
				t.Fatal(err)
			}
			public, _ := k.Public()
			if terminal.Delivery, err = x509.MarshalPKIXPublicKey(public); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, k)
		}
		if err := r.AddTerminal(t.Context(), by(""), "arena", terminal); err != nil {
			t.Fatal(err)
		}
	}
	f, err := publish.OpenFolder(dir, "arena")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	secret := bytes.Repeat([]byte{0x22}, cardid.ScopeKeySize)
	key, err := cardid.NewScopeKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return Lessor{Registry: r, Folder: f, Scope: scope, Signer: private(1), Secret: secret, Check: key.Check()}, keys
}

func TestLeasesAreRenewedLongBeforeTheyEndAndNotForWhoIsRetired(t *testing.T) {
	l, keys := lessor(t)
	renew := func(at time.Time, want ...string) {
		t.Helper()
		if got, err := l.Renew(t.Context(), at, false); err != nil || !slices.Equal(got, want) {
			t.Errorf("at %s: %q, %v; want %q", at, got, err, want)
		}
	}
	renew(noon, "gate-1", "gate-2")
	pinned, err := sign1.NewKeys(sign1.Key{Public: private(1).Public(), Role: sign1.RoleLease, Scope: "arena"})
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) lease.Lease {
		t.Helper()
		b, err := l.Folder.Get(lease.File(name), lease.MaxFile)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lease.Read(b, roles.Trust{Pinned: pinned})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := read("gate-1")
	if key, err := first.Open(keys[0]); err != nil || key.Check() != l.Check || !first.NotAfter.Equal(noon.AddDate(0, 0, 7)) {
		t.Errorf("%+v, %v", first.Terms, err)
	}
	if _, err := read("gate-2").Open(keys[0]); !errors.Is(err, lease.ErrSealed) {
		t.Errorf("the second terminal's opens with the key of the first: %v", err)
	}
	renew(noon.Add(time.Hour))
	renew(noon.Add(17*time.Hour), "gate-1", "gate-2") // a tenth of seven days is over
	if second := read("gate-1"); !second.IssuedAt.After(first.IssuedAt) {
		t.Errorf("issued %s, then %s", first.IssuedAt, second.IssuedAt)
	}
	// A hub whose clock was set back issues none that a terminal would call older.
	before := read("gate-1").IssuedAt
	if _, err := l.Renew(t.Context(), noon, true); err != nil || !read("gate-1").IssuedAt.After(before) {
		t.Errorf("issued %s after %s, %v", read("gate-1").IssuedAt, before, err)
	}
	if err := l.Folder.Remove(lease.File("gate-2")); err != nil {
		t.Fatal(err)
	}
	if err := l.Registry.RetireTerminal(t.Context(), by("stolen"), "arena", "gate-1"); err != nil {
		t.Fatal(err)
	}
	renew(noon.Add(18*time.Hour), "gate-2") // it was lost
	if _, err := l.Folder.Get(lease.File("gate-1"), lease.MaxFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lease of a terminal that was retired: %v", err)
	}
	l.Signers.Delegation = []byte{} // none, as before: nothing changes
	renew(noon.Add(18 * time.Hour))
}

func TestCommandsGetNumbersThatNeverComeTwice(t *testing.T) {
	l, _ := lessor(t)
	pinned, err := sign1.NewKeys(sign1.Key{Public: private(2).Public(), Role: sign1.RoleCommand, Scope: "arena"})
	if err != nil {
		t.Fatal(err)
	}
	trust := roles.Trust{Pinned: pinned}
	send := func(number uint64, terminal string, key ed25519.PrivateKey, at time.Time) error {
		t.Helper()
		c := command.Command{Scope: "arena", Hierarchy: whitelist.Test, Terminal: terminal, Number: number,
			IssuedAt: at, NotAfter: at.Add(time.Hour), Action: command.OutOfOrder}
		item, err := c.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Publish(t.Context(), l.Registry, l.Folder, trust, nil, item, at)
		return err
	}
	next := func(want uint64) {
		t.Helper()
		if n, err := NextNumber(t.Context(), l.Registry, l.Folder, "arena", "gate-1"); err != nil || n != want {
			t.Errorf("next is %d, %v; want %d", n, err, want)
		}
	}
	next(1)
	if err := send(1, "gate-1", private(2), noon); err != nil {
		t.Fatal(err)
	}
	next(2)
	if err := send(1, "gate-1", private(2), noon); !errors.Is(err, command.ErrNumber) {
		t.Errorf("a number twice: %v", err)
	}
	if err := send(2, "gate-1", private(3), noon); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Errorf("a stranger's: %v", err)
	}
	if err := send(1, "gate-9", private(2), noon); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("to nobody: %v", err)
	}
	// When the first has expired and leaves the file its number is still known; leases
	// beside it forget none.
	if _, err := l.Renew(t.Context(), noon, true); err != nil {
		t.Fatal(err)
	}
	if err := send(2, "gate-1", private(2), noon.AddDate(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := l.Folder.Remove(command.File("gate-1")); err != nil {
		t.Fatal(err)
	}
	next(3)
}

// A terminal that was off while the root signed anew has seen nothing; one that was on
// takes nothing under the delegation before.
func TestNewDelegationComesInFrontOfLeasesAndCommandsThatWait(t *testing.T) {
	l, _ := lessor(t)
	root, err := roles.NewRoot(1, private(3).Public())
	if err != nil {
		t.Fatal(err)
	}
	delegate := func(version uint64, grants ...roles.Grant) {
		t.Helper()
		d := roles.Delegation{Scope: "arena", Hierarchy: whitelist.Test, Version: version, IssuedAt: noon, NotAfter: noon.AddDate(1, 0, 0), Grants: grants}
		signed, err := d.Sign(nil, private(3))
		if err != nil {
			t.Fatal(err)
		}
		l.Signers = publish.Signers{Delegation: signed, Root: root}
	}
	grant := func(role sign1.Role, n byte) roles.Grant {
		return roles.Grant{Key: private(n).Public(), Role: role, NotBefore: noon, NotAfter: noon.AddDate(1, 0, 0)}
	}
	trust := roles.Trust{Root: root}
	waits := func(seen uint64) {
		t.Helper()
		b, err := l.Folder.Get(command.File("gate-1"), command.MaxFile)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := command.Terminal{Scope: "arena", Hierarchy: whitelist.Test, Name: "gate-1", Trust: trust, Delegation: seen, At: noon}.Read(b)
		if err != nil || len(got) != 1 || got[0].Err != nil {
			t.Errorf("to a terminal that has seen delegation %d: %+v, %v", seen, got, err)
		}
	}
	delegate(1, grant(sign1.RoleLease, 1), grant(sign1.RoleCommand, 2))
	if _, err := l.Renew(t.Context(), noon, false); err != nil {
		t.Fatal(err)
	}
	c := command.Command{Scope: "arena", Hierarchy: whitelist.Test, Terminal: "gate-1", Number: 1, IssuedAt: noon, NotAfter: noon.Add(time.Hour), Action: command.OutOfOrder}
	item, err := c.Sign(private(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(t.Context(), l.Registry, l.Folder, trust, l.Signers.Delegation, item, noon); err != nil {
		t.Fatal(err)
	}
	waits(1)

	delegate(2, grant(sign1.RoleLease, 1), grant(sign1.RoleCommand, 2))
	if err := Refresh(t.Context(), l.Registry, l.Folder, l.Scope, l.Signers, noon); err != nil {
		t.Fatal(err)
	}
	waits(2)
	if issued, err := l.Renew(t.Context(), noon, false); err != nil || len(issued) != 2 {
		t.Errorf("leases under the new delegation: %q, %v", issued, err)
	}
	// A key that may sign no leases any more signs none, and the lease in place stays.
	before, err := l.Folder.Get(lease.File("gate-1"), lease.MaxFile)
	if err != nil {
		t.Fatal(err)
	}
	delegate(3, grant(sign1.RoleCommand, 2))
	if _, err := l.Renew(t.Context(), noon.AddDate(0, 0, 1), false); !errors.Is(err, publish.ErrSigner) {
		t.Errorf("a key that is not delegated: %v", err)
	}
	if after, err := l.Folder.Get(lease.File("gate-1"), lease.MaxFile); err != nil || !bytes.Equal(before, after) {
		t.Errorf("its lease: %v", err)
	}
	// Nor does what no root signed come in front of anything.
	l.Signers.Root, err = roles.NewRoot(1, private(4).Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := Refresh(t.Context(), l.Registry, l.Folder, l.Scope, l.Signers, noon); !errors.Is(err, publish.ErrSigner) {
		t.Errorf("a delegation of a stranger: %v", err)
	}
	waits(2)
}
