package lists

import (
	"testing"

	"github.com/gate-agent/gate-agent/whitelist"
)

func TestTheWayWithTheFewestBytesIsTaken(t *testing.T) {
	delta := func(from, to uint64, size int64) whitelist.Delta {
		return whitelist.Delta{From: from, To: to, Size: size}
	}
	m := whitelist.Manifest{
		Seq: 12, Set: whitelist.SetID{Seq: 10}, Snapshot: whitelist.Snapshot{Seq: 8, Size: 1000},
		Deltas: []whitelist.Delta{delta(5, 8, 2000), delta(7, 8, 900), delta(8, 9, 60), delta(9, 10, 40)},
	}
	for _, c := range []struct {
		name   string
		from   uint64
		way    Way
		deltas int
		size   int64
	}{
		{"none in force", 0, BySnapshot, 2, 1100},
		{"the same set", 10, ByHead, 0, 0},
		{"one delta", 9, ByDeltas, 1, 40},
		{"two of them", 8, ByDeltas, 2, 100},
		{"deltas below the snapshot", 7, ByDeltas, 3, 1000},
		{"deltas above the snapshot", 5, BySnapshot, 2, 1100},
		{"no deltas from there", 3, BySnapshot, 2, 1100},
		{"a set that the hub has lost", 11, BySnapshot, 2, 1100},
	} {
		if p := planFor(m, c.from); p.way != c.way || len(p.deltas) != c.deltas || p.size() != c.size {
			t.Errorf("%s: by %s, %d deltas, %d bytes, want %s, %d, %d", c.name, p.way, len(p.deltas), p.size(), c.way, c.deltas, c.size)
		}
	}
	m.Deltas[0].Size = 1000 // as large as the snapshot
	if p := planFor(m, 5); p.way != ByDeltas {
		t.Errorf("of two ways with the same size %s is taken", p.way)
	}
}
