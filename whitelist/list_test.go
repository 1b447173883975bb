package whitelist

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

const scope = "arena"

var (
	listKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x11}, 32))
	issued  = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
)

func trust(t testing.TB) roles.Trust {
	t.Helper()
	keys, err := sign1.NewKeys(sign1.Key{Public: listKey.Public(), Role: sign1.RoleList, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return roles.Trust{Pinned: keys}
}

func scopeKey(t testing.TB) cardid.ScopeKey {
	t.Helper()
	k, err := cardid.NewScopeKey(bytes.Repeat([]byte{0x22}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKey returns a public key with a modulus of that many bits and no known factors.
func rsaKey(bits, n int) *rsa.PublicKey {
	var b []byte
	for i := 0; len(b) < bits/8; i++ {
		h := sha256.Sum256(fmt.Appendf(nil, "modulus %d.%d", n, i))
		b = append(b, h[:]...)
	}
	b = b[:bits/8]
	b[0] |= 0x80
	b[len(b)-1] |= 1
	return &rsa.PublicKey{N: new(big.Int).SetBytes(b), E: 65537}
}

// p384Key returns the public key of a scalar made from n.
func p384Key(n int) *ecdsa.PublicKey {
	scalar := sha512.Sum384(fmt.Appendf(nil, "scalar %d", n))
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar[:])
	if err != nil {
		panic(err)
	}
	return &private.PublicKey
}

func key(public crypto.PublicKey) cardkey.Key {
	k, err := cardkey.New(public)
	if err != nil {
		panic(err)
	}
	return k
}

func head(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "head %06d ", n), 20) }

func manifest() Manifest {
	return Manifest{
		Scope: scope, Hierarchy: Test, Epoch: 1, Seq: 7,
		IssuedAt: issued, NotAfter: issued.Add(24 * time.Hour), RevocationAsOf: issued.Add(-time.Hour),
		Policy: Policy{Expired: Attend, StaleRevocation: Warn, UntrustedClock: Deny, RevocationMaxAge: 48 * time.Hour},
	}
}

// listed holds every field of a row at least once.
func listed() []Listed {
	return []Listed{
		{head(1), Row{Status: Active, Entitlements: []Entitlement{{ID: "season-1"}}, AuthKey: key(rsaKey(2048, 1)), CardKey: key(rsaKey(2048, 2))}},
		{head(2), Row{Status: Revoked, Entitlements: []Entitlement{{ID: "season-2"}}}},
		{head(3), Row{Status: Blocked, Entitlements: []Entitlement{{ID: "day"}, {
			ID: "党員券 5", NotBefore: issued, NotAfter: issued.Add(time.Hour), Gates: []string{"north", "east"}, Uses: 3,
		}}, CardKey: key(rsaKey(2048, 3))}},
		{head(4), Row{Status: Active, Entitlements: []Entitlement{{ID: "first", NotAfter: issued}}, AuthKey: key(p384Key(4)), BirthDate: "19840229"}},
	}
}

func write(t testing.TB, m Manifest, rows []Listed) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, listKey, scopeKey(t), m, rows); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// forge signs a manifest over any bytes behind it: what a hub gone wrong may make.
func forge(t testing.TB, rows uint64, behind []byte) []byte {
	t.Helper()
	m := manifest()
	m.Rows, m.RowsSHA256 = rows, sha256.Sum256(behind)
	payload, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(signed(t, listKey, payload), behind...)
}

func signed(t testing.TB, key crypto.Signer, payload []byte) []byte {
	t.Helper()
	msg, err := sign1.Sign(nil, sign1.RoleList, key, payload)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func read(keys roles.Trust, file io.Reader) (Manifest, []SealedRow, error) {
	r, err := NewReader(file, keys)
	if err != nil {
		return Manifest{}, nil, err
	}
	var rows []SealedRow
	for {
		row, err := r.Next()
		if err == io.EOF {
			return r.Manifest(), rows, nil
		}
		if err != nil {
			return Manifest{}, nil, err
		}
		rows = append(rows, SealedRow{row.ID, bytes.Clone(row.Sealed)})
	}
}

func TestListComesBackAsItWasWritten(t *testing.T) {
	rows := listed()
	m, sealed, err := read(trust(t), bytes.NewReader(write(t, manifest(), rows)))
	if err != nil {
		t.Fatal(err)
	}
	want := manifest()
	want.ScopeKeyCheck, want.Rows, want.RowsSHA256 = m.ScopeKeyCheck, uint64(len(rows)), m.RowsSHA256
	if !reflect.DeepEqual(m, want) {
		t.Errorf("manifest\n%+v, want\n%+v", m, want)
	}
	key := scopeKey(t)
	for i, l := range rows {
		at := slices.IndexFunc(sealed, func(s SealedRow) bool { return s.ID == key.ID(l.Head) })
		if at < 0 {
			t.Fatalf("row %d is missing", i)
		}
		got, err := OpenRow(key, scope, l.Head, sealed[at].Sealed)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, l.Row) {
			t.Errorf("row %d\n%+v, want\n%+v", i, got, l.Row)
		}
	}
}

func TestEmptyListIsAList(t *testing.T) {
	if _, rows, err := read(trust(t), bytes.NewReader(write(t, manifest(), nil))); err != nil || len(rows) != 0 {
		t.Error(len(rows), err)
	}
}

func TestSameInputInAnyOrderGivesTheSameBytes(t *testing.T) {
	rows := listed()
	first := write(t, manifest(), rows)
	slices.Reverse(rows)
	if !bytes.Equal(first, write(t, manifest(), rows)) {
		t.Error("two builds differ")
	}
}

func TestNewEpochSealsEveryRowAnew(t *testing.T) {
	m := manifest()
	_, a, err := read(trust(t), bytes.NewReader(write(t, m, listed())))
	if err != nil {
		t.Fatal(err)
	}
	m.Epoch++
	_, b, err := read(trust(t), bytes.NewReader(write(t, m, listed())))
	if err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if a[i].ID != b[i].ID || bytes.Equal(a[i].Sealed, b[i].Sealed) {
			t.Errorf("row %d", i)
		}
	}
}

func TestCertificateListedTwiceIsNotWritten(t *testing.T) {
	rows := append(listed(), listed()[0])
	if err := Write(io.Discard, listKey, scopeKey(t), manifest(), rows); !errors.Is(err, ErrOrder) {
		t.Error(err)
	}
}

func TestTruncatedListIsRefusedWhereverItEnds(t *testing.T) {
	file := write(t, manifest(), listed())
	for n := range file {
		if _, _, err := read(trust(t), bytes.NewReader(file[:n])); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d bytes: %v", n, len(file), err)
		}
	}
}

func TestBytesBehindTheLastRowAreRefused(t *testing.T) {
	file := append(write(t, manifest(), listed()), 0)
	if _, _, err := read(trust(t), bytes.NewReader(file)); !errors.Is(err, ErrTrailing) {
		t.Error(err)
	}
}

func TestEveryTamperedByteIsNoticed(t *testing.T) {
	file := write(t, manifest(), listed())
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		if _, _, err := read(trust(t), bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d of %d", i, len(file))
		}
	}
}

func TestTamperedRowIsRefused(t *testing.T) {
	file := write(t, manifest(), listed())
	file[len(file)-1] ^= 1
	if _, _, err := read(trust(t), bytes.NewReader(file)); !errors.Is(err, ErrTampered) {
		t.Error(err)
	}
}

func TestRowsOutOfOrderAreRefused(t *testing.T) {
	a := SealedRow{cardid.CardID{1}, make([]byte, 168)}
	b := SealedRow{cardid.CardID{2}, make([]byte, 168)}
	for name, rows := range map[string][]SealedRow{"unsorted": {b, a}, "duplicate": {a, a}} {
		var behind []byte
		for _, r := range rows {
			behind = AppendRow(behind, r)
		}
		if _, _, err := read(trust(t), bytes.NewReader(forge(t, 2, behind))); !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := read(trust(t), bytes.NewReader(forge(t, 2, AppendRow(AppendRow(nil, a), b)))); err != nil {
		t.Errorf("in order: %v", err)
	}
}

func TestRowCountMustBeAsSigned(t *testing.T) {
	one := AppendRow(nil, SealedRow{cardid.CardID{1}, make([]byte, 168)})
	if _, _, err := read(trust(t), bytes.NewReader(forge(t, 2, one))); !errors.Is(err, ErrTruncated) {
		t.Errorf("too few: %v", err)
	}
	if _, _, err := read(trust(t), bytes.NewReader(forge(t, 0, one))); !errors.Is(err, ErrTrailing) {
		t.Errorf("too many: %v", err)
	}
}

func TestOversizedRowIsRefused(t *testing.T) {
	big := AppendRow(nil, SealedRow{cardid.CardID{1}, make([]byte, MaxRow+1)})
	if _, _, err := read(trust(t), bytes.NewReader(forge(t, 1, big))); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := writeSealed(io.Discard, listKey, [16]byte{}, manifest(), []SealedRow{{Sealed: make([]byte, MaxRow+1)}}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestOversizedHeaderIsRefused(t *testing.T) {
	// A tagged array whose first byte string goes on for 64 KiB and more.
	file := append([]byte{0xd2, 0x84, 0x5a, 0x00, 0x01, 0x00, 0x00}, make([]byte, 2*MaxHeader)...)
	if _, _, err := read(trust(t), bytes.NewReader(file)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestOversizedFileIsRefused(t *testing.T) {
	if _, _, err := read(trust(t), bytes.NewReader(forge(t, 1<<40, nil))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("by its count: %v", err)
	}
	r, err := NewReader(bytes.NewReader(write(t, manifest(), listed())), trust(t))
	if err != nil {
		t.Fatal(err)
	}
	r.rows.left = 1000 // as if 2 GiB had nearly been read
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("by its bytes: %v", err)
	}
	if _, again := r.Next(); again != err {
		t.Errorf("an error is not final: %v", again)
	}
}

func TestRowsHaveOneForm(t *testing.T) {
	good := AppendRow(nil, SealedRow{cardid.CardID{1}, make([]byte, 168)})
	for name, behind := range map[string][]byte{
		"array of three":        append([]byte{0x83}, good[1:]...),
		"indefinite array":      append(append([]byte{0x9f}, good[1:]...), 0xff),
		"text instead of bytes": append([]byte{0x82, 0x78}, good[2:]...),
		"longer length":         slices.Concat(good[:35], []byte{0x59, 0x00}, good[36:]),
		"row of 24 bytes":       slices.Concat(good[:35], []byte{0x58, 24}, make([]byte, 24)),
		"row of 16 bytes":       slices.Concat(good[:35], []byte{0x50}, make([]byte, 16)),
	} {
		if _, _, err := read(trust(t), bytes.NewReader(forge(t, 1, behind))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListSignedByAnotherKeyIsRefused(t *testing.T) {
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x12}, 32))
	var b bytes.Buffer
	if err := Write(&b, other, scopeKey(t), manifest(), listed()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewReader(&b, trust(t)); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Error(err)
	}
}

func TestKeyOfOneScopeCannotSignForAnother(t *testing.T) {
	m := manifest()
	m.Scope = "stadium"
	if _, err := NewReader(bytes.NewReader(write(t, m, nil)), trust(t)); !errors.Is(err, ErrScope) {
		t.Error(err)
	}
}

func TestPayloadOfAnotherRoleIsNoManifest(t *testing.T) {
	payload, err := manifest().encode()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := sign1.Sign(nil, "command", listKey, payload)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign1.NewKeys(sign1.Key{Public: listKey.Public(), Role: "command", Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	p, err := keys.Verify("command", msg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []sign1.Payload{p, {}} {
		if _, err := ParseManifest(p); !errors.Is(err, sign1.ErrRole) {
			t.Errorf("role %q: %v", p.Role(), err)
		}
	}
}

func TestSomethingElseIsNotAList(t *testing.T) {
	for _, file := range []string{"\x00", "<!DOCTYPE html><title>404</title>", "\xff", "SQLite format 3\x00", strings.Repeat("\x80", 100)} {
		if _, err := NewReader(strings.NewReader(file), trust(t)); !errors.Is(err, sign1.ErrMalformed) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTruncated) {
			t.Errorf("%.10q: %v", file, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestReadErrorIsNotTheEndOfTheList(t *testing.T) {
	file := write(t, manifest(), listed())
	unplugged := errors.New("stick unplugged")
	for _, n := range []int{0, 10, len(file) - 1000, len(file)} {
		if _, _, err := read(trust(t), io.MultiReader(bytes.NewReader(file[:n]), failing{unplugged})); !errors.Is(err, unplugged) {
			t.Errorf("after %d of %d bytes: %v", n, len(file), err)
		}
	}
}

// A file that reads without error is what writing its rows again gives. The
// bytes behind the manifest are signed as they come, so that the rows' own
// parser is reached.
func FuzzReader(f *testing.F) {
	keys := trust(f)
	file := write(f, manifest(), listed()[:2])
	r, err := NewReader(bytes.NewReader(file), keys)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(0), []byte(nil))
	f.Add(uint64(2), file[len(r.Head().Bytes):])
	f.Add(uint64(1), AppendRow(nil, SealedRow{Sealed: make([]byte, 200)}))
	f.Fuzz(func(t *testing.T, n uint64, behind []byte) {
		if _, _, err := read(keys, bytes.NewReader(behind)); err == nil {
			t.Fatal("a list without our signature")
		}
		_, rows, err := read(keys, bytes.NewReader(forge(t, n, behind)))
		if err != nil {
			return
		}
		var again []byte
		for _, row := range rows {
			again = AppendRow(again, row)
		}
		if !bytes.Equal(again, behind) || uint64(len(rows)) != n {
			t.Fatalf("%d rows of %d:\n%x\n%x", len(rows), n, behind, again)
		}
	})
}
