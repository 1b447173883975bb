package listdb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What can happen to list.overlay and list.head, and what heals it.

// healed fails the test unless a store that opens the folder refuses its list, an older
// one is refused meanwhile, and the hub's newest heals it.
func healed(t *testing.T, h *hub, s *Store, dir string, want error) {
	t.Helper()
	fresh := open(t, dir)
	if v, err := fresh.Current(); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
		if err == nil {
			v.Release()
		}
	}
	if _, err := fresh.Import(t.Context(), bytes.NewReader(list(t, manifest(1), 3)), now, nil); !errors.Is(err, ErrOlder) && !errors.Is(err, ErrConflict) {
		t.Errorf("an older list meanwhile: %v", err)
	}
	if _, err := h.follow(t, fresh, h.head(t)); err != nil {
		t.Fatal(err)
	}
	h.stands(t, s, h.sets[3], 6)
	inForce(t, s, 3)
	h.change(map[int]int{1: 9})
	h.deltas = append(h.deltas, [2]uint64{h.set - 1, h.set})
	follows(t, h, s, "1 deltas")
}

func TestLostOverlayIsNoListAndNotTheOneBefore(t *testing.T) {
	h, s, dir := three(t)
	if err := os.Remove(filepath.Join(dir, overlayFile)); err != nil {
		t.Fatal(err)
	}
	healed(t, h, s, dir, ErrUnreadable)
}

func TestTruncatedOverlayIsRefused(t *testing.T) {
	h, s, dir := three(t)
	edit(t, filepath.Join(dir, overlayFile), func(b []byte) []byte { return b[:len(b)-1] })
	healed(t, h, s, dir, ErrUnreadable)
}

func TestOverlayOfAnotherListIsRefused(t *testing.T) {
	h, s, dir := three(t)
	m := h.manifest(t)
	edit(t, filepath.Join(dir, overlayFile), func([]byte) []byte { return h.files[m.Deltas[1].SHA256] })
	healed(t, h, s, dir, ErrUnreadable)
}

// Wherever a bit tips, a store that opens the folder says so. One that is running has
// each row checked as it is looked up. Nobody becomes unlisted, and Verify finds it.
func TestOverlayBitFlipIsFoundAndNobodyBecomesUnlisted(t *testing.T) {
	h, s, dir := three(t)
	file := filepath.Join(dir, overlayFile)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	for at := range good {
		edit(t, file, func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b })
		if at%7 == 0 {
			if _, err := open(t, dir).Current(); !errors.Is(err, ErrUnreadable) {
				t.Fatalf("byte %d: %v", at, err)
			}
		}
		if err := s.Verify(t.Context()); err == nil {
			t.Fatalf("byte %d: Verify finds nothing", at)
		}
		wrong := 0
		for holder := range 6 {
			got, err := v.Lookup(t.Context(), head(holder))
			want := h.sets[2][holder]
			switch {
			case err == nil && want != 0 && got.Entitlements[0].ID == edition(holder, want).Entitlements[0].ID:
			case errors.Is(err, whitelist.ErrNotListed) && want == 0:
			case err == nil || errors.Is(err, whitelist.ErrNotListed):
				t.Fatalf("byte %d, holder %d: %+v, %v", at, holder, got, err)
			default:
				wrong++
			}
		}
		if wrong != 1 {
			t.Fatalf("byte %d: %d errors", at, wrong)
		}
		edit(t, file, func([]byte) []byte { return good })
	}
}

// Verify has found it, or a merge: the next list comes as a snapshot.
func TestRowsThatAreOthersAreHealedByASnapshot(t *testing.T) {
	for name, notice := range map[string]func(*Store) error{
		"verified": func(s *Store) error { return s.Verify(t.Context()) },
		"merged":   func(s *Store) error { _, err := s.Merge(t.Context(), true); return err },
	} {
		h, s, dir := three(t)
		id := h.key.ID(head(2)) // not touched by a delta
		sqlite(t, dir, "UPDATE row SET sealed = zeroblob(length(sealed)) WHERE card_id = ?", id[:])
		s = open(t, dir)
		if err := notice(s); !errors.Is(err, whitelist.ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
		follows(t, h, s, "snapshot")
	}
}

// A row of the base is another, and a delta touches it.
func TestDeltaAboveADamagedRowIsNotTaken(t *testing.T) {
	h, _, dir := three(t)
	id := h.key.ID(head(0))
	sqlite(t, dir, "UPDATE row SET sealed = zeroblob(length(sealed)) WHERE card_id = ?", id[:])
	follows(t, h, open(t, dir), "1 deltassnapshot")
}

// While it is open nothing is lost: the next list makes a new base of it.
func TestOverlayThatIsTakenAwayFromARunningStoreIsHealedByTheNextDelta(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"removed": os.Remove,
		"replaced": func(file string) error {
			return errors.Join(os.Remove(file), os.WriteFile(file, make([]byte, 1000), 0o600))
		},
	} {
		h, s, dir := three(t)
		h.stands(t, s, h.sets[2], 6)
		if err := spoil(filepath.Join(dir, overlayFile)); err != nil {
			t.Fatal(name, err)
		}
		h.stands(t, s, h.sets[2], 6)
		follows(t, h, s, "1 deltas")
		h.stands(t, open(t, dir), h.sets[3], 6)
	}
}

func TestOverlayThatIsCutUnderARunningStoreIsHealedByTheSnapshot(t *testing.T) {
	h, s, dir := three(t)
	h.stands(t, s, h.sets[2], 6)
	if err := os.Truncate(filepath.Join(dir, overlayFile), 10); err != nil {
		t.Fatal(err)
	}
	follows(t, h, s, "1 deltassnapshot")
	h.stands(t, open(t, dir), h.sets[3], 6)
}

func TestMergeOfAnUnreadableListChangesNothingAndASnapshotHealsIt(t *testing.T) {
	h, s, dir := three(t)
	h.stands(t, s, h.sets[2], 6)
	if err := os.Truncate(filepath.Join(dir, overlayFile), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Merge(t.Context(), true); !errors.Is(err, whitelist.ErrTampered) {
		t.Error(err)
	}
	follows(t, h, s, "snapshot")
	h.stands(t, open(t, dir), h.sets[3], 6)
}

func TestLostHeadDoesNotReopenTheDoorToAnOlderList(t *testing.T) {
	h, s, dir := three(t)
	if err := os.Remove(filepath.Join(dir, headFile)); err != nil {
		t.Fatal(err)
	}
	healed(t, h, s, dir, ErrOlder)
}

func TestDamagedHeadIsRefused(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"empty":     func(b []byte) []byte { return nil },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"gigantic":  func(b []byte) []byte { return make([]byte, 10*maxPointer) },
	} {
		h, s, dir := three(t)
		t.Log(name)
		edit(t, filepath.Join(dir, headFile), change)
		healed(t, h, s, dir, ErrUnreadable)
	}
}

// Somebody who writes the folder makes the checksum right as well.
func TestForgedHeadIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		forge func(*pointer)
		want  error
	}{
		"manifest": {func(p *pointer) { p.Head[bytes.LastIndex(p.Head, []byte(scope))] ^= 1 }, sign1.ErrSignature},
		"state":    {func(p *pointer) { p.State[7] ^= 1 }, ErrUnreadable},
		"length":   {func(p *pointer) { p.Length-- }, ErrUnreadable},
		"digest":   {func(p *pointer) { p.SHA256[0] ^= 1 }, ErrUnreadable},
		"base":     {func(p *pointer) { p.Base[0] ^= 1 }, ErrOlder}, // it says nothing of this one
	} {
		h, s, dir := three(t)
		t.Log(name)
		edit(t, filepath.Join(dir, headFile), func(b []byte) []byte {
			p, err := parsePointer(b)
			if err != nil {
				t.Fatal(err)
			}
			c.forge(p)
			b, err = p.encode()
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		healed(t, h, s, dir, c.want)
	}
}

func TestHeadOfAnotherBaseCountsForNothing(t *testing.T) {
	h, s, dir := three(t)
	left, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, h.whole(t))
	if err := os.WriteFile(filepath.Join(dir, headFile), left, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, open(t, dir)} {
		h.stands(t, s, h.sets[3], 6)
	}
}

func TestOlderHeadPutBackIsRefused(t *testing.T) {
	h, s, dir := three(t)
	older, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		t.Fatal(err)
	}
	follows(t, h, s, "1 deltas")
	if err := os.WriteFile(filepath.Join(dir, headFile), older, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Current(); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
	healed(t, h, s, dir, ErrOlder)
}

// A power cut may leave of the last steps of an apply the earlier ones alone.
func TestPowerCutBetweenHeadAndFloorHarmsNothing(t *testing.T) {
	h, s, dir := three(t)
	floor2, err := os.ReadFile(filepath.Join(dir, floorFile))
	if err != nil {
		t.Fatal(err)
	}
	follows(t, h, s, "1 deltas")
	edit(t, filepath.Join(dir, floorFile), func([]byte) []byte { return floor2 })
	s = open(t, dir)
	h.stands(t, s, h.sets[3], 6)
	h.change(map[int]int{5: 1})
	h.deltas = append(h.deltas, [2]uint64{3, 4})
	follows(t, h, s, "1 deltas")
}

func TestPowerCutBeforeTheHeadLeavesTheOldListAndTheNextCutsTheRest(t *testing.T) {
	h, s, dir := three(t)
	old2, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		t.Fatal(err)
	}
	floor2, err := os.ReadFile(filepath.Join(dir, floorFile))
	if err != nil {
		t.Fatal(err)
	}
	m := h.manifest(t)
	follows(t, h, s, "1 deltas")
	edit(t, filepath.Join(dir, headFile), func([]byte) []byte { return old2 })
	edit(t, filepath.Join(dir, floorFile), func([]byte) []byte { return floor2 })
	edit(t, filepath.Join(dir, overlayFile), func(b []byte) []byte { return b[:len(b)-10] })
	s = open(t, dir)
	h.stands(t, s, h.sets[2], 6)
	follows(t, h, s, "1 deltas")
	overlay, err := os.ReadFile(filepath.Join(dir, overlayFile))
	if err != nil || int64(len(overlay)) != m.Deltas[0].Size+m.Deltas[1].Size {
		t.Errorf("%d bytes, %v", len(overlay), err)
	}
}

// Bounds of memory: what is too much for the index goes into a new base.
func TestDeltasWithTooManyRowsForTheIndexMakeANewBase(t *testing.T) {
	h, s, dir := three(t)
	// Most of them are of holders who never were there.
	var rows []whitelist.SealedRow
	for n := range maxEntries {
		rows = append(rows, whitelist.SealedRow{ID: h.key.ID([]byte{byte(n), byte(n >> 8), byte(n >> 16)})})
	}
	m := h.manifest(t)
	file := h.files[m.Deltas[1].SHA256]
	for r, err := range rowsOf(m.Deltas[1].Reader(bytes.NewReader(file)).Next) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, whitelist.SealedRow{ID: r.ID, Sealed: bytes.Clone(r.Sealed)})
	}
	m.Deltas[1].SHA256, m.Deltas[1].Size = h.write(t, rows)
	signed := h.sign(t, m)
	if _, err := s.Apply(t.Context(), signed, now, whitelist.Files{Deltas: h.open(m.Deltas[1:])}, nil); err != nil {
		t.Fatal(err)
	}
	h.stands(t, s, h.sets[3], 6)
	inForce(t, open(t, dir), 3)
	if _, err := os.Stat(filepath.Join(dir, overlayFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an overlay is left: %v", err)
	}
}

func TestDeltasOfManyBytesMakeANewBase(t *testing.T) {
	h, s, dir := three(t)
	rows := make([]whitelist.SealedRow, minOverlay/whitelist.MaxRow+1)
	for n := range rows {
		rows[n] = whitelist.SealedRow{ID: h.key.ID([]byte{byte(n), byte(n >> 8)}), Sealed: make([]byte, whitelist.MaxRow)}
	}
	m := h.manifest(t)
	set, err := whitelist.SetOfState(mustCurrent(t, s).state)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		set.Add(r)
	}
	m.Rows, m.Set.Digest = uint64(3+len(rows)), set.Digest()
	m.Deltas[1].SHA256, m.Deltas[1].Size = h.write(t, rows)
	if _, err := s.Apply(t.Context(), h.sign(t, m), now, whitelist.Files{Deltas: h.open(m.Deltas[1:])}, nil); err != nil {
		t.Fatal(err)
	}
	inForce(t, open(t, dir), 3)
	if _, err := os.Stat(filepath.Join(dir, overlayFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an overlay is left: %v", err)
	}
}

func mustCurrent(t *testing.T, s *Store) *snapshot {
	t.Helper()
	snap, err := s.current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(snap.release)
	return snap
}

// A list.head that parses, encoded again, gives the same bytes.
func FuzzHead(f *testing.F) {
	b, err := pointer{Head: []byte{1, 2}, Length: 70000, State: make([]byte, whitelist.SetStateSize)}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b) - 32; n >= 0 { // get past the checksum
			b = withChecksum(bytes.Clone(b[:n]))
		}
		p, err := parsePointer(b)
		if err != nil {
			return
		}
		if again, err := p.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}

// A row of the overlay that parses, appended again, gives the same bytes.
func FuzzOverlayRow(f *testing.F) {
	f.Add(sealedRow(1, 168))
	f.Add(sealedRow(1, 808))
	f.Add(whitelist.AppendRow(nil, whitelist.SealedRow{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, n, err := parseRow(b)
		if err == nil && !bytes.Equal(whitelist.AppendRow(nil, row), b[:n]) {
			t.Fatalf("%x", b[:n])
		}
	})
}
