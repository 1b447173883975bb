package listdb

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Every list that must not come into force, each with its own error. Each test
// has list 5 in force and finds it in force afterwards.
func refused(t *testing.T, file []byte, want error) {
	t.Helper()
	s := open(t, t.TempDir())
	load(t, s, list(t, manifest(5), 10))
	_, err := s.Import(t.Context(), bytes.NewReader(file), now, nil)
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if _, ok := errors.AsType[*whitelist.RefusedError](err); !ok {
		t.Errorf("%v is no refusal", err)
	}
	inForce(t, s, 5)
}

func TestOlderListIsRefused(t *testing.T) {
	refused(t, list(t, manifest(4), 10), ErrOlder)
}

func TestListOfAnOlderEpochIsRefused(t *testing.T) {
	m := manifest(6)
	m.Epoch = 0
	refused(t, list(t, m, 10), ErrOlder)
}

func TestEqualButDifferentListIsRefused(t *testing.T) {
	refused(t, list(t, manifest(5), 11), ErrConflict)
}

func TestExpiredListIsRefused(t *testing.T) {
	m := manifest(6)
	m.NotAfter = now.Add(-time.Second)
	refused(t, list(t, m, 10), ErrExpired)
}

func TestListWithBadlySignedManifestIsRefused(t *testing.T) {
	file := list(t, manifest(6), 10)
	at := bytes.Index(file, []byte(scope))
	file[at] ^= 1
	refused(t, file, sign1.ErrSignature)
}

func TestListSignedByAnUnknownKeyIsRefused(t *testing.T) {
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x66}, 32))
	refused(t, listBy(t, stranger, scopeKey(t), manifest(6), 10), sign1.ErrUnknownKey)
}

func TestListSignedByAKeyOfAnotherRoleIsRefused(t *testing.T) {
	refused(t, listBy(t, commandKey, scopeKey(t), manifest(6), 10), sign1.ErrRole)
}

func TestListOfAnotherScopeIsRefused(t *testing.T) {
	m := manifest(6)
	m.Scope = "stadium"
	refused(t, listBy(t, stadiumKey, scopeKey(t), m, 10), whitelist.ErrScope)
}

func TestListSignedByTheKeyOfAnotherScopeIsRefused(t *testing.T) {
	refused(t, listBy(t, stadiumKey, scopeKey(t), manifest(6), 10), whitelist.ErrScope)
}

func TestListOfAnotherHierarchyIsRefused(t *testing.T) {
	m := manifest(6)
	m.Hierarchy = whitelist.Production
	refused(t, list(t, m, 10), ErrHierarchy)
}

func TestListSealedWithAnotherScopeKeyIsRefused(t *testing.T) {
	other, err := cardid.NewScopeKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, listBy(t, listKey, other, manifest(6), 10), whitelist.ErrScopeKey)
}

func TestTruncatedListIsRefused(t *testing.T) {
	file := list(t, manifest(6), 10)
	for _, n := range []int{0, 1, 100, len(file) / 2, len(file) - 1} {
		refused(t, file[:n], whitelist.ErrTruncated)
	}
}

func TestUnreadableListIsRefused(t *testing.T) {
	refused(t, []byte("\x00garbage"), sign1.ErrMalformed)
}

func TestListWithTrailingBytesIsRefused(t *testing.T) {
	refused(t, append(list(t, manifest(6), 10), 0), whitelist.ErrTrailing)
}

func TestTamperedListIsRefused(t *testing.T) {
	file := list(t, manifest(6), 10)
	file[len(file)-100] ^= 1
	refused(t, file, whitelist.ErrTampered)
}

// resign returns a correctly signed list over these bytes behind the manifest.
func resign(t *testing.T, rows uint64, behind []byte) []byte {
	t.Helper()
	// The manifest of an empty list, with count and digest put in their place:
	// key 10 (0a) is the count, key 11 (0b) a byte string of 32.
	file := list(t, manifest(6), 0)
	keys := config(t, "").Trust
	r, err := whitelist.NewReader(bytes.NewReader(file), keys)
	if err != nil {
		t.Fatal(err)
	}
	payload := r.Head().Payload().Bytes()
	sum := sha256.Sum256(behind)
	at := len(payload) - 37
	if !bytes.Equal(payload[at:at+5], []byte{0x0a, 0x00, 0x0b, 0x58, 0x20}) || rows > 23 {
		t.Fatalf("not the end of a manifest: %x", payload[at:])
	}
	payload[at+1] = byte(rows)
	copy(payload[at+5:], sum[:])
	msg, err := sign1.Sign(nil, sign1.RoleList, listKey, payload)
	if err != nil {
		t.Fatal(err)
	}
	return append(msg, behind...)
}

func sealedRow(id byte, n int) []byte {
	return whitelist.AppendRow(nil, whitelist.SealedRow{ID: cardid.CardID{id}, Sealed: make([]byte, n)})
}

func TestUnsortedListIsRefused(t *testing.T) {
	refused(t, resign(t, 2, append(sealedRow(2, 168), sealedRow(1, 168)...)), whitelist.ErrOrder)
}

func TestListWithADuplicateIsRefused(t *testing.T) {
	refused(t, resign(t, 2, append(sealedRow(1, 168), sealedRow(1, 168)...)), whitelist.ErrOrder)
}

func TestListWithAnOversizedRowIsRefused(t *testing.T) {
	refused(t, resign(t, 1, sealedRow(1, whitelist.MaxRow+1)), whitelist.ErrTooLarge)
}

func TestListWithAnOversizedHeaderIsRefused(t *testing.T) {
	refused(t, append([]byte{0xd2, 0x84, 0x5a, 0x00, 0x10, 0x00, 0x00}, make([]byte, 1<<20)...), whitelist.ErrTooLarge)
}

func TestListThatStopsArrivingIsRefused(t *testing.T) {
	file := list(t, manifest(6), 10)
	s := open(t, t.TempDir())
	load(t, s, list(t, manifest(5), 10))
	r := io.MultiReader(bytes.NewReader(file[:len(file)/2]), iotestErr{io.ErrClosedPipe})
	_, err := s.Import(t.Context(), r, now, nil)
	if _, refused := errors.AsType[*whitelist.RefusedError](err); refused || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v, as if the list were at fault: %v", err, refused)
	}
	inForce(t, s, 5)
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }
