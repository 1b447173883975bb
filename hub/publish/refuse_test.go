package publish

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

func key(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestClockThatStandsBeforeTheLastListIsRefused(t *testing.T) {
	h := newHub(t, "", 1)
	h.publish()
	before := h.tree()
	if _, err := h.Publish(t.Context(), h.list, h.at.Add(-time.Second), false); !errors.Is(err, ErrClock) {
		t.Errorf("%v", err)
	}
	if !maps.Equal(before, h.tree()) {
		t.Error("files changed")
	}
	if _, err := h.Publish(t.Context(), h.list, h.at.Add(999*time.Millisecond), false); err != nil {
		t.Error(err)
	}

	// A list that was made while the clock was ahead does not stop the hub for good.
	right := h.at.Add(time.Hour)
	h.at = h.at.AddDate(10, 0, 0)
	h.publish()
	h.at = right
	if _, err := h.Publish(t.Context(), h.list, h.at, false); !errors.Is(err, ErrClock) || !strings.Contains(err.Error(), "new-epoch") {
		t.Errorf("%v, want the way out", err)
	}
	h.do(h.Registry.NewEpoch(t.Context(), h.by(), scope))
	h.publish()
	var x terminal
	h.fetch(&x, h.trust())
}

func TestTwoStepsPlaceExactlyWhatWasExported(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	h.publish()
	placed := h.tree()["manifest"]
	h.order(2, "")
	h.at = h.at.Add(time.Minute)
	first, err := h.Draft(t.Context(), h.at, false)
	h.do(err)
	if h.tree()["manifest"] != placed {
		t.Fatal("an unsigned list is in place")
	}
	signed, err := Sign(first.Payload, h.list)
	h.do(err)

	// Another list, another key, a list that a later draft replaced.
	other := first.Manifest
	other.Rows++
	payload, err := other.Encode()
	h.do(err)
	forged, err := Sign(payload, h.list)
	h.do(err)
	if _, err := h.Place(t.Context(), forged, h.at); !errors.Is(err, ErrNotNewest) {
		t.Errorf("another list: %v", err)
	}
	stranger, err := Sign(first.Payload, key(t))
	h.do(err)
	if _, err := h.Place(t.Context(), stranger, h.at); !errors.Is(err, ErrSigner) {
		t.Errorf("another key: %v", err)
	}
	role, err := sign1.Sign(nil, sign1.RoleCommand, h.list, first.Payload)
	h.do(err)
	if _, err := h.Place(t.Context(), role, h.at); !errors.Is(err, ErrSigner) {
		t.Errorf("signed for another role: %v", err)
	}
	for _, broken := range [][]byte{nil, {}, signed[:len(signed)-1], append(signed[:len(signed):len(signed)], 0), []byte("<html>")} {
		if _, err := h.Place(t.Context(), broken, h.at); err == nil {
			t.Errorf("%d bytes were placed", len(broken))
		}
	}
	if h.tree()["manifest"] != placed {
		t.Fatal("a refused list is in place")
	}
	if _, err := h.Place(t.Context(), signed, h.at); err != nil {
		t.Fatal(err)
	}
	var x terminal
	h.fetch(&x, h.trust())
	if len(x.rows) != 2 {
		t.Errorf("%d rows", len(x.rows))
	}
	if _, err := h.Draft(t.Context(), h.at, false); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Place(t.Context(), signed, h.at); !errors.Is(err, ErrNotNewest) {
		t.Errorf("an older draft: %v", err)
	}
}

func TestNothingIsPlacedWhoseFilesAreMissing(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	d, err := h.Draft(t.Context(), h.at, false)
	h.do(err)
	h.do(os.Truncate(filepath.Join(h.files, snapshotFile(d.Manifest.Snapshot).name), 5))
	signed, err := Sign(d.Payload, h.list)
	h.do(err)
	if _, err := h.Place(t.Context(), signed, h.at); err == nil {
		t.Error("placed")
	}
	h.publish()
	h.fetch(&terminal{}, h.trust())
}

// A process that ends between two steps leaves a folder and a registry that go
// on from there.
func TestCrashAtAnyStepLosesNothing(t *testing.T) {
	for name, step := range map[string]func(*hub){
		"within the transaction": func(h *hub) {
			h.do(os.WriteFile(filepath.Join(h.files, "delta"), nil, 0o600)) // no folder can be made
			if _, err := h.Draft(t.Context(), h.at, false); err == nil {
				t.Error("a delta was written")
			}
			h.do(os.Remove(filepath.Join(h.files, "delta")))
		},
		"before it was signed": func(h *hub) {
			_, err := h.Draft(t.Context(), h.at, false)
			h.do(err)
		},
		"before it was placed": func(h *hub) {
			d, err := h.Draft(t.Context(), h.at, false)
			h.do(err)
			_, err = Sign(d.Payload, h.list)
			h.do(err)
		},
		"with half a file": func(h *hub) {
			_, err := h.Draft(t.Context(), h.at, false)
			h.do(err)
			h.do(os.WriteFile(filepath.Join(h.files, "snapshot", ".draft-0"), []byte("half"), 0o600))
			h.do(os.WriteFile(filepath.Join(h.files, ".draft-0"), []byte("half"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, "", 1)
			for n := range 1000 {
				h.order(n, "")
			}
			h.publish()
			var x, y terminal
			h.fetch(&x, h.trust())
			h.order(1, "changed")
			h.gone(2)
			h.order(2000, "")
			step(h)
			h.fetch(&y, h.trust()) // the list before, whole
			if len(y.rows) != 1000 {
				t.Errorf("%d rows", len(y.rows))
			}
			h.publish()
			h.fetch(&x, h.trust())
			h.fetch(&y, h.trust())
			var z terminal
			h.fetch(&z, h.trust())
			if !maps.Equal(x.rows, z.rows) || !maps.Equal(y.rows, z.rows) || len(z.rows) != 1000 {
				t.Errorf("%d, %d, %d rows", len(x.rows), len(y.rows), len(z.rows))
			}
		})
	}
}

// A root that delegates the role of lists, and a terminal that knows the root alone.
func TestListKeyRotatesWithOverlap(t *testing.T) {
	h := newHub(t, "", 1)
	old, fresh, rootA, rootB, rootC := h.list, key(t), key(t), key(t), key(t)
	root, err := roles.NewRoot(2, rootA.Public(), rootB.Public(), rootC.Public())
	h.do(err)
	delegate := func(version uint64, grants ...roles.Grant) []byte {
		d := roles.Delegation{Scope: scope, Hierarchy: whitelist.Test, Version: version, IssuedAt: start, NotAfter: start.AddDate(0, 6, 0), Grants: grants}
		a, err := d.Sign(nil, rootA)
		h.do(err)
		c, err := d.Sign(nil, rootC)
		h.do(err)
		joined, err := roles.Join([][]byte{a, c})
		h.do(err)
		return joined
	}
	grant := func(k ed25519.PrivateKey, from, to time.Time) roles.Grant {
		return roles.Grant{Key: k.Public(), Role: sign1.RoleList, NotBefore: from, NotAfter: to}
	}
	day := func(n int) time.Time { return start.AddDate(0, 0, n) }
	trust := roles.Trust{Root: root}
	h.Signers = Signers{Root: root}
	publish := func(k ed25519.PrivateKey) error {
		h.at = h.at.Add(time.Minute)
		_, err := h.Publish(t.Context(), k, h.at, false)
		return err
	}
	h.order(1, "")

	// 1. Only the old key.
	h.Signers.Delegation = delegate(1, grant(old, day(0), day(30)))
	h.do(publish(old))
	var x, away terminal
	h.fetch(&x, trust)
	h.fetch(&away, trust)
	if err := publish(fresh); !errors.Is(err, ErrSigner) {
		t.Errorf("a key that is not delegated: %v", err)
	}
	if until, err := h.Signers.MaySign(sign1.RoleList, h.scope(), old.Public(), day(5)); err != nil || !until.Equal(day(30)) {
		t.Errorf("until %v, %v", until, err)
	}
	// 2. Both: the new delegation comes with the next list, by the old key.
	h.Signers.Delegation = delegate(2, grant(old, day(0), day(30)), grant(fresh, day(10), day(60)))
	h.at = day(10)
	h.order(2, "")
	h.do(publish(old))
	h.fetch(&x, trust)
	// 3. The new key signs. A terminal that saw nothing of this takes it all the same.
	h.order(3, "")
	h.do(publish(fresh))
	h.fetch(&x, trust)
	h.fetch(&away, trust)
	// 4. The old key is not delegated any more.
	h.Signers.Delegation = delegate(3, grant(fresh, day(10), day(60)))
	if err := publish(old); !errors.Is(err, ErrSigner) {
		t.Errorf("a key that was taken back: %v", err)
	}
	h.do(publish(fresh))
	h.fetch(&x, trust)
	// A delegation from before is one that no terminal takes any more, whoever may sign.
	h.Signers.Delegation = delegate(2, grant(old, day(0), day(30)), grant(fresh, day(10), day(60)))
	placed := h.tree()["manifest"]
	if err := publish(fresh); !errors.Is(err, ErrSigner) || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older delegation: %v", err)
	}
	d, err := h.Draft(t.Context(), h.at, false)
	h.do(err)
	signed, err := Sign(d.Payload, fresh)
	h.do(err)
	if _, err := h.Place(t.Context(), signed, h.at); !errors.Is(err, ErrSigner) || h.tree()["manifest"] != placed {
		t.Errorf("an older delegation, signed elsewhere: %v", err)
	}
	h.Signers.Delegation = delegate(3, grant(fresh, day(10), day(60)))
	// 5. And one that has ended signs nothing.
	h.at = day(61)
	if err := publish(fresh); !errors.Is(err, ErrSigner) {
		t.Errorf("a key that has ended: %v", err)
	}
	// A delegation of one root key, or for another scope, is none.
	alone := roles.Delegation{Scope: scope, Hierarchy: whitelist.Test, Version: 4, IssuedAt: day(60), NotAfter: day(90), Grants: []roles.Grant{grant(fresh, day(60), day(90))}}
	h.Signers.Delegation, err = alone.Sign(nil, rootA)
	h.do(err)
	if err := publish(fresh); !errors.Is(err, ErrSigner) || !errors.Is(err, roles.ErrThreshold) {
		t.Errorf("one root key: %v", err)
	}
	alone.Scope = "elsewhere"
	h.Signers = Signers{}
	h.Signers.Delegation, err = alone.Sign(nil, rootA)
	h.do(err)
	if err := publish(fresh); !errors.Is(err, ErrSigner) {
		t.Errorf("another scope: %v", err)
	}
}

// A site with two hubs, or somebody who publishes by hand beside the one that serves.
func TestTwoPublishersPublishAChangeOnce(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	h.publish()
	h.order(2, "")
	h.at = h.at.Add(time.Minute)
	var wg sync.WaitGroup
	why := make([]string, 8)
	for i := range why {
		folder, err := OpenFolder(filepath.Dir(h.files), scope)
		h.do(err)
		t.Cleanup(func() { folder.Close() })
		p := *h.Publisher
		p.Folder = folder
		wg.Go(func() {
			var err error
			if _, why[i], err = p.PublishDue(t.Context(), h.list, h.at); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	published := 0
	for _, w := range why {
		if w != "" {
			published++
		}
	}
	if m, err := h.Newest(t.Context()); err != nil || m.Seq != 2 || m.Rows != 2 || published != 1 {
		t.Errorf("list %d of %d rows after %d publications, %v", m.Seq, m.Rows, published, err)
	}
}

func TestDraftsOfAKilledPublisherAreRemoved(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	h.publish()
	for _, name := range []string{".draft-0", "snapshot/.draft-0", "snapshot/.draft-1"} {
		h.do(os.WriteFile(filepath.Join(h.files, name), []byte("cut sho"), 0o600))
	}
	h.do(os.WriteFile(filepath.Join(h.files, "robots.txt"), []byte("of somebody else"), 0o600))
	h.order(2, "")
	h.publish()
	for name := range h.tree() {
		if strings.Contains(name, "draft") {
			t.Errorf("%s is there", name)
		}
	}
	if h.tree()["robots.txt"] == "" {
		t.Error("what is not the hub's was removed")
	}
}
