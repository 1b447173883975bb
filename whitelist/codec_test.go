package whitelist

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

func TestZeroValuesAreSafe(t *testing.T) {
	if (Policy{}).Expired != Deny || (Policy{}).StaleRevocation != Deny || (Policy{}).UntrustedClock != Deny {
		t.Error("the zero policy does not deny")
	}
	if (Row{}).Status == Active {
		t.Error("the zero row is active")
	}
}

func TestRowRules(t *testing.T) {
	good := func() Row {
		return Row{Status: Active, Entitlements: []Entitlement{{ID: "a", NotBefore: issued, NotAfter: issued.Add(time.Second)}}}
	}
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint("g", i))
		}
		return names
	}
	for _, c := range []struct {
		name string
		ok   bool
		set  func(*Row)
	}{
		{"as it is", true, func(r *Row) {}},
		{"no status", false, func(r *Row) { r.Status = 0 }},
		{"unknown status", false, func(r *Row) { r.Status = CertificateRevoked + 1 }},
		{"no entitlement", false, func(r *Row) { r.Entitlements = nil }},
		{"most entitlements", true, func(r *Row) {
			r.Entitlements = nil
			for _, n := range many(MaxEntitlements) {
				r.Entitlements = append(r.Entitlements, Entitlement{ID: n})
			}
		}},
		{"too many entitlements", false, func(r *Row) {
			for _, n := range many(MaxEntitlements) {
				r.Entitlements = append(r.Entitlements, Entitlement{ID: n})
			}
		}},
		{"one entitlement twice", false, func(r *Row) { r.Entitlements = append(r.Entitlements, r.Entitlements[0]) }},
		{"no ID", false, func(r *Row) { r.Entitlements[0].ID = "" }},
		{"longest ID", true, func(r *Row) { r.Entitlements[0].ID = strings.Repeat("a", MaxName) }},
		{"too long ID", false, func(r *Row) { r.Entitlements[0].ID = strings.Repeat("a", MaxName+1) }},
		{"ID with a line break", false, func(r *Row) { r.Entitlements[0].ID = "a\nb" }},
		{"ID not UTF-8", false, func(r *Row) { r.Entitlements[0].ID = "a\xff" }},
		{"valid for ever", true, func(r *Row) { r.Entitlements[0].NotBefore, r.Entitlements[0].NotAfter = time.Time{}, time.Time{} }},
		{"ends when it begins", false, func(r *Row) { r.Entitlements[0].NotAfter = issued }},
		{"ends before it begins", false, func(r *Row) { r.Entitlements[0].NotAfter = issued.Add(-time.Hour) }},
		{"before 1970", false, func(r *Row) { r.Entitlements[0].NotBefore = time.Unix(-1, 0) }},
		{"at the unix epoch", false, func(r *Row) { r.Entitlements[0].NotBefore = time.Unix(0, 0) }},
		{"after 9999", false, func(r *Row) { r.Entitlements[0].NotAfter = time.Unix(strictcbor.LastSecond+1, 0) }},
		{"one gate", true, func(r *Row) { r.Entitlements[0].Gates = []string{"north"} }},
		{"one gate twice", false, func(r *Row) { r.Entitlements[0].Gates = []string{"north", "north"} }},
		{"nameless gate", false, func(r *Row) { r.Entitlements[0].Gates = []string{""} }},
		{"most gates", true, func(r *Row) { r.Entitlements[0].Gates = many(MaxGates) }},
		{"too many gates", false, func(r *Row) { r.Entitlements[0].Gates = many(MaxGates + 1) }},
		{"RSA-2048", true, func(r *Row) { r.AuthKey = key(rsaKey(2048, 1)) }},
		{"P-384", true, func(r *Row) { r.CardKey = key(p384Key(1)) }},
		{"leap day", true, func(r *Row) { r.BirthDate = "20000229" }},
		{"no such day", false, func(r *Row) { r.BirthDate = "20010229" }},
		{"six digits", false, func(r *Row) { r.BirthDate = "010101" }},
	} {
		r := good()
		c.set(&r)
		b, err := r.encode()
		if c.ok && err != nil || !c.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.ok {
			if _, err := decodeRow(b); err != nil {
				t.Errorf("%s comes back with %v", c.name, err)
			}
		}
	}
}

func TestManifestRules(t *testing.T) {
	for _, c := range []struct {
		name string
		ok   bool
		set  func(*Manifest)
	}{
		{"as it is", true, func(m *Manifest) {}},
		{"no scope", false, func(m *Manifest) { m.Scope = "" }},
		{"no hierarchy", false, func(m *Manifest) { m.Hierarchy = "" }},
		{"unknown hierarchy", false, func(m *Manifest) { m.Hierarchy = "staging" }},
		{"greatest numbers", true, func(m *Manifest) { m.Epoch, m.Seq = 1<<64-1, 1<<64-1 }},
		{"not issued", false, func(m *Manifest) { m.IssuedAt = time.Time{} }},
		{"without an end", false, func(m *Manifest) { m.NotAfter = time.Time{} }},
		{"ends when issued", false, func(m *Manifest) { m.NotAfter = m.IssuedAt }},
		{"no revocation data", true, func(m *Manifest) { m.RevocationAsOf = time.Time{} }},
		{"revocation of the same second", true, func(m *Manifest) { m.RevocationAsOf = m.IssuedAt }},
		{"revocation of the future", false, func(m *Manifest) { m.RevocationAsOf = m.IssuedAt.Add(time.Second) }},
		{"unknown action", false, func(m *Manifest) { m.Policy.Expired = Warn + 1 }},
		{"negative age", false, func(m *Manifest) { m.Policy.RevocationMaxAge = -time.Second }},
		{"greatest age", true, func(m *Manifest) { m.Policy.RevocationMaxAge = maxAge }},
		{"too great an age", false, func(m *Manifest) { m.Policy.RevocationMaxAge = maxAge + time.Second }},
	} {
		m := manifest()
		c.set(&m)
		b, err := m.encode()
		if c.ok && err != nil || !c.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.ok {
			if again, err := decodeManifest(b); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("%s comes back as %+v, %v", c.name, again, err)
			}
		}
	}
}

func TestFractionsOfASecondAreDropped(t *testing.T) {
	m := manifest()
	m.IssuedAt = m.IssuedAt.Add(999 * time.Millisecond).In(time.FixedZone("JST", 9*3600))
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeManifest(b); err != nil || !reflect.DeepEqual(got, manifest()) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestManifestsAreOrderedByEpochThenSequence(t *testing.T) {
	at := func(e, s uint64) Manifest { return Manifest{Epoch: e, Seq: s} }
	ascending := []Manifest{at(0, 0), at(0, 9), at(1, 0), at(1, 1), at(2, 0), at(1<<63, 0), at(1<<64-1, 1)}
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := a.Compare(b), min(1, max(-1, i-j)); got != want {
				t.Errorf("%d, %d: %d", i, j, got)
			}
		}
	}
}

// fields returns what was encoded as a map to be spoilt.
func fields(t *testing.T, b []byte) map[int]any {
	t.Helper()
	var m map[int]any
	if err := cbor.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestManifestHasOneEncoding(t *testing.T) {
	good, err := manifest().encode()
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(set func(map[int]any)) []byte {
		m := fields(t, good)
		set(m)
		// As codec, but tags are let through.
		mode, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := mode.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(good, spoil(func(map[int]any) {})) {
		t.Fatal("the map is not the manifest")
	}
	for name, b := range map[string][]byte{
		"empty":             nil,
		"null":              {0xf6},
		"array":             {0x80},
		"byte behind":       append(bytes.Clone(good), 0),
		"indefinite length": append(append([]byte{0xbf}, good[1:]...), 0xff),
		"unknown key":       spoil(func(m map[int]any) { m[16] = 1 }),
		"missing key":       spoil(func(m map[int]any) { delete(m, 10) }),
		"null scope":        spoil(func(m map[int]any) { m[1] = nil }),
		"scope as bytes":    spoil(func(m map[int]any) { m[1] = []byte(scope) }),
		"tagged time":       spoil(func(m map[int]any) { m[5] = cbor.RawMessage{0xc1, 0x1a, 0x60, 0, 0, 0} }),
		"time as float":     spoil(func(m map[int]any) { m[5] = 1.5e9 }),
		"time 0":            spoil(func(m map[int]any) { m[7] = 0 }),
		"time out of range": spoil(func(m map[int]any) { m[6] = uint64(1 << 63) }),
		"endless age":       spoil(func(m map[int]any) { m[8] = map[int]any{1: 0, 2: 0, 3: 0, 4: uint64(1<<64 - 1)} }),
		"policy too short":  spoil(func(m map[int]any) { m[8] = map[int]any{1: 0, 2: 0, 3: 0} }),
		"digest too short":  spoil(func(m map[int]any) { m[11] = make([]byte, 31) }),
		"digest too long":   spoil(func(m map[int]any) { m[11] = make([]byte, 33) }),
		"digest as array":   spoil(func(m map[int]any) { m[11] = make([]int, 32) }),
		"negative count":    spoil(func(m map[int]any) { m[10] = -1 }),
		"version 0":         spoil(func(m map[int]any) { m[0] = 0 }),
		"key twice":         append([]byte{good[0] + 1, 0x00, 0x01}, good[1:]...),
		"keys out of order": append(append([]byte{good[0]}, good[3:]...), good[1:3]...),
	} {
		if _, err := decodeManifest(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeManifest(spoil(func(m map[int]any) { m[0] = 4; m[12] = "new" })); err == nil || !strings.Contains(err.Error(), "update") {
		t.Errorf("a newer version: %v", err)
	}
}

func TestRowHasOneEncoding(t *testing.T) {
	good, err := listed()[0].Row.encode()
	if err != nil {
		t.Fatal(err)
	}
	spki := func(public any) []byte {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(map[int]any){
		"unknown key":           func(m map[int]any) { m[6] = 1 },
		"no status":             func(m map[int]any) { delete(m, 1) },
		"entitlements null":     func(m map[int]any) { m[2] = nil },
		"entitlements empty":    func(m map[int]any) { m[2] = []any{} },
		"empty key":             func(m map[int]any) { m[3] = []byte{} },
		"null key":              func(m map[int]any) { m[3] = nil },
		"key not DER":           func(m map[int]any) { m[3] = []byte("key") },
		"key of another curve":  func(m map[int]any) { m[3] = spki(&p256.PublicKey) },
		"key of RSA-1024":       func(m map[int]any) { m[4] = spki(rsaKey(1024, 1)) },
		"key of RSA-4096":       func(m map[int]any) { m[3] = spki(rsaKey(4096, 1)) },
		"key with exponent 3":   func(m map[int]any) { m[4] = spki(&rsa.PublicKey{N: rsaKey(2048, 1).N, E: 3}) },
		"byte behind the key":   func(m map[int]any) { m[3] = append(m[3].([]byte), 0) },
		"empty birth date":      func(m map[int]any) { m[5] = "" },
		"birth date as number":  func(m map[int]any) { m[5] = 19840229 },
		"unlimited uses, said":  func(m map[int]any) { m[2] = []any{map[int]any{1: "a", 5: 0}} },
		"too many uses":         func(m map[int]any) { m[2] = []any{map[int]any{1: "a", 5: uint64(1 << 32)}} },
		"empty gates":           func(m map[int]any) { m[2] = []any{map[int]any{1: "a", 4: []any{}}} },
		"unknown in a right":    func(m map[int]any) { m[2] = []any{map[int]any{1: "a", 16: 0}} },
		"right without an ID":   func(m map[int]any) { m[2] = []any{map[int]any{5: 1}} },
		"right as an array":     func(m map[int]any) { m[2] = []any{[]any{"a"}} },
		"right as text":         func(m map[int]any) { m[2] = []any{"a"} },
		"status above 255":      func(m map[int]any) { m[1] = 257 },
		"status as boolean":     func(m map[int]any) { m[1] = true },
		"gates nested too deep": func(m map[int]any) { m[2] = []any{map[int]any{1: "a", 4: []any{[]any{[]any{"x"}}}}} },
	} {
		m := fields(t, good)
		set(m)
		b, err := codec.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRow(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRowOpensOnlyWithItsOwnHeadScopeAndKey(t *testing.T) {
	l := listed()[0]
	plain, err := l.Row.encode()
	if err != nil {
		t.Fatal(err)
	}
	key := scopeKey(t)
	other, err := cardid.NewScopeKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.Seal(scope, 1, l.Head, plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRow(key, scope, l.Head, sealed); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (Row, error){
		"head":  func() (Row, error) { return OpenRow(key, scope, head(99), sealed) },
		"scope": func() (Row, error) { return OpenRow(key, "stadium", l.Head, sealed) },
		"key":   func() (Row, error) { return OpenRow(other, scope, l.Head, sealed) },
	} {
		if _, err := open(); !errors.Is(err, cardid.ErrSealed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestCommonRowFitsTheClassMadeForIt(t *testing.T) {
	for i, want := range []int{768, 128, 384, 384} {
		plain, err := listed()[i].Row.encode()
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := scopeKey(t).Seal(scope, 1, head(1), plain)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(sealed) - cardid.Overhead; got != want {
			t.Errorf("row %d of %d bytes is padded to %d, not %d", i, len(plain), got, want)
		}
	}
}

// A manifest that parses, encoded again, gives the same bytes.
func FuzzManifest(f *testing.F) {
	b, err := manifest().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = published().encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = venueManifest().encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}

// A row that parses, encoded again, gives the same bytes, and keeps its rules.
func FuzzRow(f *testing.F) {
	for _, l := range append(listed(), venueListed()...) {
		b, err := l.Row.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRow(b)
		if err != nil {
			return
		}
		if len(r.Entitlements) == 0 || r.Status == 0 {
			t.Fatalf("%+v", r)
		}
		if again, err := r.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}

func BenchmarkOpenRow(b *testing.B) {
	l := listed()[0]
	plain, err := l.Row.encode()
	if err != nil {
		b.Fatal(err)
	}
	key := scopeKey(b)
	sealed, err := key.Seal(scope, 1, l.Head, plain)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := OpenRow(key, scope, l.Head, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
