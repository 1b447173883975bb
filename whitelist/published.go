package whitelist

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
)

// MaxDeltas is how many deltas a manifest names at most.
const MaxDeltas = 64

// A SetID tells one set of rows from another. Publications that change no row have
// one set.
type SetID struct {
	Seq    uint64   // of the publication in which a row changed last, from 1
	Digest [32]byte // of package whitelist's [Set]
}

// A Snapshot is a file of the rows of one set, ascending by CardID, as they stand
// in a list behind its manifest.
type Snapshot struct {
	Seq    uint64 // of its set
	SHA256 [32]byte
	Size   int64 // bytes, at most MaxFile
}

// A Delta is a file of the rows that were touched after the set From, up to the
// set To: each as it is in To, or without content when it is gone. So it leads to To
// from every set in between as well.
type Delta struct {
	From, To uint64
	SHA256   [32]byte
	Size     int64 // bytes, at most MaxFile
}

// Files are what leads to the set of a manifest: its Snapshot and the deltas of
// Path behind it, or without a snapshot those from the set in force.
type Files struct {
	Snapshot io.Reader // nil: none
	Deltas   []io.Reader
}

// Published says whether the list names a set: version 3 of the format.
func (m Manifest) Published() bool { return m.Set.Seq > 0 }

// Path returns the deltas that lead from one set of m's epoch to m's set, in order,
// with the fewest bytes. ok says whether any do; from the set itself none are needed.
func (m Manifest) Path(from uint64) (path []Delta, ok bool) {
	if from == m.Set.Seq {
		return nil, true
	}
	type way struct {
		bytes uint64
		by    int // index of the delta that leads here
		prev  uint64
	}
	best := map[uint64]way{from: {by: -1}}
	for i, d := range m.Deltas { // ascending by To: what a delta begins with is known before it
		to := way{bytes: math.MaxUint64}
		for at, w := range best {
			if bytes := w.bytes + uint64(d.Size); d.From <= at && at < d.To && (bytes < to.bytes || bytes == to.bytes && at > to.prev) {
				to = way{bytes, i, at}
			}
		}
		if old, known := best[d.To]; to.bytes < math.MaxUint64 && (!known || to.bytes < old.bytes) {
			best[d.To] = to
		}
	}
	if _, ok := best[m.Set.Seq]; !ok {
		return nil, false
	}
	for at := m.Set.Seq; at != from; at = best[at].prev {
		path = append(path, m.Deltas[best[at].by])
	}
	slices.Reverse(path)
	return path, true
}

// checkPublished holds Set, Snapshot and Deltas to the rules written at them.
func (m Manifest) checkPublished() error {
	if !m.Published() {
		if m.Snapshot != (Snapshot{}) || len(m.Deltas) > 0 {
			return fmt.Errorf("%w: a snapshot or deltas without a set", ErrMalformed)
		}
		return nil
	}
	if m.RowsSHA256 != ([32]byte{}) {
		return fmt.Errorf("%w: rows_sha256 beside a set", ErrMalformed)
	}
	if m.Set.Seq > m.Seq {
		return fmt.Errorf("%w: the set is of publication %d, behind %d", ErrMalformed, m.Set.Seq, m.Seq)
	}
	if s := m.Snapshot; s.Seq < 1 || s.Seq > m.Set.Seq {
		return fmt.Errorf("%w: the snapshot is of set %d, want 1 to %d", ErrMalformed, s.Seq, m.Set.Seq)
	}
	if err := checkSize("the snapshot", m.Snapshot.Size); err != nil {
		return err
	}
	if len(m.Deltas) > MaxDeltas {
		return fmt.Errorf("%w: %d deltas, at most %d are allowed", ErrMalformed, len(m.Deltas), MaxDeltas)
	}
	for i, d := range m.Deltas {
		switch {
		case d.From < 1 || d.From >= d.To || d.To > m.Set.Seq:
			return fmt.Errorf("%w: a delta from %d to %d in a list of set %d", ErrMalformed, d.From, d.To, m.Set.Seq)
		case i > 0 && cmp.Or(cmp.Compare(m.Deltas[i-1].To, d.To), cmp.Compare(m.Deltas[i-1].From, d.From)) >= 0:
			return fmt.Errorf("%w: deltas out of order", ErrMalformed)
		}
		if err := checkSize("a delta", d.Size); err != nil {
			return err
		}
	}
	if _, ok := m.Path(m.Snapshot.Seq); !ok {
		return fmt.Errorf("%w: no deltas lead from the snapshot to the set", ErrMalformed)
	}
	return nil
}

func checkSize(what string, n int64) error {
	if n < 0 || n > MaxFile {
		return fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", ErrMalformed, what, n, MaxFile)
	}
	return nil
}

// The wire forms of docs/list-format.md.

type wireSet struct {
	Seq    uint64   `cbor:"1,keyasint"`
	Digest [32]byte `cbor:"2,keyasint"`
}

type wireSnapshot struct {
	Seq    uint64   `cbor:"1,keyasint"`
	SHA256 [32]byte `cbor:"2,keyasint"`
	Size   uint64   `cbor:"3,keyasint"`
}

type wireDelta struct {
	From   uint64   `cbor:"1,keyasint"`
	To     uint64   `cbor:"2,keyasint"`
	SHA256 [32]byte `cbor:"3,keyasint"`
	Size   uint64   `cbor:"4,keyasint"`
}

// published fills in what w says of a set.
func (m *Manifest) published(w wireManifest) {
	if w.Set != nil {
		m.Set = SetID(*w.Set)
	}
	if s := w.Snapshot; s != nil {
		m.Snapshot = Snapshot{s.Seq, s.SHA256, size(s.Size)}
	}
	m.Deltas = each(w.Deltas, func(d wireDelta) Delta { return Delta{d.From, d.To, d.SHA256, size(d.Size)} })
}

func size(n uint64) int64 { return int64(min(n, uint64(MaxFile)+1)) }

// wirePublished fills in what m says of its rows.
func (w *wireManifest) wirePublished(m Manifest) {
	if !m.Published() {
		w.RowsSHA256 = m.RowsSHA256[:]
		return
	}
	set := wireSet(m.Set)
	w.Set = &set
	w.Snapshot = &wireSnapshot{m.Snapshot.Seq, m.Snapshot.SHA256, uint64(m.Snapshot.Size)}
	w.Deltas = each(m.Deltas, func(d Delta) wireDelta { return wireDelta{d.From, d.To, d.SHA256, uint64(d.Size)} })
}
