package listdb

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A hub publishes lists: the least that can be called one.
type hub struct {
	key    cardid.ScopeKey
	signer crypto.Signer

	delegation []byte

	epoch, seq, set uint64

	sets    map[uint64]map[int]int // set → holder → edition of their row
	touched map[uint64][]int       // set → holders touched by it
	sealed  map[[3]uint64]whitelist.SealedRow
	files   map[[32]byte][]byte

	// snapshot is the set of the snapshot that is published.
	snapshot uint64
	// deltas are those that are, from and to.
	deltas [][2]uint64
}

func newHub(key cardid.ScopeKey) *hub {
	return &hub{
		key: key, signer: listKey, epoch: 1,
		sets: map[uint64]map[int]int{}, touched: map[uint64][]int{}, sealed: map[[3]uint64]whitelist.SealedRow{}, files: map[[32]byte][]byte{},
	}
}

// edition is what a list says of a holder. It is small.
func edition(holder, n int) whitelist.Row {
	return whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{{ID: fmt.Sprintf("%d-%d", holder, n)}}}
}

func (h *hub) seal(t rapid.TB, holder, n int) whitelist.SealedRow {
	t.Helper()
	at := [3]uint64{h.epoch, uint64(holder), uint64(n)}
	if r, ok := h.sealed[at]; ok {
		return r
	}
	m := manifest(1)
	m.Epoch = h.epoch
	var b bytes.Buffer
	if err := whitelist.Write(&b, listKey, h.key, m, []whitelist.Listed{{Head: head(holder), Row: edition(holder, n)}}); err != nil {
		t.Fatal(err)
	}
	r, err := whitelist.NewReader(&b, pinned(t))
	if err != nil {
		t.Fatal(err)
	}
	row, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	h.sealed[at] = whitelist.SealedRow{ID: row.ID, Sealed: bytes.Clone(row.Sealed)}
	return h.sealed[at]
}

// change makes a new set: edition 0 is gone.
func (h *hub) change(editions map[int]int) {
	h.seq++
	next := maps.Clone(h.sets[h.set])
	if next == nil {
		next = map[int]int{}
	}
	for holder, n := range editions {
		if next[holder] = n; n == 0 {
			delete(next, holder)
		}
	}
	h.set = h.seq
	h.sets[h.set] = next
	h.touched[h.set] = slices.Collect(maps.Keys(editions))
	if h.snapshot == 0 {
		h.snapshot = h.set
	}
}

// newEpoch begins the numbering again, with the rows there are.
func (h *hub) newEpoch() {
	rows := h.sets[h.set]
	h.epoch, h.seq, h.set, h.snapshot, h.deltas = h.epoch+1, 0, 0, 0, nil
	h.sets, h.touched = map[uint64]map[int]int{}, map[uint64][]int{}
	h.change(rows)
}

func (h *hub) write(t rapid.TB, rows []whitelist.SealedRow) (sum [32]byte, size int64) {
	t.Helper()
	slices.SortFunc(rows, func(a, b whitelist.SealedRow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var b bytes.Buffer
	sum, size, err := whitelist.WriteRows(&b, func(yield func(whitelist.SealedRow, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h.files[sum] = b.Bytes()
	return sum, size
}

func (h *hub) rowsOf(t rapid.TB, set uint64) (rows []whitelist.SealedRow) {
	t.Helper()
	for holder, n := range h.sets[set] {
		rows = append(rows, h.seal(t, holder, n))
	}
	return rows
}

func (h *hub) delta(t rapid.TB, from, to uint64) whitelist.Delta {
	t.Helper()
	final := map[int]whitelist.SealedRow{}
	for seq := from + 1; seq <= to; seq++ {
		for _, holder := range h.touched[seq] {
			r := whitelist.SealedRow{ID: h.key.ID(head(holder))}
			if n := h.sets[to][holder]; n != 0 {
				r = h.seal(t, holder, n)
			}
			final[holder] = r
		}
	}
	sum, size := h.write(t, slices.Collect(maps.Values(final)))
	return whitelist.Delta{From: from, To: to, SHA256: sum, Size: size}
}

// manifest is that of the newest list.
func (h *hub) manifest(t rapid.TB) whitelist.Manifest {
	t.Helper()
	m := manifest(h.seq)
	m.Epoch, m.ScopeKeyCheck = h.epoch, h.key.Check()
	rows := h.rowsOf(t, h.set)
	var set whitelist.Set
	for _, r := range rows {
		set.Add(r)
	}
	m.Rows, m.Set = uint64(len(rows)), whitelist.SetID{Seq: h.set, Digest: set.Digest()}
	m.Snapshot.Seq = h.snapshot
	m.Snapshot.SHA256, m.Snapshot.Size = h.write(t, h.rowsOf(t, h.snapshot))
	for _, d := range h.deltas {
		m.Deltas = append(m.Deltas, h.delta(t, d[0], d[1]))
	}
	slices.SortFunc(m.Deltas, func(a, b whitelist.Delta) int { return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From)) })
	return m
}

func (h *hub) sign(t rapid.TB, m whitelist.Manifest) []byte {
	t.Helper()
	b, err := m.Sign(h.signer, h.delegation)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *hub) head(t rapid.TB) []byte { return h.sign(t, h.manifest(t)) }

// whole is the newest list in one file.
func (h *hub) whole(t rapid.TB) []byte {
	t.Helper()
	sum, _ := h.write(t, h.rowsOf(t, h.set))
	return append(h.head(t), h.files[sum]...)
}

// open returns the files of a path.
func (h *hub) open(path []whitelist.Delta) (readers []io.Reader) {
	for _, d := range path {
		readers = append(readers, bytes.NewReader(h.files[d.SHA256]))
	}
	return readers
}

func (h *hub) snapshotFiles(t rapid.TB, m whitelist.Manifest) whitelist.Files {
	t.Helper()
	path, ok := m.Path(m.Snapshot.Seq)
	if !ok {
		t.Fatal("no path from the snapshot")
	}
	return whitelist.Files{Snapshot: bytes.NewReader(h.files[m.Snapshot.SHA256]), Deltas: h.open(path)}
}

// follow brings a store to a list as a terminal does; by says how.
func (h *hub) follow(t rapid.TB, s *Store, signed []byte) (by string, err error) {
	t.Helper()
	ctx := context.Background()
	head, from, same, err := s.Examine(ctx, signed, now)
	if err != nil || same {
		return "nothing", err
	}
	m := head.Manifest
	if path, ok := m.Path(from); ok {
		by = fmt.Sprint(len(path), " deltas")
		if _, err = s.Apply(ctx, signed, now, whitelist.Files{Deltas: h.open(path)}, nil); !errors.Is(err, whitelist.ErrSet) {
			return by, err
		}
	}
	_, err = s.Apply(ctx, signed, now, h.snapshotFiles(t, m), nil)
	return by + "snapshot", err
}

// holds fails the test unless a view has exactly these rows, for holders below n.
func (h *hub) holds(t rapid.TB, v whitelist.View, want map[int]int, n int) {
	t.Helper()
	for holder := range n {
		got, err := v.Lookup(context.Background(), head(holder))
		switch e := want[holder]; {
		case e == 0 && !errors.Is(err, whitelist.ErrNotListed):
			t.Fatalf("holder %d: %+v, %v, want none", holder, got, err)
		case e != 0 && (err != nil || got.Entitlements[0].ID != edition(holder, e).Entitlements[0].ID):
			t.Fatalf("holder %d: %+v, %v, want edition %d", holder, got, err, e)
		}
	}
}

// stands fails the test unless the store has this set, whole.
func (h *hub) stands(t rapid.TB, s *Store, want map[int]int, n int) {
	t.Helper()
	v, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	h.holds(t, v, want, n)
	if err := s.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	var ids []cardid.CardID
	for holder := range want {
		ids = append(ids, h.key.ID(head(holder)))
	}
	slices.SortFunc(ids, func(a, b cardid.CardID) int { return bytes.Compare(a[:], b[:]) })
	got, err := collect(s.CardIDs(context.Background()))
	if err != nil || !slices.Equal(got, ids) {
		t.Fatalf("CardIDs: %d of %d, %v", len(got), len(ids), err)
	}
}

func collect[T any](s iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range s {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}
