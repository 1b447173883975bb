package publish

import (
	"context"
	"fmt"
	"iter"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/whitelist"
)

const (
	// A snapshot is due when the deltas behind the last one have more than a part of
	// its bytes, and a delta is not written that has more than another: whoever needs
	// it takes the snapshot. Below small bytes neither is worth a thought.
	snapshotShare = 4
	deltaShare    = 2
	small         = 64 << 10

	batchRows     = 512
	progressEvery = 8192
)

// A builder builds one list, within the transaction of its publication.
type builder struct {
	*Publisher
	tx *registry.Publication
	at time.Time

	state state
	draft Draft
}

func (b *builder) build(ctx context.Context) error {
	if err := b.begin(); err != nil {
		return err
	}
	before := b.tx.Scope().SetSeq
	if err := b.rows(ctx, before == 0); err != nil {
		return err
	}
	b.set()
	if err := b.files(ctx, before); err != nil {
		return err
	}
	m := &b.draft.Manifest
	m.Snapshot, m.Deltas = b.state.snapshot, b.state.named()
	if err := b.tx.Forget(ctx, b.state.oldest(m.Set.Seq)); err != nil {
		return err
	}
	text, err := b.state.encode()
	if err != nil {
		return err
	}
	b.tx.SetState(text)
	b.draft.Payload, err = m.Encode()
	return err
}

// begin says what does not depend on the rows.
func (b *builder) begin() (err error) {
	s := b.tx.Scope()
	if b.state, err = decodeState(b.tx.State()); err != nil {
		return err
	}
	asOf := s.RevocationAsOf
	if asOf.After(b.at) { // by the issuer's clock, which may be ahead
		asOf = b.at
	}
	b.draft.Manifest = whitelist.Manifest{
		Scope: s.Name, Hierarchy: s.Hierarchy, Epoch: s.Epoch, Seq: s.Seq + 1,
		IssuedAt: b.at, NotAfter: b.at.Add(s.Lifetime), RevocationAsOf: asOf,
		Policy: s.Policy, Venue: s.Venue, ScopeKeyCheck: b.Key.Check(),
	}
	return nil
}

// set says which set the rows are.
func (b *builder) set() {
	m := &b.draft.Manifest
	m.Rows, m.Set = b.state.rows, whitelist.SetID{Seq: b.tx.Scope().SetSeq, Digest: b.state.set.Digest()}
	if m.Set.Seq == 0 || b.draft.changes() > 0 {
		m.Set.Seq = m.Seq
	}
}

// rows seals what changed, and keeps what is not as it was. In the first list of
// an epoch there is nothing to compare with.
func (b *builder) rows(ctx context.Context, first bool) error {
	m := b.draft.Manifest
	seen := uint64(0)
	for r, err := range b.sealed(b.tx.Changed(ctx)) {
		if err != nil {
			return err
		}
		seen++
		b.tell(Sealing, seen)
		var old []byte
		if !first {
			if old, err = b.tx.Published(ctx, r.ID); err != nil {
				return err
			}
		}
		if slices.Equal(old, r.Sealed) {
			continue
		}
		if old != nil {
			b.state.set.Remove(whitelist.SealedRow{ID: r.ID, Sealed: old})
		}
		if r.Sealed != nil {
			b.state.set.Add(r)
		}
		switch {
		case old == nil:
			b.draft.Added++
			b.state.rows++
		case r.Sealed == nil:
			b.draft.Gone++
			b.state.rows--
		default:
			b.draft.Changed++
		}
		if err := b.tx.Put(ctx, r.ID, r.Sealed, m.Seq); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) tell(doing Doing, rows uint64) {
	if b.Progress != nil && rows%progressEvery == 0 {
		b.Progress(doing, rows)
	}
}

// told passes rows on, and tells of them.
func (b *builder) told(rows iter.Seq2[whitelist.SealedRow, error]) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		n := uint64(0)
		for row, err := range rows {
			if !yield(row, err) {
				return
			}
			n++
			b.tell(Writing, n)
		}
	}
}

// sealed seals rows in their order, a batch at a time on every processor: a row
// costs some ten microseconds, and a new epoch a million rows.
func (b *builder) sealed(subjects iter.Seq2[registry.Subject, error]) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		batch := make([]registry.Subject, 0, batchRows)
		flush := func() bool {
			rows, err := b.sealBatch(batch)
			batch = batch[:0]
			if err != nil {
				yield(whitelist.SealedRow{}, err)
				return false
			}
			for _, r := range rows {
				if !yield(r, nil) {
					return false
				}
			}
			return true
		}
		for s, err := range subjects {
			if err != nil {
				yield(whitelist.SealedRow{}, err)
				return
			}
			if batch = append(batch, s); len(batch) == batchRows && !flush() {
				return
			}
		}
		flush()
	}
}

func (b *builder) sealBatch(batch []registry.Subject) ([]whitelist.SealedRow, error) {
	rows, failed := make([]whitelist.SealedRow, len(batch)), make([]error, len(batch))
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(batch))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(batch); i += workers {
				if s := batch[i]; s.Gone {
					rows[i].ID = b.Key.ID(s.Head)
				} else {
					rows[i], failed[i] = b.draft.Manifest.Seal(b.Key, whitelist.Listed{Head: s.Head, Row: s.Row})
				}
			}
		})
	}
	wg.Wait()
	for i, err := range failed {
		if err != nil {
			return nil, fmt.Errorf("the row of card %s: %w", b.Key.ID(batch[i].Head), err)
		}
	}
	return rows, nil
}

// files writes what leads to the set from those before, the last of which was
// before; 0 is none.
func (b *builder) files(ctx context.Context, before uint64) error {
	m, st := &b.draft.Manifest, &b.state
	st.drop(func(d whitelist.Delta) bool { return !b.Folder.has(deltaFile(d)) }) // a folder that was lost
	if before > 0 && m.Set.Seq > before {
		if err := b.deltas(ctx); err != nil {
			return err
		}
	}
	for i := range st.steps {
		if st.steps[i].last == 0 {
			st.steps[i].last = m.Set.Seq
		}
	}
	if !b.snapshotDue() {
		return nil
	}
	sum, size, err := b.write(snapshotDir, b.tx.ChangedSince(ctx, 0), 0)
	st.snapshot = whitelist.Snapshot{Seq: m.Set.Seq, SHA256: sum, Size: size}
	return err
}

// deltas writes the one from the set before, and every sixteenth time one over
// sixteen of them, and so on.
func (b *builder) deltas(ctx context.Context) error {
	to := b.draft.Manifest.Set.Seq
	most := max(small, b.state.snapshot.Size/deltaShare)
	for i := range b.state.steps {
		step := &b.state.steps[i]
		if step.since++; step.since < steps[i] {
			continue
		}
		d := whitelist.Delta{From: step.last, To: to}
		step.last, step.since = to, 0
		var err error
		if d.SHA256, d.Size, err = b.write(path.Dir(d.Name()), b.tx.ChangedSince(ctx, d.From), most); err != nil {
			return err
		}
		if d.Size <= most {
			step.deltas = append(step.deltas, d)
			step.deltas = step.deltas[max(0, len(step.deltas)-keptDeltas):]
		}
	}
	return nil
}

func (b *builder) snapshotDue() bool {
	st := &b.state
	if st.snapshot.Seq == 0 || !b.Folder.has(snapshotFile(st.snapshot)) {
		return true
	}
	m := b.draft.Manifest
	m.Snapshot, m.Deltas = st.snapshot, st.named()
	path, ok := m.Path(st.snapshot.Seq)
	if !ok {
		return true
	}
	sum := int64(0)
	for _, d := range path {
		sum += d.Size
	}
	return sum > max(small, st.snapshot.Size/snapshotShare)
}

// write writes rows as a file of the folder; one of more than most bytes, 0 for
// any number, is not kept.
func (b *builder) write(dir string, rows iter.Seq2[whitelist.SealedRow, error], most int64) (sum [32]byte, size int64, err error) {
	sum, size, err = b.Folder.write(dir, b.told(rows), most, b.at)
	if err == nil && (most == 0 || size <= most) {
		b.draft.Written += size
	}
	return sum, size, err
}
