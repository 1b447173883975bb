package publish

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
	"github.com/gate-agent/gate-agent/whitelist"
)

// steps are over how many changed sets deltas lead, keptDeltas how many of each
// there are: a terminal that was away for 16 of them takes up to 16 small ones,
// for 4096 a few large ones, and longer the snapshot.
var steps = [...]uint64{1, 16, 256}

const keptDeltas = 16

// A state is what the publisher keeps in the registry from one publication to
// the next.
type state struct {
	set      *whitelist.Set
	rows     uint64
	snapshot whitelist.Snapshot
	steps    [len(steps)]step
}

// A step is the chain of deltas of one width.
type step struct {
	last   uint64 // set in which the next delta begins
	since  uint64 // how often rows changed since
	deltas []whitelist.Delta
}

// named is every delta, as a manifest has them. One that two steps have is one.
func (s *state) named() (all []whitelist.Delta) {
	for _, step := range s.steps {
		all = append(all, step.deltas...)
	}
	slices.SortFunc(all, func(a, b whitelist.Delta) int { return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From)) })
	return slices.Compact(all)
}

// drop forgets deltas.
func (s *state) drop(which func(whitelist.Delta) bool) {
	for i := range s.steps {
		s.steps[i].deltas = slices.DeleteFunc(s.steps[i].deltas, which)
	}
}

// oldest is the first set in which a delta begins, or will.
func (s *state) oldest(set uint64) uint64 {
	for _, step := range s.steps {
		set = min(set, step.last)
		for _, d := range step.deltas {
			set = min(set, d.From)
		}
	}
	return set
}

// The form in the registry: nobody else reads it.

const stateVersion = 1

type wireState struct {
	Version  uint64     `cbor:"0,keyasint"`
	Set      []byte     `cbor:"1,keyasint"`
	Rows     uint64     `cbor:"2,keyasint"`
	Snapshot wireFile   `cbor:"3,keyasint"`
	Steps    []wireStep `cbor:"4,keyasint"`
}

type wireStep struct {
	Last   uint64     `cbor:"1,keyasint"`
	Since  uint64     `cbor:"2,keyasint"`
	Deltas []wireFile `cbor:"3,keyasint"`
}

type wireFile struct {
	From   uint64   `cbor:"1,keyasint"`
	To     uint64   `cbor:"2,keyasint"`
	SHA256 [32]byte `cbor:"3,keyasint"`
	Size   int64    `cbor:"4,keyasint"`
}

var stateCodec = strictcbor.New(strictcbor.Limits{Nested: 8, Array: keptDeltas, Map: 16})

func (s *state) encode() ([]byte, error) {
	w := wireState{Version: stateVersion, Set: s.set.State(), Rows: s.rows, Snapshot: wireFile{0, s.snapshot.Seq, s.snapshot.SHA256, s.snapshot.Size}}
	for _, step := range s.steps {
		x := wireStep{Last: step.last, Since: step.since}
		for _, d := range step.deltas {
			x.Deltas = append(x.Deltas, wireFile(d))
		}
		w.Steps = append(w.Steps, x)
	}
	return stateCodec.Marshal(w)
}

// decodeState reads what encode wrote; nil is the state before a first list.
func decodeState(b []byte) (state, error) {
	s := state{set: new(whitelist.Set)}
	if b == nil {
		return s, nil
	}
	var w wireState
	err := stateCodec.UnmarshalVersion(b, &w, stateVersion)
	if err == nil && len(w.Steps) != len(s.steps) {
		err = fmt.Errorf("%d steps", len(w.Steps))
	}
	if err == nil {
		s.set, err = whitelist.SetOfState(w.Set)
	}
	if err != nil {
		return s, fmt.Errorf("reading the state of the last publication: %w", err)
	}
	s.rows, s.snapshot = w.Rows, whitelist.Snapshot{Seq: w.Snapshot.To, SHA256: w.Snapshot.SHA256, Size: w.Snapshot.Size}
	for i, x := range w.Steps {
		s.steps[i] = step{last: x.Last, since: x.Since}
		for _, d := range x.Deltas {
			s.steps[i].deltas = append(s.steps[i].deltas, whitelist.Delta(d))
		}
	}
	return s, nil
}
