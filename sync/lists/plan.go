package lists

import "github.com/gate-agent/gate-agent/whitelist"

// A plan says which files lead to the set of a manifest.
type plan struct {
	way      Way
	snapshot *whitelist.Snapshot // nil: from the set in force
	deltas   []whitelist.Delta   // in their order
}

// planFor takes the way with the fewest bytes from a set, which is 0 when there is
// none to go on from. Deltas win over a snapshot of the same size: they touch fewer
// rows on the disk.
func planFor(m whitelist.Manifest, from uint64) plan {
	whole := bySnapshot(m)
	deltas, ok := m.Path(from)
	switch p := (plan{way: ByDeltas, deltas: deltas}); {
	case from == 0 || !ok:
		return whole
	case len(deltas) == 0:
		return plan{way: ByHead}
	case p.size() > whole.size():
		return whole
	default:
		return p
	}
}

func bySnapshot(m whitelist.Manifest) plan {
	deltas, _ := m.Path(m.Snapshot.Seq) // a manifest without one is malformed
	return plan{BySnapshot, &m.Snapshot, deltas}
}

func (p plan) size() (bytes int64) {
	if p.snapshot != nil {
		bytes = p.snapshot.Size
	}
	for _, d := range p.deltas {
		bytes += d.Size
	}
	return bytes
}

func (p plan) digests() (all [][32]byte) {
	if p.snapshot != nil {
		all = append(all, p.snapshot.SHA256)
	}
	for _, d := range p.deltas {
		all = append(all, d.SHA256)
	}
	return all
}
