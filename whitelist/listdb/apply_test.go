package listdb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

// three is a folder in which a list of three holders is in force: set 2, above the base
// of set 1. Of set 3 its hub offers a delta.
func three(t *testing.T) (*hub, *Store, string) {
	t.Helper()
	h, dir := newHub(scopeKey(t)), t.TempDir()
	s := open(t, dir)
	h.change(map[int]int{0: 1, 1: 1, 2: 1, 3: 1})
	follows(t, h, s, "snapshot")
	h.change(map[int]int{1: 2, 3: 0})
	h.deltas = [][2]uint64{{1, 2}}
	follows(t, h, s, "1 deltas")
	h.change(map[int]int{0: 0, 1: 3, 4: 1})
	h.deltas = append(h.deltas, [2]uint64{2, 3})
	return h, s, dir
}

// follows fails the test unless the store comes to the hub's list, and so.
func follows(t *testing.T, h *hub, s *Store, by string) {
	t.Helper()
	if got, err := h.follow(t, s, h.head(t)); err != nil || got != by {
		t.Fatalf("by %s, %v, want %s", got, err, by)
	}
	h.stands(t, s, h.sets[h.set], 6)
}

// old fails the test unless set 2 of three is in force, for a fresh store as well, and
// the next list can come.
func old(t *testing.T, h *hub, s *Store, dir string) {
	t.Helper()
	for _, s := range []*Store{s, open(t, dir)} {
		h.stands(t, s, h.sets[2], 6)
		inForce(t, s, 2)
	}
}

func refusedBy(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if _, ok := errors.AsType[*whitelist.RefusedError](err); !ok {
		t.Errorf("%v is no refusal", err)
	}
}

// refusedHead fails the test unless a head is refused by Examine and by Apply, whatever
// files come with it.
func refusedHead(t *testing.T, h *hub, s *Store, signed []byte, at time.Time, want error) {
	t.Helper()
	_, from, same, err := s.Examine(t.Context(), signed, at)
	refusedBy(t, err, want)
	if from != 0 || same {
		t.Errorf("from %d, same %v", from, same)
	}
	m := h.manifest(t)
	for _, files := range []whitelist.Files{{}, {Deltas: h.open(m.Deltas[1:])}, h.snapshotFiles(t, m)} {
		_, err = s.Apply(t.Context(), signed, at, files, nil)
		refusedBy(t, err, want)
	}
}

func TestDeltaIsAppliedAboveTheBase(t *testing.T) {
	h, s, dir := three(t)
	before, err := os.Stat(filepath.Join(dir, listFile))
	if err != nil {
		t.Fatal(err)
	}
	var told uint64
	m := h.manifest(t)
	if _, err := s.Apply(t.Context(), h.sign(t, m), now, whitelist.Files{Deltas: h.open(m.Deltas[1:])}, func(n uint64) { told = n }); err != nil || told != 3 {
		t.Fatalf("%d rows, %v", told, err)
	}
	h.stands(t, s, h.sets[3], 6)
	inForce(t, open(t, dir), 3)
	after, err := os.Stat(filepath.Join(dir, listFile))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the base was written again: %v", err)
	}
	overlay, err := os.ReadFile(filepath.Join(dir, overlayFile))
	if want := append(bytes.Clone(h.files[m.Deltas[0].SHA256]), h.files[m.Deltas[1].SHA256]...); err != nil || !bytes.Equal(overlay, want) {
		t.Errorf("%s is not the deltas: %v", overlayFile, err)
	}
}

func TestHeadAloneIsAppliedWithoutFiles(t *testing.T) {
	h, s, dir := three(t)
	follows(t, h, s, "1 deltas")
	h.seq++
	follows(t, h, s, "0 deltas")
	inForce(t, open(t, dir), 4)
	follows(t, h, s, "nothing")
	if merged, err := s.Merge(t.Context(), true); err != nil || !merged {
		t.Fatal(merged, err)
	}
	h.seq++
	follows(t, h, s, "0 deltas")
	h.stands(t, open(t, dir), h.sets[3], 6)
}

func TestMergedBaseIsTheSameList(t *testing.T) {
	h, s, dir := three(t)
	view, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	if merged, err := s.Merge(t.Context(), false); err != nil || merged {
		t.Errorf("of some bytes it is not due: %v, %v", merged, err)
	}
	if merged, err := s.Merge(t.Context(), true); err != nil || !merged {
		t.Fatal(merged, err)
	}
	old(t, h, s, dir)
	for _, name := range []string{headFile, overlayFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if merged, err := s.Merge(t.Context(), true); err != nil || merged {
		t.Errorf("again: %v, %v", merged, err)
	}
	follows(t, h, s, "1 deltas")
	h.holds(t, view, h.sets[2], 6)
}

func TestStoreWithoutAListIsNotMerged(t *testing.T) {
	if merged, err := open(t, t.TempDir()).Merge(t.Context(), true); err != nil || merged {
		t.Error(merged, err)
	}
}

func TestListOfADifferentFormatTakesThePlaceOfBaseAndOverlay(t *testing.T) {
	h, s, dir := three(t)
	load(t, s, list(t, manifest(9), 3))
	inForce(t, s, 9)
	h.seq = 9
	h.change(nil)
	h.deltas = nil
	h.snapshot = h.set
	follows(t, h, s, "snapshot")
	inForce(t, open(t, dir), 10)
}

func TestWholePublishedListIsImportedAndDeltasLeadOn(t *testing.T) {
	h, _, _ := three(t)
	dir := t.TempDir()
	s := open(t, dir)
	load(t, s, h.whole(t))
	h.stands(t, open(t, dir), h.sets[3], 6)
	h.change(map[int]int{1: 4})
	h.deltas = append(h.deltas, [2]uint64{3, 4})
	follows(t, h, s, "1 deltas")
}

func TestMixedEpochsAreRefused(t *testing.T) {
	h, s, dir := three(t)
	m := h.manifest(t)
	m.Epoch, h.epoch = 2, 2
	signed := h.sign(t, m)
	if _, from, _, err := s.Examine(t.Context(), signed, now); err != nil || from != 0 {
		t.Errorf("from %d, %v", from, err)
	}
	// A delta of the epoch before, or of this one, above rows of the epoch before.
	_, err := s.Apply(t.Context(), signed, now, whitelist.Files{Deltas: h.open(m.Deltas[1:])}, nil)
	if !errors.Is(err, whitelist.ErrSet) {
		t.Error(err)
	}
	old(t, h, s, dir)
	// Rows of the epoch before under a head of this one, digests and all: they open
	// as they ever did, and the head is the hub's. Others do not lead to its set.
	m.Snapshot.SHA256, m.Snapshot.Size = h.write(t, []whitelist.SealedRow{h.seal(t, 0, 1)})
	_, err = s.Apply(t.Context(), h.sign(t, m), now, h.snapshotFiles(t, m), nil)
	refusedBy(t, err, whitelist.ErrTampered)
	old(t, h, s, dir)
}

func TestDeltaOfAnotherSetIsRefused(t *testing.T) {
	h, s, dir := three(t)
	m := h.manifest(t)
	_, err := s.Apply(t.Context(), h.sign(t, m), now, whitelist.Files{Deltas: h.open(m.Deltas[:1])}, nil)
	if err == nil {
		t.Fatal("the delta to set 2 is taken for that to 3")
	}
	if _, ok := errors.AsType[*whitelist.RefusedError](err); !ok {
		t.Errorf("%v is no refusal", err)
	}
	old(t, h, s, dir)
	follows(t, h, s, "1 deltas")
}

func TestTruncatedAndTamperedDeltasAreRefused(t *testing.T) {
	h, s, dir := three(t)
	m := h.manifest(t)
	signed, delta := h.sign(t, m), h.files[m.Deltas[1].SHA256]
	flipped := bytes.Clone(delta)
	flipped[bytes.Index(flipped, []byte{0x58, 168})+50] ^= 1 // within a sealed row
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":     {nil, whitelist.ErrTruncated},
		"truncated": {delta[:len(delta)-1], whitelist.ErrTruncated},
		"longer":    {append(bytes.Clone(delta), 0), whitelist.ErrTooLarge},
		"flipped":   {flipped, whitelist.ErrTampered},
		"html":      {bytes.Repeat([]byte("<html>"), 1000), whitelist.ErrMalformed},
	} {
		_, err := s.Apply(t.Context(), signed, now, whitelist.Files{Deltas: []io.Reader{bytes.NewReader(c.file)}}, nil)
		t.Log(name)
		refusedBy(t, err, c.want)
	}
	_, err := s.Apply(t.Context(), signed, now, whitelist.Files{Deltas: []io.Reader{iotestErr{io.ErrClosedPipe}}}, nil)
	if _, refused := errors.AsType[*whitelist.RefusedError](err); refused || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a delta that stops arriving: %v", err)
	}
	if _, err := s.Apply(t.Context(), signed, now, whitelist.Files{}, nil); err == nil {
		t.Error("without the delta")
	}
	old(t, h, s, dir)
	follows(t, h, s, "1 deltas")
}

// The files are as the manifest says, and lead elsewhere: a hub that is wrong about
// what it published before, or a terminal whose disk was.
func TestDeltasThatDoNotLeadToTheSetAreNotTaken(t *testing.T) {
	h, s, dir := three(t)
	for name, spoil := range map[string]func(*whitelist.Manifest){
		"digest":         func(m *whitelist.Manifest) { m.Set.Digest[0] ^= 1 },
		"number of rows": func(m *whitelist.Manifest) { m.Rows++ },
		"rows of a delta": func(m *whitelist.Manifest) {
			m.Deltas[1].SHA256, m.Deltas[1].Size = h.write(t, []whitelist.SealedRow{h.seal(t, 0, 7)})
		},
	} {
		m := h.manifest(t)
		spoil(&m)
		signed := h.sign(t, m)
		_, err := s.Apply(t.Context(), signed, now, whitelist.Files{Deltas: h.open(m.Deltas[1:])}, nil)
		if _, refused := errors.AsType[*whitelist.RefusedError](err); refused || !errors.Is(err, whitelist.ErrSet) {
			t.Errorf("%s: %v", name, err)
		}
		old(t, h, s, dir)
		// The snapshot with these deltas is no better, and nothing is left to take.
		_, err = s.Apply(t.Context(), signed, now, h.snapshotFiles(t, m), nil)
		refusedBy(t, err, whitelist.ErrTampered)
		if errors.Is(err, whitelist.ErrSet) {
			t.Errorf("%s: %v asks for the snapshot again", name, err)
		}
		old(t, h, s, dir)
	}
	follows(t, h, s, "1 deltas")
}

func TestHeadAloneWithAnotherNumberOfRowsIsNotTaken(t *testing.T) {
	h, s, dir := three(t)
	follows(t, h, s, "1 deltas")
	h.seq++
	m := h.manifest(t)
	m.Rows--
	if _, err := s.Apply(t.Context(), h.sign(t, m), now, whitelist.Files{}, nil); !errors.Is(err, whitelist.ErrSet) {
		t.Error(err)
	}
	inForce(t, open(t, dir), 3)
}

func TestGoneRowInASnapshotIsRefused(t *testing.T) {
	h, s, dir := three(t)
	m := h.manifest(t)
	m.Deltas, m.Snapshot.Seq = nil, m.Set.Seq
	m.Snapshot.SHA256, m.Snapshot.Size = h.write(t, append(h.rowsOf(t, 3), whitelist.SealedRow{ID: cardid.CardID{1}}))
	_, err := s.Apply(t.Context(), h.sign(t, m), now, h.snapshotFiles(t, m), nil)
	refusedBy(t, err, whitelist.ErrMalformed)
	old(t, h, s, dir)
}

func TestUnpublishedHeadIsRefused(t *testing.T) {
	h, s, dir := three(t)
	m := manifest(9)
	m.ScopeKeyCheck = h.key.Check()
	refusedHead(t, h, s, h.sign(t, m), now, whitelist.ErrMalformed)
	old(t, h, s, dir)
}

func TestHeadsThatMayNotComeIntoForceAreRefused(t *testing.T) {
	h, s, dir := three(t)
	next := h.manifest(t)
	with := func(change func(*whitelist.Manifest)) []byte {
		m := next
		change(&m)
		return h.sign(t, m)
	}
	stranger := newHub(h.key)
	stranger.signer = commandKey
	for name, c := range map[string]struct {
		signed []byte
		want   error
	}{
		"older": {with(func(m *whitelist.Manifest) {
			m.Seq, m.Set.Seq, m.Deltas, m.Snapshot.Seq = 1, 1, nil, 1
		}), ErrOlder},
		"same number, other content": {with(func(m *whitelist.Manifest) {
			m.Seq, m.Set.Seq, m.Deltas = 2, 2, m.Deltas[:1]
		}), ErrConflict},
		"expired":         {with(func(m *whitelist.Manifest) { m.NotAfter = now.Add(-time.Second) }), ErrExpired},
		"other hierarchy": {with(func(m *whitelist.Manifest) { m.Hierarchy = whitelist.Production }), ErrHierarchy},
		"other scope key": {with(func(m *whitelist.Manifest) { m.ScopeKeyCheck[0] ^= 1 }), whitelist.ErrScopeKey},
		"other scope":     {with(func(m *whitelist.Manifest) { m.Scope = "stadium" }), whitelist.ErrScope},
		"key of a role":   {stranger.sign(t, next), sign1.ErrRole},
		"trailing bytes":  {append(h.sign(t, next), 0), whitelist.ErrMalformed},
		"truncated":       {h.sign(t, next)[:100], whitelist.ErrTruncated},
		"html":            {[]byte("<!doctype html><html>not here</html>"), whitelist.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			refusedHead(t, h, s, c.signed, now, c.want)
			old(t, h, s, dir)
		})
	}
	follows(t, h, s, "1 deltas")
}

func TestCancelledApplyLeavesTheOldList(t *testing.T) {
	h, s, dir := three(t)
	m := h.manifest(t)
	for _, files := range []whitelist.Files{{Deltas: h.open(m.Deltas[1:])}, h.snapshotFiles(t, m)} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Apply(ctx, h.sign(t, m), now, files, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		old(t, h, s, dir)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Merge(ctx, true); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	old(t, h, s, dir)
}

// Each tap has one list, whatever is applied and merged meanwhile, by this process or
// another.
func TestLookupsWhileListsAreAppliedAndMerged(t *testing.T) {
	h, s, dir := three(t)
	other := open(t, dir)
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
				seq := v.Manifest().Seq
				if seq < last {
					t.Errorf("list %d after %d", seq, last)
				}
				last = seq
				// Holder 5 has the edition of the list's number, from list 3 on.
				row, err := v.Lookup(context.Background(), head(5))
				if seq > 3 && (err != nil || row.Entitlements[0].ID != edition(5, int(seq)).Entitlements[0].ID) {
					t.Errorf("list %d: %+v, %v", seq, row, err)
				}
				v.Release()
			}
		})
	}
	for n := range 40 {
		h.change(map[int]int{5: int(h.seq) + 1, n % 5: int(h.seq)})
		h.deltas = [][2]uint64{{h.set - 1, h.set}}
		h.snapshot = h.set
		s := []*Store{s, other}[n%2]
		if _, err := h.follow(t, s, h.head(t)); err != nil {
			t.Fatal(err)
		}
		if n%5 == 4 {
			if _, err := s.Merge(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	wg.Wait()
	h.stands(t, s, h.sets[h.set], 6)
}
