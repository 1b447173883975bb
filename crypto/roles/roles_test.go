package roles

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
)

const scope = "arena"

var issued = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)

func key(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

// Three root keys, and those that roles are delegated to.
var (
	roots                       = []ed25519.PrivateKey{key(0x31), key(0x32), key(0x33)}
	stranger                    = key(0x66)
	listKey, leaseKey, commands = key(0x11), key(0x14), key(0x13)
)

func root(t testing.TB, threshold int) Root {
	t.Helper()
	r, err := NewRoot(threshold, roots[0].Public(), roots[1].Public(), roots[2].Public())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func delegation() Delegation {
	day := 24 * time.Hour
	from := issued.Add(-time.Hour)
	return Delegation{
		Scope: scope, Hierarchy: "test", Version: 5, IssuedAt: issued.Add(-day), NotAfter: issued.Add(30 * day),
		Grants: []Grant{
			{listKey.Public(), sign1.RoleList, from, issued.Add(7 * day)},
			{leaseKey.Public(), sign1.RoleLease, from, issued.Add(14 * day)},
			{commands.Public(), sign1.RoleCommand, from, issued.Add(14 * day)},
		},
	}
}

// signedBy is d, signed by these keys.
func signedBy(t testing.TB, d Delegation, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	var all [][]byte
	for _, k := range keys {
		b, err := d.Sign(nil, k)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return joined(t, all...)
}

func joined(t testing.TB, all ...[]byte) []byte {
	t.Helper()
	b, err := Join(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAsManyRootKeysHaveToSignAsTheThresholdSays(t *testing.T) {
	for threshold := 1; threshold <= 3; threshold++ {
		for n := 1; n <= 3; n++ {
			d, err := root(t, threshold).Verify(signedBy(t, delegation(), roots[:n]...))
			switch {
			case n >= threshold && (err != nil || !reflect.DeepEqual(d, delegation())):
				t.Errorf("%d of %d: %+v, %v", n, threshold, d, err)
			case n < threshold && !errors.Is(err, ErrThreshold):
				t.Errorf("%d of %d: %v", n, threshold, err)
			}
		}
	}
}

func TestNobodyDelegatesWithoutARoot(t *testing.T) {
	if _, err := (Root{}).Verify(signedBy(t, delegation(), roots...)); err == nil {
		t.Error("the zero Root verifies")
	}
	if !(Root{}).IsZero() || root(t, 1).IsZero() {
		t.Error("IsZero")
	}
	one := roots[0].Public()
	many := make([]crypto.PublicKey, MaxRoots+1)
	for i := range many {
		many[i] = key(byte(i)).Public()
	}
	for name, c := range map[string]struct {
		threshold int
		keys      []crypto.PublicKey
	}{
		"no keys":       {1, nil},
		"threshold 0":   {0, []crypto.PublicKey{one}},
		"more than all": {2, []crypto.PublicKey{one}},
		"a key twice":   {2, []crypto.PublicKey{one, one}},
		"too many":      {1, many},
		"no key":        {1, []crypto.PublicKey{"key"}},
	} {
		if _, err := NewRoot(c.threshold, c.keys...); err == nil {
			t.Errorf("a root with %s", name)
		}
	}
}

// An ECDSA signature is another each time: two by one key are one vote.
func TestKeyThatSignsTwiceCountsOnce(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRoot(2, p256.Public(), roots[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	sign := func() []byte {
		b, err := delegation().Sign(rand.Reader, p256)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	twice := joined(t, sign(), sign())
	if len(twice) < 2*len(sign())-10 {
		t.Fatal("the signatures are the same")
	}
	if _, err := r.Verify(twice); !errors.Is(err, ErrThreshold) {
		t.Error(err)
	}
	if _, err := r.Verify(joined(t, twice, signedBy(t, delegation(), roots[0]))); err != nil {
		t.Errorf("with the other key as well: %v", err)
	}
}

func TestSignaturesOverDifferentContentsAreRefused(t *testing.T) {
	other := delegation()
	other.Version++
	b := joined(t, signedBy(t, delegation(), roots[0]), signedBy(t, other, roots[1]))
	for threshold := 1; threshold <= 2; threshold++ {
		if _, err := root(t, threshold).Verify(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("threshold %d: %v", threshold, err)
		}
	}
}

// While a root changes, old and new keys sign.
func TestSignatureByAnUnknownRootKeyCountsForNothing(t *testing.T) {
	b := signedBy(t, delegation(), stranger, roots[2], roots[0])
	if _, err := root(t, 2).Verify(b); err != nil {
		t.Error(err)
	}
	if _, err := root(t, 3).Verify(b); !errors.Is(err, ErrThreshold) {
		t.Error(err)
	}
	// Nor does it decide what is delegated.
	forged := delegation()
	forged.Grants[0].Key = stranger.Public()
	d, err := root(t, 2).Verify(joined(t, signedBy(t, forged, stranger), signedBy(t, delegation(), roots[1:]...)))
	if err != nil || !reflect.DeepEqual(d, delegation()) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestForgedSignatureOfARootKeyIsRefused(t *testing.T) {
	b := signedBy(t, delegation(), roots[:2]...)
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1
		if d, err := root(t, 2).Verify(flipped); err == nil {
			t.Fatalf("byte %d: %+v", i, d)
		}
	}
}

// What a root key signed for another role is no delegation, nor the other way round.
func TestMessageOfAnotherRoleIsNoDelegation(t *testing.T) {
	payload, err := delegation().encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := sign1.Sign(nil, sign1.RoleList, roots[0], payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root(t, 1).Verify(joined(t, m)); !errors.Is(err, sign1.ErrSignature) {
		t.Error(err)
	}
}

// warranted verifies a payload signed for a role under a delegation.
func warranted(t *testing.T, d Delegation, role sign1.Role, by ed25519.PrivateKey) (Warrant, sign1.Payload, error) {
	t.Helper()
	w, err := (Trust{Root: root(t, 2)}).Warrant(signedBy(t, d, roots[:2]...))
	if err != nil {
		t.Fatal(err)
	}
	m, err := sign1.Sign(nil, role, by, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Keys.Verify(role, m)
	return w, p, err
}

func TestDelegatedKeySignsForItsRoleAndScopeFromWhenToWhen(t *testing.T) {
	w, p, err := warranted(t, delegation(), sign1.RoleList, listKey)
	if err != nil || p.Scope() != scope {
		t.Fatalf("scope %q, %v", p.Scope(), err)
	}
	g := delegation().Grants[0]
	for at, want := range map[time.Time]error{
		g.NotBefore: nil, g.NotAfter.Add(999 * time.Millisecond): nil,
		g.NotBefore.Add(-time.Second): ErrExpired, g.NotAfter.Add(time.Second): ErrExpired,
	} {
		if err := w.Valid(p, at); !errors.Is(err, want) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

func TestEndOfADelegationEndsItsKeys(t *testing.T) {
	d := delegation()
	d.NotAfter = issued.Add(time.Hour)
	w, p, err := warranted(t, d, sign1.RoleList, listKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Valid(p, d.NotAfter); err != nil {
		t.Error(err)
	}
	if err := w.Valid(p, d.NotAfter.Add(time.Second)); !errors.Is(err, ErrExpired) {
		t.Error(err)
	}
}

func TestDelegatedKeyIsWorthNothingForAnotherRole(t *testing.T) {
	for role, by := range map[sign1.Role]ed25519.PrivateKey{sign1.RoleList: leaseKey, sign1.RoleCommand: listKey, sign1.RoleLease: commands} {
		if _, _, err := warranted(t, delegation(), role, by); !errors.Is(err, sign1.ErrRole) {
			t.Errorf("%s: %v", role, err)
		}
	}
	if _, _, err := warranted(t, delegation(), sign1.RoleList, stranger); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Error(err)
	}
}

func TestPayloadOfAKeyThatIsNotDelegatedToIsNotValid(t *testing.T) {
	w, _, err := warranted(t, delegation(), sign1.RoleList, listKey)
	if err != nil {
		t.Fatal(err)
	}
	d := delegation()
	d.Grants[0].Key = stranger.Public()
	_, p, err := warranted(t, d, sign1.RoleList, stranger)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Valid(p, issued); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Error(err)
	}
}

func TestDelegationForAnotherScopeSaysSoOfItsKeys(t *testing.T) {
	d := delegation()
	d.Scope = "stadium"
	if _, p, err := warranted(t, d, sign1.RoleList, listKey); err != nil || p.Scope() != "stadium" {
		t.Errorf("%q, %v", p.Scope(), err)
	}
}

func TestWhereKeysArePinnedNoDelegationIsAsked(t *testing.T) {
	pinned, err := sign1.NewKeys(sign1.Key{Public: listKey.Public(), Role: sign1.RoleList, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	m, err := sign1.Sign(nil, sign1.RoleList, listKey, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	for _, front := range [][]byte{nil, signedBy(t, delegation(), stranger)} {
		w, err := (Trust{Pinned: pinned}).Warrant(front)
		if err != nil || w.Delegation.Version != 0 {
			t.Fatal(w.Delegation, err)
		}
		p, err := w.Keys.Verify(sign1.RoleList, m)
		if err == nil {
			err = w.Valid(p, issued.Add(100*365*24*time.Hour))
		}
		if err != nil {
			t.Error(err)
		}
	}
	// Where a root is trusted they are not.
	if _, err := (Trust{Pinned: pinned, Root: root(t, 1)}).Warrant(nil); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	w, err := (Trust{Pinned: pinned, Root: root(t, 1)}).Warrant(signedBy(t, func() Delegation { d := delegation(); d.Grants = d.Grants[1:]; return d }(), roots[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Keys.Verify(sign1.RoleList, m); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Error(err)
	}
}

func TestDelegationThatBreaksARuleIsNotSigned(t *testing.T) {
	for name, change := range map[string]func(*Delegation){
		"no scope":             func(d *Delegation) { d.Scope = "" },
		"a scope of 65 bytes":  func(d *Delegation) { d.Scope = string(bytes.Repeat([]byte("a"), 65)) },
		"no hierarchy":         func(d *Delegation) { d.Hierarchy = "" },
		"version 0":            func(d *Delegation) { d.Version = 0 },
		"no time":              func(d *Delegation) { d.IssuedAt = time.Time{} },
		"an end before":        func(d *Delegation) { d.NotAfter = d.IssuedAt },
		"no key":               func(d *Delegation) { d.Grants = nil },
		"a key twice":          func(d *Delegation) { d.Grants[1].Key = d.Grants[0].Key },
		"the role root":        func(d *Delegation) { d.Grants[0].Role = sign1.RoleRoot },
		"no role":              func(d *Delegation) { d.Grants[0].Role = "" },
		"a grant without time": func(d *Delegation) { d.Grants[0].NotBefore = time.Time{} },
		"a grant that is over": func(d *Delegation) { d.Grants[0].NotAfter = d.Grants[0].NotBefore },
		"no public key":        func(d *Delegation) { d.Grants[0].Key = "key" },
		"too many keys": func(d *Delegation) {
			for i := range MaxGrants {
				d.Grants = append(d.Grants, Grant{key(byte(0x80 + i)).Public(), sign1.RoleList, issued, issued.Add(time.Hour)})
			}
		},
	} {
		d := delegation()
		change(&d)
		if _, err := d.Sign(nil, roots[0]); !errors.Is(err, ErrMalformed) {
			t.Errorf("a delegation with %s: %v", name, err)
		}
	}
}

func TestJoinKeepsASignatureOnce(t *testing.T) {
	a, b := signedBy(t, delegation(), roots[0]), signedBy(t, delegation(), roots[1])
	both := joined(t, a, b)
	for _, again := range [][]byte{joined(t, both, a), joined(t, a, b, b), joined(t, both, both), joined(t, a[1:], b)} {
		if !bytes.Equal(again, both) {
			t.Errorf("%d bytes, want %d", len(again), len(both))
		}
	}
	for name, parts := range map[string][][]byte{
		"nothing": nil, "an empty one": {nil}, "garbage": {[]byte("garbage")}, "half": {a[:len(a)/2]}, "bytes behind": {append(bytes.Clone(a), 0)},
	} {
		if _, err := Join(parts); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many [][]byte
	for i := range MaxRoots + 1 {
		many = append(many, signedBy(t, delegation(), key(byte(i))))
	}
	if _, err := Join(many); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many: %v", err)
	}
	if _, err := Join(many[1:]); err != nil {
		t.Error(err)
	}
}

func TestPeekShowsWhatNobodyVerified(t *testing.T) {
	d, err := Peek(signedBy(t, delegation(), stranger))
	if err != nil || !reflect.DeepEqual(d, delegation()) {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := Peek([]byte{0x81, 0x00}); err == nil {
		t.Error("garbage is shown")
	}
}

func TestCutTakesTheDelegationOffWhatItJustifies(t *testing.T) {
	front := signedBy(t, delegation(), roots[:2]...)
	behind := []byte{tag18, 1, 2, 3}
	d, rest, err := Cut(append(bytes.Clone(front), behind...))
	if err != nil || !bytes.Equal(d, front) || !bytes.Equal(rest, behind) {
		t.Errorf("%d and %d bytes, %v", len(d), len(rest), err)
	}
	if d, rest, err := Cut(behind); err != nil || d != nil || !bytes.Equal(rest, behind) {
		t.Errorf("without one: %x, %x, %v", d, rest, err)
	}
	for n := 1; n < len(front); n++ {
		if _, _, err := Cut(front[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	gigantic := append([]byte{0x81, 0x5a, 0, 1, 0, 0}, make([]byte, 1<<16)...)
	for _, b := range [][]byte{gigantic, gigantic[:MaxSize+1], {0x81, 0xff}} {
		if _, _, err := Cut(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// A payload that parses, encoded again, gives the same bytes.
func FuzzDelegation(f *testing.F) {
	b, err := delegation().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decode(b)
		if err != nil {
			return
		}
		if again, err := d.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}

// What is cut off and joined again is the same, and nobody but the roots delegates.
func FuzzVerify(f *testing.F) {
	good := signedBy(f, delegation(), roots[:2]...)
	f.Add(good)
	f.Add(signedBy(f, delegation(), roots[0], stranger))
	r := root(f, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		front, rest, err := Cut(b)
		if err == nil && !bytes.Equal(append(bytes.Clone(front), rest...), b) {
			t.Fatalf("%x and %x of %x", front, rest, b)
		}
		if joined, err := Join([][]byte{b}); err == nil && Begins(b) {
			if again, err := Join([][]byte{joined}); err != nil || !bytes.Equal(again, joined) {
				t.Fatalf("%x, %v", again, err)
			}
		}
		if d, err := r.Verify(b); err == nil && !reflect.DeepEqual(d, delegation()) {
			t.Fatalf("%+v", d)
		}
	})
}
