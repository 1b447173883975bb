package lease

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

var (
	issued = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	secret = bytes.Repeat([]byte{0x22}, cardid.ScopeKeySize)
	terms  = Terms{"arena", "test", "gate-1-left", issued, issued.Add(7 * 24 * time.Hour)}
)

// A hub leases under a root of two keys.
type hub struct {
	lease, list ed25519.PrivateKey
	delegation  []byte
	trust       roles.Trust
}

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

func newHub(t testing.TB, change func(*roles.Delegation)) hub {
	t.Helper()
	h := hub{lease: private(1), list: private(2)}
	d := roles.Delegation{Scope: "arena", Hierarchy: "test", Version: 3, IssuedAt: issued, NotAfter: issued.Add(1000 * time.Hour)}
	for _, g := range []struct {
		key  ed25519.PrivateKey
		role sign1.Role
	}{{h.lease, sign1.RoleLease}, {h.list, sign1.RoleList}} {
		d.Grants = append(d.Grants, roles.Grant{Key: g.key.Public(), Role: g.role, NotBefore: issued, NotAfter: issued.Add(100 * time.Hour)})
	}
	if change != nil {
		change(&d)
	}
	root, err := roles.NewRoot(2, private(8).Public(), private(9).Public())
	if err != nil {
		t.Fatal(err)
	}
	h.trust = roles.Trust{Root: root}
	var signed [][]byte
	for _, n := range []byte{8, 9} {
		s, err := d.Sign(nil, private(n))
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, s)
	}
	if h.delegation, err = roles.Join(signed); err != nil {
		t.Fatal(err)
	}
	return h
}

func deliveryKey(t testing.TB) DeliveryKey {
	t.Helper()
	k, err := NewDeliveryKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (h hub) issue(t testing.TB, to DeliveryKey, terms Terms) []byte {
	t.Helper()
	public, err := to.Public()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Issue(h.lease, h.delegation, public, secret, terms)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLeaseOpensForItsTerminalUntilItsEnd(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	l, err := Read(h.issue(t, key, terms), h.trust)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := cardid.NewScopeKey(secret)
	if got, err := l.Open(key); err != nil || got.Check() != want.Check() {
		t.Errorf("opens as %x, %v", got.Check(), err)
	}
	if l.Terms != terms || l.Delegation() != 3 || l.For("arena", "test", "gate-1-left") != nil {
		t.Errorf("%+v", l.Terms)
	}
	if l.Ended(terms.NotAfter) || !l.Ended(terms.NotAfter.Add(time.Second)) {
		t.Error("its end is another second than it says")
	}
	if err := l.Valid(issued.Add(100 * time.Hour)); err != nil {
		t.Error(err)
	}
	if err := l.Valid(issued.Add(101 * time.Hour)); !errors.Is(err, roles.ErrExpired) {
		t.Errorf("signed by a role that has ended: %v", err)
	}
}

func TestPinnedKeysLeaseWithoutADelegation(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	pinned, err := sign1.NewKeys(sign1.Key{Public: h.lease.Public(), Role: sign1.RoleLease, Scope: "arena"})
	if err != nil {
		t.Fatal(err)
	}
	for _, delegation := range [][]byte{nil, h.delegation} { // one that is there is for others
		public, _ := key.Public()
		b, err := Issue(h.lease, delegation, public, secret, terms)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Read(b, roles.Trust{Pinned: pinned})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Open(key); err != nil || l.Valid(issued.AddDate(9, 0, 0)) != nil {
			t.Error(err)
		}
	}
}

func TestLeaseOfAnotherTerminalOpensNothing(t *testing.T) {
	h, key, other := newHub(t, nil), deliveryKey(t), deliveryKey(t)
	l, err := Read(h.issue(t, other, terms), h.trust)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Open(key); !errors.Is(err, ErrSealed) {
		t.Errorf("sealed for another delivery key: %v", err)
	}
	for _, who := range [][3]string{{"hall", "test", "gate-1-left"}, {"arena", "production", "gate-1-left"}, {"arena", "test", "gate-2"}} {
		if err := l.For(who[0], who[1], who[2]); !errors.Is(err, ErrNotOurs) {
			t.Errorf("%q: %v", who, err)
		}
	}
}

// Whoever has the lease key of a hub, and not the scope key, cannot give a sealed key
// other terms: they are bound to what is sealed.
func TestSealedKeyIsBoundToItsTerms(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	l, err := Read(h.issue(t, key, terms), h.trust)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Terms){
		"later end": func(t *Terms) { t.NotAfter = t.NotAfter.Add(time.Second) },
		"issued":    func(t *Terms) { t.IssuedAt = t.IssuedAt.Add(time.Second) },
		"terminal":  func(t *Terms) { t.Terminal = "gate-2" },
		"hierarchy": func(t *Terms) { t.Hierarchy = "production" },
		"scope":     func(t *Terms) { t.Scope = "hall" },
	} {
		moved := l
		change(&moved.Terms)
		if _, err := moved.Open(key); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	moved := l
	moved.Check[0] ^= 1
	if _, err := moved.Open(key); !errors.Is(err, ErrSealed) {
		t.Errorf("check value of another key: %v", err)
	}
}

func TestLeasesThatAreRefused(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	good := h.issue(t, key, terms)
	public, _ := key.Public()
	wrongRole := h
	wrongRole.lease = h.list
	stranger := h
	stranger.lease = private(7)
	hall := terms
	hall.Scope = "hall"
	production := terms
	production.Hierarchy = "production"
	asList, err := sign1.Sign(nil, sign1.RoleList, h.lease, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	undelegated, err := Issue(h.lease, nil, public, secret, terms)
	if err != nil {
		t.Fatal(err)
	}
	tampered := bytes.Clone(good)
	tampered[len(tampered)-80] ^= 1
	for _, c := range []struct {
		name string
		file []byte
		want error
	}{
		{"key of another role", wrongRole.issue(t, key, terms), sign1.ErrRole},
		{"unknown key", stranger.issue(t, key, terms), sign1.ErrUnknownKey},
		{"another scope than the key's", h.issue(t, key, hall), ErrNotOurs},
		{"another hierarchy than the delegation's", h.issue(t, key, production), ErrNotOurs},
		{"signed for another role", append(bytes.Clone(h.delegation), asList...), sign1.ErrSignature},
		{"no delegation", undelegated, roles.ErrMissing},
		{"tampered", tampered, sign1.ErrSignature},
		{"truncated", good[:len(good)-1], sign1.ErrMalformed},
		{"bytes behind it", append(bytes.Clone(good), 0), sign1.ErrMalformed},
		{"gigantic", make([]byte, MaxFile+1), ErrMalformed},
		{"a web page", []byte("<html>"), roles.ErrMissing},
		{"empty", nil, roles.ErrMissing},
	} {
		if _, err := Read(c.file, h.trust); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := Read(good, roles.Trust{}); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Errorf("nobody is trusted: %v", err)
	}
}

func TestTermsThatMakeNoSenseAreNotIssued(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	public, _ := key.Public()
	for what, change := range map[string]func(*Terms){
		"no scope":       func(t *Terms) { t.Scope = "" },
		"long terminal":  func(t *Terms) { t.Terminal = strings.Repeat("a", 65) },
		"line in a name": func(t *Terms) { t.Terminal = "a\nb" },
		"hierarchy":      func(t *Terms) { t.Hierarchy = "demo" },
		"ends first":     func(t *Terms) { t.NotAfter = t.IssuedAt },
		"too long":       func(t *Terms) { t.NotAfter = t.IssuedAt.Add(MaxTerm + time.Second) },
		"before 1970":    func(t *Terms) { t.IssuedAt = time.Time{} },
	} {
		changed := terms
		change(&changed)
		if _, err := Issue(h.lease, nil, public, secret, changed); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Issue(h.lease, nil, public, secret[:31], terms); err == nil {
		t.Error("a short scope key is leased")
	}
}

func TestOlderDelegationIsRefused(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	l, err := Read(h.issue(t, key, terms), h.trust)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.NotBefore(4); !errors.Is(err, roles.ErrOlder) {
		t.Errorf("version 3 after 4: %v", err)
	}
	if err := l.NotBefore(3); err != nil {
		t.Error(err)
	}
}

func TestDeliveryKeyGoesAroundAndNeverPrintsItself(t *testing.T) {
	key := deliveryKey(t)
	b, err := key.Bytes()
	if err != nil || len(b) != 32 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	again, err := ParseDeliveryKey(b)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := key.Public()
	same, _ := again.Public()
	if !public.Equal(same) {
		t.Error("read back it is another key")
	}
	text, err := MarshalPublic(public)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := ParsePublic(append([]byte("terminal gate-1-left\n"), text...)); err != nil || !parsed.Equal(public) {
		t.Errorf("%v", err)
	}
	if kcv, err := keystore.KCV(public); err != nil || len(kcv) != 19 {
		t.Errorf("fingerprint %q, %v", kcv, err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := sign1.MarshalPublicKey(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{nil, []byte("age1"), wrong} {
		if _, err := ParsePublic(text); err == nil {
			t.Errorf("%q is taken for a delivery key", text)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(verb+verb, key, struct{ k DeliveryKey }{key}); strings.Contains(s, fmt.Sprintf("%x", b)) || !strings.Contains(s, "redacted") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

// Whatever is read was signed as it is.
func FuzzDecode(f *testing.F) {
	h, key := newHub(f, nil), deliveryKey(f)
	l, err := Read(h.issue(f, key, terms), h.trust)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.payload.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decode(b)
		if err != nil {
			return
		}
		if again, err := encode(l.Terms, l.Check, l.sealed); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded as %x, %v", b, again, err)
		}
	})
}

// Who has a lease key may write any times: a lease from a far future would last until there.
func TestLeaseThatEndsInAFarFutureIsNotTakenOver(t *testing.T) {
	h, key := newHub(t, nil), deliveryKey(t)
	for name, issuedAt := range map[string]time.Time{"in two years": issued.AddDate(2, 0, 0), "in 9998": time.Date(9998, 12, 31, 0, 0, 0, 0, time.UTC)} {
		far := terms
		far.IssuedAt, far.NotAfter = issuedAt, issuedAt.Add(300*24*time.Hour)
		l, err := Read(h.issue(t, key, far), h.trust)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Valid(issued.Add(time.Hour)); !errors.Is(err, ErrFar) {
			t.Errorf("issued %s: %v", name, err)
		}
	}
	longest := terms
	longest.IssuedAt, longest.NotAfter = issued.Add(time.Hour), issued.Add(time.Hour+MaxTerm)
	l, err := Read(h.issue(t, key, longest), h.trust)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Valid(issued); err != nil {
		t.Errorf("the longest, by a hub whose clock is an hour ahead: %v", err)
	}
}
