package listdb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What can happen to the files of a state folder, and what heals it.

// damaged fails the test unless the list in the folder is refused both by a
// store that had it open and by a fresh one, and a newer list heals both.
func damaged(t *testing.T, dir string, agent *Store, want error) {
	t.Helper()
	fresh := open(t, dir)
	for name, s := range map[string]*Store{"running": agent, "fresh": fresh} {
		if v, err := s.Current(); !errors.Is(err, want) {
			t.Errorf("%s store: got %v, want %v", name, err, want)
			if err == nil {
				v.Release()
			}
		}
	}
	if _, err := fresh.Import(t.Context(), bytes.NewReader(list(t, manifest(4), 10)), now, nil); !errors.Is(err, ErrOlder) {
		t.Errorf("an older list meanwhile: %v", err)
	}
	load(t, fresh, list(t, manifest(6), 10))
	inForce(t, fresh, 6)
	inForce(t, agent, 6)
}

func five(t *testing.T) (dir string, s *Store) {
	t.Helper()
	dir = t.TempDir()
	s = open(t, dir)
	load(t, s, list(t, manifest(5), 10))
	inForce(t, s, 5)
	return dir, s
}

func edit(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLostDatabaseDoesNotReopenTheDoorToAnOlderList(t *testing.T) {
	dir, s := five(t)
	if err := os.Remove(filepath.Join(dir, listFile)); err != nil {
		t.Fatal(err)
	}
	damaged(t, dir, s, ErrNoList)
}

func TestLostDatabaseComesBackWithTheSameList(t *testing.T) {
	dir, s := five(t)
	if err := os.Remove(filepath.Join(dir, listFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(5), 11)), now, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("another list of that number: %v", err)
	}
	load(t, s, list(t, manifest(5), 10))
	inForce(t, s, 5)
}

func TestTruncatedDatabaseIsRefused(t *testing.T) {
	for _, keep := range []int{0, 50, 4096, 8192} {
		dir, s := five(t)
		edit(t, filepath.Join(dir, listFile), func(b []byte) []byte { return b[:keep] })
		damaged(t, dir, s, ErrUnreadable)
	}
}

func TestGarbageInPlaceOfTheDatabaseIsRefused(t *testing.T) {
	dir, s := five(t)
	edit(t, filepath.Join(dir, listFile), func(b []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(b)) })
	damaged(t, dir, s, ErrUnreadable)
}

func TestDatabaseWithATamperedManifestIsRefused(t *testing.T) {
	dir, s := five(t)
	edit(t, filepath.Join(dir, listFile), func(b []byte) []byte {
		b[bytes.LastIndex(b, []byte(scope))] ^= 1
		return b
	})
	damaged(t, dir, s, sign1.ErrSignature)
}

func TestOlderDatabasePutBackIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	load(t, s, list(t, manifest(3), 10))
	old, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, list(t, manifest(5), 10))
	inForce(t, s, 5)
	edit(t, filepath.Join(dir, listFile), func([]byte) []byte { return old })
	damaged(t, dir, s, ErrOlder)
}

func TestOlderDatabasePutBackWithoutItsFloorIsRefusedByARunningStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	load(t, s, list(t, manifest(3), 10))
	old, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, list(t, manifest(5), 10))
	inForce(t, s, 5)
	edit(t, filepath.Join(dir, listFile), func([]byte) []byte { return old })
	if err := os.Remove(filepath.Join(dir, floorFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Current(); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
}

func sqlite(t *testing.T, dir, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, listFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	res, err := db.Exec(statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s changed %d rows, %v", statement, n, err)
	}
}

func TestTamperedRowInTheDatabaseIsAnErrorAndNotUnlisted(t *testing.T) {
	dir, s := five(t)
	id := scopeKey(t).ID(head(3))
	sqlite(t, dir, "UPDATE row SET sealed = zeroblob(length(sealed)) WHERE card_id = ?", id[:])
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if _, err := v.Lookup(t.Context(), head(3)); !errors.Is(err, cardid.ErrSealed) || errors.Is(err, whitelist.ErrNotListed) {
		t.Error(err)
	}
	if _, err := v.Lookup(t.Context(), head(4)); err != nil {
		t.Errorf("another row: %v", err)
	}
	if err := s.Verify(t.Context()); !errors.Is(err, whitelist.ErrTampered) {
		t.Errorf("Verify: %v", err)
	}
}

func TestVerifyFindsWhatLookupsCannot(t *testing.T) {
	one, two := scopeKey(t).ID(head(1)), scopeKey(t).ID(head(2))
	for name, c := range map[string]struct {
		statement string
		args      []any
		want      error
	}{
		"row removed":      {"DELETE FROM row WHERE card_id = ?", []any{one[:]}, whitelist.ErrTruncated},
		"row added":        {"INSERT INTO row SELECT zeroblob(32), sealed FROM row WHERE card_id = ?", []any{one[:]}, whitelist.ErrTrailing},
		"row replaced":     {"UPDATE row SET sealed = (SELECT sealed FROM row WHERE card_id = ?) WHERE card_id = ?", []any{one[:], two[:]}, whitelist.ErrTampered},
		"CardID cut short": {"UPDATE row SET card_id = x'00' WHERE card_id = ?", []any{one[:]}, whitelist.ErrTampered},
		"giant row":        {"UPDATE row SET sealed = zeroblob(100000) WHERE card_id = ?", []any{one[:]}, whitelist.ErrTampered},
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := five(t)
			sqlite(t, dir, c.statement, c.args...)
			if err := s.Verify(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			load(t, s, list(t, manifest(5), 10)) // the same list heals it
			inForce(t, s, 5)
		})
	}
}

func TestTwoManifestsAreNone(t *testing.T) {
	dir, s := five(t)
	sqlite(t, dir, "INSERT INTO manifest SELECT signed FROM manifest")
	damaged(t, dir, s, ErrUnreadable)
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	_, s := five(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDamagedFloorClosesTheGateUntilALaterListComes(t *testing.T) {
	dir, s := five(t)
	edit(t, filepath.Join(dir, floorFile), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	fresh := open(t, dir)
	if _, err := fresh.Current(); !errors.Is(err, ErrFloor) {
		t.Errorf("fresh store: %v", err)
	}
	// list.db itself still tells what came before.
	if _, err := fresh.Import(t.Context(), bytes.NewReader(list(t, manifest(4), 10)), now, nil); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
	load(t, fresh, list(t, manifest(5), 10)) // the same list heals the floor
	inForce(t, fresh, 5)
	inForce(t, s, 5)
}

func TestWithFloorAndDatabaseDamagedAnOperatorDecides(t *testing.T) {
	dir, _ := five(t)
	for _, name := range []string{listFile, floorFile} {
		edit(t, filepath.Join(dir, name), func(b []byte) []byte { return b[:10] })
	}
	s := open(t, dir)
	for _, seq := range []uint64{4, 6} {
		_, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(seq), 10)), now, nil)
		if !errors.Is(err, ErrFloor) || !strings.Contains(err.Error(), filepath.Join(dir, floorFile)) {
			t.Errorf("list %d: %v", seq, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, floorFile)); err != nil {
		t.Fatal(err)
	}
	load(t, s, list(t, manifest(6), 10))
	inForce(t, s, 6)
}

func TestPowerCutBetweenListAndFloorHarmsNothing(t *testing.T) {
	dir, _ := five(t)
	floor5, err := os.ReadFile(filepath.Join(dir, floorFile))
	if err != nil {
		t.Fatal(err)
	}
	load(t, open(t, dir), list(t, manifest(6), 10))
	edit(t, filepath.Join(dir, floorFile), func([]byte) []byte { return floor5 })
	s := open(t, dir)
	inForce(t, s, 6)
	if _, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(5), 10)), now, nil); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
}

func TestPowerCutDuringAnImportHarmsNothing(t *testing.T) {
	dir, s := five(t)
	for _, name := range []string{listFile, floorFile} {
		if err := os.WriteFile(filepath.Join(dir, name+staged), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load(t, s, list(t, manifest(6), 10))
	inForce(t, s, 6)
}

func TestNewListKeyHealsAListTheOldKeySigned(t *testing.T) {
	dir, _ := five(t)
	cfg := config(t, dir)
	next := stadiumKey
	keys, err := sign1.NewKeys(sign1.Key{Public: next.Public(), Role: sign1.RoleList, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Trust = roles.Trust{Pinned: keys}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Current(); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Error(err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(listBy(t, next, scopeKey(t), manifest(4), 3)), now, nil); !errors.Is(err, ErrOlder) {
		t.Errorf("older, by the new key: %v", err)
	}
	load(t, s, listBy(t, next, scopeKey(t), manifest(6), 3))
	inForce(t, s, 6)
}

func TestFolderOfAnotherScopeIsNotTakenOver(t *testing.T) {
	dir, _ := five(t)
	cfg := config(t, dir)
	cfg.Scope = "stadium"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Current(); !errors.Is(err, whitelist.ErrScope) {
		t.Error(err)
	}
	m := manifest(9)
	m.Scope = "stadium"
	if _, err := s.Import(t.Context(), bytes.NewReader(listBy(t, stadiumKey, scopeKey(t), m, 3)), now, nil); !errors.Is(err, whitelist.ErrScope) {
		t.Error(err)
	}
	inForce(t, open(t, dir), 5)
}

func TestTwoImportsWaitForEachOther(t *testing.T) {
	dir, s := five(t)
	unlock, err := open(t, dir).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Import(ctx, bytes.NewReader(list(t, manifest(6), 10)), now, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside another import: %v", err)
	}
	inForce(t, s, 5)
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	load(t, s, list(t, manifest(6), 10))
	inForce(t, s, 6)
}

func TestFullDiskLeavesTheOldListInForce(t *testing.T) {
	dir, inside := smalldisk.Mount(t)
	if !inside {
		return
	}
	s := open(t, dir)
	load(t, s, list(t, manifest(5), 10))
	// One list that does not fit, then every point at which the disk may fill up.
	big := list(t, manifest(6), 1500)
	_, err := s.Import(t.Context(), bytes.NewReader(big), now, nil)
	if err == nil || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	inForce(t, s, 5)

	small := list(t, manifest(6), 100)
	ballast := filepath.Join(dir, "ballast")
	refused := 0
	for free := 0; free <= 160<<10; free += 4 << 10 {
		if err := os.WriteFile(ballast, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		smalldisk.Fill(t, dir, free)
		_, err := s.Import(t.Context(), bytes.NewReader(small), now, nil)
		if err == nil {
			break
		}
		if _, ok := errors.AsType[*whitelist.RefusedError](err); ok {
			t.Errorf("with %d bytes free the list is at fault: %v", free, err)
		}
		refused++
		inForce(t, s, 5)
	}
	if refused < 10 {
		t.Errorf("the disk was full %d times", refused)
	}
	inForce(t, s, 6)
}

func TestReadOnlyFolderServesItsListAndTakesNoOther(t *testing.T) {
	dir, inside := smalldisk.Mount(t)
	if !inside {
		return
	}
	load(t, open(t, dir), list(t, manifest(5), 10))
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	inForce(t, s, 5)
	if _, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(6), 10)), now, nil); !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
	inForce(t, s, 5)
}
