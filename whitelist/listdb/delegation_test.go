package listdb

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Lists by keys that a root delegates to.

var rootKeys = []ed25519.PrivateKey{
	ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x31}, 32)),
	ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x32}, 32)),
	ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x33}, 32)),
}

// delegate is a delegation of some version to a list key, good for two hours.
func delegate(t *testing.T, version uint64, key ed25519.PrivateKey) []byte {
	t.Helper()
	d := roles.Delegation{
		Scope: scope, Hierarchy: whitelist.Test, Version: version, IssuedAt: issued, NotAfter: issued.Add(3 * time.Hour),
		Grants: []roles.Grant{{Key: key.Public(), Role: sign1.RoleList, NotBefore: issued, NotAfter: issued.Add(2 * time.Hour)}},
	}
	var all [][]byte
	for _, k := range rootKeys[:2] {
		b, err := d.Sign(nil, k)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	b, err := roles.Join(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openRooted(t *testing.T, dir string) *Store {
	t.Helper()
	root, err := roles.NewRoot(2, rootKeys[0].Public(), rootKeys[1].Public(), rootKeys[2].Public())
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t, dir)
	cfg.Trust = roles.Trust{Root: root}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// rooted is a folder in which set 1 is in force by delegation 5; the hub offers set 2.
func rooted(t *testing.T) (*hub, *Store, string) {
	t.Helper()
	h, dir := newHub(scopeKey(t)), t.TempDir()
	s := openRooted(t, dir)
	h.delegation = delegate(t, 5, listKey)
	h.change(map[int]int{0: 1, 1: 1})
	follows(t, h, s, "snapshot")
	h.change(map[int]int{1: 2})
	h.deltas = [][2]uint64{{1, 2}}
	return h, s, dir
}

func refusedAndStands(t *testing.T, h *hub, s *Store, dir string, at time.Time, want error) {
	t.Helper()
	signed := h.head(t)
	if _, _, _, err := s.Examine(t.Context(), signed, at); !errors.Is(err, want) {
		t.Errorf("Examine: %v, want %v", err, want)
	}
	_, err := s.Apply(t.Context(), signed, at, whitelist.Files{Deltas: h.open(h.manifest(t).Deltas)}, nil)
	refusedBy(t, err, want)
	_, err = s.Import(t.Context(), bytes.NewReader(h.whole(t)), at, nil)
	refusedBy(t, err, want)
	for _, s := range []*Store{s, openRooted(t, dir)} {
		h.stands(t, s, h.sets[1], 6)
	}
}

func TestListByADelegatedKeyComesIntoForce(t *testing.T) {
	h, s, dir := rooted(t)
	follows(t, h, s, "1 deltas")
	h.stands(t, openRooted(t, dir), h.sets[2], 6)
	s = openRooted(t, t.TempDir())
	load(t, s, h.whole(t))
	h.stands(t, s, h.sets[2], 6)
}

func TestExpiredRolePutsNothingInForce(t *testing.T) {
	h, s, dir := rooted(t)
	refusedAndStands(t, h, s, dir, issued.Add(2*time.Hour+time.Second), roles.ErrExpired) // the key
	refusedAndStands(t, h, s, dir, issued.Add(3*time.Hour+time.Second), roles.ErrExpired) // the delegation
	refusedAndStands(t, h, s, dir, issued.Add(-time.Second), roles.ErrExpired)            // not yet
	follows(t, h, s, "1 deltas")
}

func TestListByAKeyThatTheDelegationDoesNotNameIsRefused(t *testing.T) {
	h, s, dir := rooted(t)
	h.signer = stadiumKey // pinned nowhere here
	refusedAndStands(t, h, s, dir, now, sign1.ErrUnknownKey)
}

func TestListWithoutADelegationIsRefused(t *testing.T) {
	h, s, dir := rooted(t)
	h.delegation = nil
	refusedAndStands(t, h, s, dir, now, roles.ErrMissing)
}

func TestListUnderADelegationByTooFewRootsIsRefused(t *testing.T) {
	h, s, dir := rooted(t)
	d, err := roles.Peek(h.delegation)
	if err != nil {
		t.Fatal(err)
	}
	if h.delegation, err = d.Sign(nil, rootKeys[0]); err != nil {
		t.Fatal(err)
	}
	refusedAndStands(t, h, s, dir, now, roles.ErrThreshold)
}

// A key was stolen and is delegated to no more: the delegation that did is replayed in
// front of newer lists by it.
func TestOlderDelegationReplayedIsRefused(t *testing.T) {
	h, s, dir := rooted(t)
	h.delegation = delegate(t, 4, listKey)
	refusedAndStands(t, h, s, dir, now, ErrOlder)
	// Also after a restart, and when the base that came by it is gone.
	refusedAndStands(t, h, openRooted(t, dir), dir, now, ErrOlder)
}

func TestSameListUnderANewerDelegationIsTakenForTheDelegation(t *testing.T) {
	h, s, dir := rooted(t)
	follows(t, h, s, "1 deltas")
	h.delegation = delegate(t, 6, listKey)
	follows(t, h, s, "0 deltas")
	follows(t, h, s, "nothing")
	h.delegation = delegate(t, 5, listKey)
	if _, err := h.follow(t, s, h.head(t)); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
	h.stands(t, openRooted(t, dir), h.sets[2], 6)
	h.delegation = delegate(t, 6, listKey)
	if merged, err := s.Merge(t.Context(), true); err != nil || !merged {
		t.Fatal(merged, err)
	}
	follows(t, h, s, "nothing")
}

// Keys may be pinned for a while: the newest delegation is not forgotten meanwhile.
func TestPinnedKeysInBetweenDoNotBringAnOlderDelegationBack(t *testing.T) {
	h, s, dir := rooted(t)
	s.Close()
	h.delegation = nil
	follows(t, h, open(t, dir), "1 deltas")
	h.seq++
	h.delegation = delegate(t, 4, listKey)
	s = openRooted(t, dir)
	if _, err := h.follow(t, s, h.head(t)); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
	h.delegation = delegate(t, 5, listKey)
	follows(t, h, s, "snapshot") // what is in force has no delegation in front of it
}

// What a list was in force by counts when it came.
func TestListStaysInForceWhenItsRoleHasEnded(t *testing.T) {
	h, s, dir := rooted(t)
	follows(t, h, s, "1 deltas")
	late := issued.Add(10 * time.Hour)
	if _, _, _, err := s.Examine(t.Context(), h.head(t), late); !errors.Is(err, roles.ErrExpired) {
		t.Error(err)
	}
	s = openRooted(t, dir)
	h.stands(t, s, h.sets[2], 6)
	if merged, err := s.Merge(t.Context(), true); err != nil || !merged {
		t.Fatal(merged, err)
	}
	h.stands(t, openRooted(t, dir), h.sets[2], 6)
}

// A floor of before there were delegations reads, and stays as it was for as long as
// there are none.
func TestFloorOfBeforeDelegationsReads(t *testing.T) {
	f := floor{Scope: scope, Hierarchy: whitelist.Test, Epoch: 1, Seq: 2, Manifest: [32]byte{3}}
	b, err := floorCodec.Marshal([]any{scope, whitelist.Test, 1, 2, f.Manifest})
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseFloor(withChecksum(b))
	if err != nil || got != f {
		t.Errorf("%+v, %v", got, err)
	}
	if again, err := f.encode(); err != nil || !bytes.Equal(again, withChecksum(b)) {
		t.Errorf("%x, %v", again, err)
	}
	f.Delegation = 7
	if b, err = f.encode(); err != nil {
		t.Fatal(err)
	}
	if got, err = parseFloor(b); err != nil || got != f {
		t.Errorf("%+v, %v", got, err)
	}
}
