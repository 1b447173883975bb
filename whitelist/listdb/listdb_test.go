package listdb

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

const scope = "arena"

var (
	listKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x11}, 32))
	issued  = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	now     = issued.Add(time.Hour)
)

func scopeKey(t rapid.TB) cardid.ScopeKey {
	t.Helper()
	k, err := cardid.NewScopeKey(bytes.Repeat([]byte{0x22}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func config(t rapid.TB, dir string) Config {
	t.Helper()
	return Config{Dir: dir, Scope: scope, Hierarchy: whitelist.Test, Trust: pinned(t), ScopeKey: scopeKey(t)}
}

func pinned(t rapid.TB) roles.Trust {
	t.Helper()
	keys, err := sign1.NewKeys(
		sign1.Key{Public: listKey.Public(), Role: sign1.RoleList, Scope: scope},
		sign1.Key{Public: stadiumKey.Public(), Role: sign1.RoleList, Scope: "stadium"},
		sign1.Key{Public: commandKey.Public(), Role: "command", Scope: scope},
	)
	if err != nil {
		t.Fatal(err)
	}
	return roles.Trust{Pinned: keys}
}

var (
	stadiumKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x12}, 32))
	commandKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x13}, 32))
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func head(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "head %07d", n), 20) }

// rsaKey returns a 2048-bit public key with no known factors.
func rsaKey(n int) cardkey.Key {
	var b []byte
	for i := range 8 {
		h := sha256.Sum256(fmt.Appendf(nil, "modulus %d.%d", n, i))
		b = append(b, h[:]...)
	}
	b[0] |= 0x80
	b[len(b)-1] |= 1
	k, err := cardkey.New(&rsa.PublicKey{N: new(big.Int).SetBytes(b), E: 65537})
	if err != nil {
		panic(err)
	}
	return k
}

func row(n int) whitelist.Row {
	return whitelist.Row{
		Status:       whitelist.Active,
		Entitlements: []whitelist.Entitlement{{ID: fmt.Sprint("season-", n)}},
		AuthKey:      rsaKey(2 * n), CardKey: rsaKey(2*n + 1),
	}
}

func manifest(seq uint64) whitelist.Manifest {
	return whitelist.Manifest{
		Scope: scope, Hierarchy: whitelist.Test, Epoch: 1, Seq: seq,
		IssuedAt: issued, NotAfter: issued.Add(24 * time.Hour),
	}
}

// list returns a list file with rows 0 to n-1.
func list(t testing.TB, m whitelist.Manifest, n int) []byte {
	t.Helper()
	return listBy(t, listKey, scopeKey(t), m, n)
}

func listBy(t testing.TB, signer ed25519.PrivateKey, key cardid.ScopeKey, m whitelist.Manifest, n int) []byte {
	t.Helper()
	rows := make([]whitelist.Listed, n)
	for i := range rows {
		rows[i] = whitelist.Listed{Head: head(i), Row: row(i)}
	}
	var b bytes.Buffer
	if err := whitelist.Write(&b, signer, key, m, rows); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func load(t testing.TB, s *Store, file []byte) {
	t.Helper()
	if _, err := s.Import(t.Context(), bytes.NewReader(file), now, nil); err != nil {
		t.Fatal(err)
	}
}

// inForce fails the test unless the list with that number is in force, whole,
// and the folder holds nothing but its files.
func inForce(t testing.TB, s *Store, seq uint64) {
	t.Helper()
	v, err := s.Current()
	if err != nil {
		t.Fatalf("list %d is not in force: %v", seq, err)
	}
	defer v.Release()
	if got := v.Manifest().Seq; got != seq {
		t.Errorf("list %d is in force, not %d", got, seq)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{listFile + staged, headFile + staged, floorFile + staged, listFile + "-journal", listFile + "-wal"} {
		if _, err := os.Stat(filepath.Join(s.cfg.Dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind", name)
		}
	}
}

func TestImportedListAnswersForItsRowsAndNoOthers(t *testing.T) {
	s := open(t, t.TempDir())
	var told []uint64
	m, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(1), 1500)), now, func(n uint64) { told = append(told, n) })
	if err != nil {
		t.Fatal(err)
	}
	if m.Rows != 1500 || !reflect.DeepEqual(told, []uint64{1000, 1500}) {
		t.Errorf("%d rows, progress %v", m.Rows, told)
	}
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if !reflect.DeepEqual(v.Manifest(), m) {
		t.Error("another manifest is in force")
	}
	for _, n := range []int{0, 1234, 1499} {
		got, err := v.Lookup(t.Context(), head(n))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, row(n)) {
			t.Errorf("row %d: %+v", n, got)
		}
	}
	for _, n := range []int{1500, 1501} {
		if _, err := v.Lookup(t.Context(), head(n)); !errors.Is(err, whitelist.ErrNotListed) {
			t.Errorf("unlisted %d: %v", n, err)
		}
	}
	inForce(t, s, 1)
}

func TestStoreWithoutAListSaysSo(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "deep", "state"))
	if _, err := s.Current(); !errors.Is(err, ErrNoList) {
		t.Error(err)
	}
	if err := s.Verify(t.Context()); !errors.Is(err, ErrNoList) {
		t.Error(err)
	}
}

func TestIncompleteConfigurationIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"folder":    func(c *Config) { c.Dir = "" },
		"scope":     func(c *Config) { c.Scope = "" },
		"hierarchy": func(c *Config) { c.Hierarchy = "" },
		"scope key": func(c *Config) { c.ScopeKey = cardid.ScopeKey{} },
	} {
		c := config(t, t.TempDir())
		spoil(&c)
		if _, err := Open(c); err == nil {
			t.Errorf("no %s", name)
		}
	}
}

func TestCancelledImportLeavesTheOldList(t *testing.T) {
	s := open(t, t.TempDir())
	load(t, s, list(t, manifest(5), 10))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Import(ctx, bytes.NewReader(list(t, manifest(6), 1500)), now, func(uint64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	inForce(t, s, 5)
}

func TestListIsGoodThroughItsLastSecond(t *testing.T) {
	m := manifest(1)
	file := list(t, m, 1)
	s := open(t, t.TempDir())
	if _, err := s.Import(t.Context(), bytes.NewReader(file), m.NotAfter.Add(time.Second), nil); !errors.Is(err, ErrExpired) {
		t.Error(err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(file), m.NotAfter.Add(999*time.Millisecond), nil); err != nil {
		t.Error(err)
	}
}

func TestSameListAgainIsNoErrorAndWritesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	file := list(t, manifest(5), 10)
	load(t, s, file)
	before, err := s.stat()
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, file)
	if after, err := s.stat(); err != nil || after != before {
		t.Errorf("list.db was written again: %v", err)
	}
	inForce(t, s, 5)
}

func TestOneTapSeesOneList(t *testing.T) {
	s := open(t, t.TempDir())
	load(t, s, list(t, manifest(1), 10))
	tap, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, list(t, manifest(2), 5))
	inForce(t, s, 2)
	if _, err := tap.Lookup(t.Context(), head(7)); err != nil || tap.Manifest().Seq != 1 {
		t.Errorf("the tap sees list %d: %v", tap.Manifest().Seq, err)
	}
	next, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer next.Release()
	if _, err := next.Lookup(t.Context(), head(7)); !errors.Is(err, whitelist.ErrNotListed) {
		t.Error(err)
	}
	snap := tap.(*view).snap
	tap.Release()
	tap.Release() // once is enough
	if _, err := tap.Lookup(t.Context(), head(7)); err == nil {
		t.Error("a released view still answers")
	}
	if err := snap.base.db.Ping(); err == nil {
		t.Error("the old list is still open")
	}
}

func TestListImportedByAnotherProcessIsSeen(t *testing.T) {
	dir := t.TempDir()
	agent, cli := open(t, dir), open(t, dir)
	load(t, agent, list(t, manifest(1), 10))
	inForce(t, agent, 1)
	load(t, cli, list(t, manifest(2), 10))
	inForce(t, agent, 2)
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := open(t, t.TempDir())
	load(t, s, list(t, manifest(1), 1))
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Current(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := v.Lookup(t.Context(), head(0)); err != nil {
		t.Errorf("a view outlives the store: %v", err)
	}
	v.Release()
	if _, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(2), 1)), now, nil); err == nil {
		t.Error("a closed store imports")
	}
}

func TestLookupsAndImportsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	load(t, s, list(t, manifest(1), 10))
	var files [][]byte
	for seq := range 8 {
		files = append(files, list(t, manifest(uint64(seq)+2), 10))
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var last uint64
			for {
				select {
				case <-done:
					return
				default:
				}
				v, err := s.Current()
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := v.Lookup(context.Background(), head(3)); err != nil {
					t.Error(err)
				}
				if seq := v.Manifest().Seq; seq < last {
					t.Errorf("list %d after %d", seq, last)
				} else {
					last = seq
				}
				v.Release()
			}
		})
	}
	other := open(t, dir)
	for _, file := range files {
		load(t, other, file)
	}
	close(done)
	wg.Wait()
	inForce(t, s, 9)
}

// A list with a venue goes the way of any other, and an order is found by its number.
func TestListWithAVenueIsImported(t *testing.T) {
	order, err := whitelist.OrderHead("abc12")
	if err != nil {
		t.Fatal(err)
	}
	m := manifest(2)
	m.Venue = whitelist.Venue{
		TimeZone: "UTC", DayStarts: 5 * time.Hour, Zones: []whitelist.Zone{{Name: "arena", AntiPassback: whitelist.AntiPassbackHard}},
		Gates: []whitelist.Gate{{ID: 1, Name: "north", Zone: "arena"}}, Products: []whitelist.Product{{ID: 23, Name: "Day ticket"}},
	}
	party := whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{{
		ID: "ABC12-1", Gates: []string{"north"}, Zones: []string{"arena"}, UsesPerDay: 1, Party: 4, Product: 23, Attention: true, Message: "a stroller",
	}}}
	var file bytes.Buffer
	if err := whitelist.Write(&file, listKey, scopeKey(t), m, []whitelist.Listed{{Head: head(0), Row: row(0)}, {Head: order, Row: party}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir)
	load(t, s, list(t, manifest(1), 3)) // one without a venue goes before
	load(t, s, file.Bytes())
	load(t, s, file.Bytes())

	s = open(t, dir) // as after a restart
	inForce(t, s, 2)
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if !reflect.DeepEqual(v.Manifest().Venue, m.Venue) {
		t.Errorf("%+v", v.Manifest().Venue)
	}
	for name, c := range map[string]struct {
		head []byte
		want whitelist.Row
	}{"certificate": {head(0), row(0)}, "order": {order, party}} {
		if got, err := v.Lookup(t.Context(), c.head); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := v.Lookup(t.Context(), append(order, '3')); !errors.Is(err, whitelist.ErrNotListed) {
		t.Errorf("another order: %v", err)
	}
}
