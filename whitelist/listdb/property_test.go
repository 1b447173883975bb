package listdb

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/gate-agent/gate-agent/whitelist"
)

// holders are all that a property test ever lists, and one more.
const holders = 13

// Whatever is published in whatever steps, and whatever a terminal does in between, it
// has the rows of the newest list that it took, and a view keeps what it saw.
func TestAnyChainOfDeltasIsTheSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "listdb")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		r := &run{hub: newHub(scopeKey(t)), t: t, dir: dir, edition: 1}
		defer r.close()
		r.publish(t)
		r.take(t)
		t.Repeat(map[string]func(*rapid.T){
			"publish":   r.publish,
			"head only": r.headOnly,
			"snapshot":  r.snapshotNow,
			"new epoch": r.newEpoch,
			"take":      r.take,
			"other":     r.takeByAnother,
			"again":     r.takeSnapshot,
			"import":    r.importWhole,
			"merge":     r.merge,
			"reopen":    r.reopen,
			"look":      r.look,
			"torn tail": r.tornTail,
			"":          r.check,
		})
	})
}

// A run is one history of a hub and a terminal.
type run struct {
	*hub
	t       *rapid.T
	dir     string
	edition int
	stores  [2]*Store // of two processes

	has   map[int]int // of the list that was taken last
	views []seen
}

type seen struct {
	whitelist.View
	rows map[int]int
}

func (r *run) store(i int) *Store {
	if r.stores[i] == nil {
		s, err := Open(config(r.t, r.dir))
		if err != nil {
			r.t.Fatal(err)
		}
		r.stores[i] = s
	}
	return r.stores[i]
}

func (r *run) close() {
	for _, v := range r.views {
		v.Release()
	}
	for i, s := range r.stores {
		if s != nil {
			s.Close()
			r.stores[i] = nil
		}
	}
}

// publish changes some rows, and offers deltas of random steps.
func (r *run) publish(t *rapid.T) {
	changes := map[int]int{}
	for _, holder := range rapid.SliceOfNDistinct(rapid.IntRange(0, holders-2), 0, 6, rapid.ID).Draw(t, "holders") {
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			changes[holder] = 0 // gone, or touched and not there
		case 1:
			changes[holder] = max(1, r.sets[r.set][holder]) // as it was
		default:
			r.edition++
			changes[holder] = r.edition
		}
	}
	r.change(changes)
	// The step itself, and some of those of a power of four before, like the 1, 16
	// and 256 of a hub.
	sets := slices.Sorted(maps.Keys(r.sets))
	at := len(sets) - 1
	if at == 0 {
		return
	}
	offered := map[[2]uint64]bool{{sets[at-1], sets[at]}: true}
	for _, d := range r.deltas {
		offered[d] = offered[d] || rapid.IntRange(0, 9).Draw(t, "keep") > 0
	}
	for _, step := range []int{2, 4, 16} {
		if at >= step && rapid.Bool().Draw(t, "merged") {
			offered[[2]uint64{sets[at-step], sets[at]}] = true
		}
	}
	maps.DeleteFunc(offered, func(_ [2]uint64, keep bool) bool { return !keep })
	r.deltas = slices.Collect(maps.Keys(offered))
	r.pathOrSnapshot()
}

// pathOrSnapshot publishes a new snapshot when none leads to the set any more, and
// forgets some deltas.
func (r *run) pathOrSnapshot() {
	m := whitelist.Manifest{Set: whitelist.SetID{Seq: r.set}}
	slices.SortFunc(r.deltas, func(a, b [2]uint64) int { return slices.Compare([]uint64{a[1], a[0]}, []uint64{b[1], b[0]}) })
	if n := len(r.deltas) - whitelist.MaxDeltas; n > 0 {
		r.deltas = r.deltas[n:]
	}
	for _, d := range r.deltas {
		m.Deltas = append(m.Deltas, whitelist.Delta{From: d[0], To: d[1]})
	}
	if _, ok := m.Path(r.snapshot); !ok {
		r.snapshot = r.set
	}
}

func (r *run) headOnly(*rapid.T) { r.seq++ }

func (r *run) snapshotNow(*rapid.T) {
	r.seq++
	r.snapshot = r.set
}

func (r *run) newEpoch(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
		r.hub.newEpoch()
	}
}

func (r *run) takeWith(t *rapid.T, s *Store) {
	if _, err := r.follow(t, s, r.head(t)); err != nil {
		t.Fatal(err)
	}
	r.has = r.sets[r.set]
}

func (r *run) take(t *rapid.T)          { r.takeWith(t, r.store(0)) }
func (r *run) takeByAnother(t *rapid.T) { r.takeWith(t, r.store(1)) }

func (r *run) takeSnapshot(t *rapid.T) {
	m := r.manifest(t)
	if _, err := r.store(0).Apply(context.Background(), r.sign(t, m), now, r.snapshotFiles(t, m), nil); err != nil {
		t.Fatal(err)
	}
	r.has = r.sets[r.set]
}

func (r *run) importWhole(t *rapid.T) {
	if _, err := r.store(1).Import(context.Background(), bytes.NewReader(r.whole(t)), now, nil); err != nil {
		t.Fatal(err)
	}
	r.has = r.sets[r.set]
}

func (r *run) merge(t *rapid.T) {
	if _, err := r.store(0).Merge(context.Background(), true); err != nil {
		t.Fatal(err)
	}
}

func (r *run) reopen(*rapid.T) {
	for i, s := range r.stores {
		if s != nil {
			s.Close()
			r.stores[i] = nil
		}
	}
}

func (r *run) look(t *rapid.T) {
	v, err := r.store(0).Current()
	if err != nil {
		t.Fatal(err)
	}
	r.views = append(r.views, seen{v, r.has})
}

// tornTail leaves behind the overlay what a power cut would.
func (r *run) tornTail(t *rapid.T) {
	f, err := r.store(0).root.OpenFile(overlayFile, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		_, err = f.Write(rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "tail"))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *run) check(t *rapid.T) {
	for _, s := range r.stores {
		if s != nil {
			r.stands(t, s, r.has, holders)
		}
	}
	for _, v := range r.views {
		r.holds(t, v, v.rows, holders)
	}
}
