package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// maxForks bounds how many events are kept beside those of one journal: enough for
// people to see what a clone did, and no way to fill a disk.
const maxForks = 4096

// A journal is what is held of one.
type journal struct {
	id      int64 // 0: nothing, and there is no row
	through uint64
	hash    upload.Hash
}

// A link is an event with its number and hash; bytes is nil of one whose bytes
// stayed at the terminal.
type link struct {
	seq   uint64
	hash  upload.Hash
	bytes []byte
}

// links are the events of a batch, with the hashes that follow from its prev.
func links(b *upload.Batch) []link {
	if b.Omitted != nil {
		return []link{{b.First, *b.Omitted, nil}}
	}
	all, head := make([]link, len(b.Events)), b.Prev
	for i, e := range b.Events {
		head = upload.NextHash(head, e)
		all[i] = link{b.First + uint64(i), head, e}
	}
	return all
}

// An outcome is what came of a batch: what is held now, or since which event the
// journal is another one.
type outcome struct {
	journal
	clone uint64 // 0: it is not
}

// place puts a batch behind what is held of its journal, at an instant. What is
// held already is compared, what does not follow on it is left, so that the answer
// says from where to go on.
func (t *tx) place(ctx context.Context, b *upload.Batch, at int64) (o outcome, err error) {
	if o.journal, err = t.journal(ctx, b); err != nil {
		return o, err
	}
	if err := t.hear(ctx, b, at); err != nil {
		return o, err
	}
	came := links(b)
	if o.clone, err = t.differs(ctx, o.journal, b, came); err != nil {
		return o, err
	}
	if o.clone > 0 {
		return o, t.fork(ctx, o.journal, o.clone, came, at)
	}
	for len(came) > 0 && came[0].seq <= o.through { // sent again
		came = came[1:]
	}
	if len(came) == 0 {
		return o, nil
	}
	if came[0].seq > o.through+1 && (b.Pruned <= o.through || came[0].seq != b.Pruned+1) {
		return o, nil // something is missing in between, and the terminal has it
	}
	if o.id == 0 {
		if o.id, err = t.newJournal(ctx, b, at); err != nil {
			return o, err
		}
	}
	if came[0].seq > o.through+1 {
		if _, err := t.exec(ctx, `INSERT INTO gaps VALUES (?1, ?2, ?3, ?4, ?5)`, o.id, int64(o.through+1), int64(b.Pruned), b.Prev[:], at); err != nil {
			return o, fmt.Errorf("recording a gap: %w", err)
		}
	}
	if err := t.append(ctx, o.id, b.Scope, came, at); err != nil {
		return o, err
	}
	last := came[len(came)-1]
	o.through, o.hash = last.seq, last.hash
	_, err = t.exec(ctx, `UPDATE journals SET through = ?2, hash = ?3, last_at = ?4 WHERE id = ?1`, o.id, int64(o.through), o.hash[:], at)
	return o, err
}

func (t *tx) journal(ctx context.Context, b *upload.Batch) (j journal, err error) {
	var through int64
	var hash []byte
	err = t.queryRow(ctx, `SELECT id, through, hash FROM journals WHERE scope = ?1 AND terminal = ?2 AND incarnation = ?3`,
		b.Scope, b.Terminal, b.Incarnation[:]).Scan(&j.id, &through, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return journal{hash: upload.FirstHash(b.Incarnation)}, nil
	}
	if err == nil && copy(j.hash[:], hash) != len(j.hash) {
		err = errors.New("its hash is not one")
	}
	j.through = uint64(through)
	return j, err
}

func (t *tx) newJournal(ctx context.Context, b *upload.Batch, at int64) (id int64, err error) {
	if err := t.queryRow(ctx, `SELECT coalesce(max(id), 0) + 1 FROM journals`).Scan(&id); err != nil {
		return 0, err
	}
	first := upload.FirstHash(b.Incarnation)
	_, err = t.exec(ctx, `INSERT INTO journals VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?6, 0, 0)`, id, b.Scope, b.Terminal, b.Incarnation[:], first[:], at)
	return id, err
}

// differs is the first event that is known to be another than the one that is
// held, 0 for none.
func (t *tx) differs(ctx context.Context, j journal, b *upload.Batch, came []link) (seq uint64, err error) {
	if b.Last < j.through {
		return b.Last + 1, nil // it was cut, or is older
	}
	before := b.First - 1
	if before > j.through {
		return 0, nil
	}
	held := map[uint64]upload.Hash{0: upload.FirstHash(b.Incarnation), j.through: j.hash}
	if before < j.through {
		// The end of a gap has the hash that the terminal told.
		rows, err := t.query(ctx, `SELECT seq, hash FROM events WHERE journal = ?1 AND seq BETWEEN ?2 AND ?3
			UNION ALL SELECT last, hash FROM gaps WHERE journal = ?1 AND last BETWEEN ?2 AND ?3`, j.id, int64(before), int64(before)+upload.MaxEvents)
		var n int64
		var hash []byte
		if err := each(rows, err, func() error {
			if err := rows.Scan(&n, &hash); err != nil {
				return err
			}
			held[uint64(n)] = upload.Hash(hash)
			return nil
		}); err != nil {
			return 0, fmt.Errorf("comparing events: %w", err)
		}
	}
	for _, l := range append([]link{{seq: before, hash: b.Prev}}, came...) {
		if hash, ok := held[l.seq]; ok && hash != l.hash {
			return max(l.seq, 1), nil
		}
	}
	return 0, nil
}

// fork keeps the other events of a clone, and since when there is one.
func (t *tx) fork(ctx context.Context, j journal, seq uint64, came []link, at int64) error {
	if _, err := t.exec(ctx, `UPDATE journals SET clone_at = ?2, clone_seq = ?3 WHERE id = ?1 AND clone_at = 0`, j.id, at, int64(seq)); err != nil {
		return fmt.Errorf("recording a clone: %w", err)
	}
	var n int
	if err := t.queryRow(ctx, `SELECT count(*) FROM forks WHERE journal = ?1`, j.id).Scan(&n); err != nil {
		return err
	}
	var args []any
	for _, l := range came[:min(len(came), max(0, maxForks-n))] {
		if l.seq >= seq {
			args = append(args, j.id, int64(l.seq), l.hash[:], l.bytes, at)
		}
	}
	if err := t.insert(ctx, `INSERT INTO forks VALUES `, 5, ` ON CONFLICT DO NOTHING`, args); err != nil {
		return fmt.Errorf("keeping a clone's events: %w", err)
	}
	return nil
}

// append keeps events that follow on those that are held.
func (t *tx) append(ctx context.Context, id int64, scope string, came []link, at int64) error {
	var events, refused []any
	f := folding{tx: t, journal: id, scope: scope, changed: make(map[uint64]*passage)}
	for _, l := range came {
		events = append(events, id, int64(l.seq), l.hash[:], l.bytes, at)
		why, err := f.read(ctx, l)
		if err != nil {
			return fmt.Errorf("folding event %d: %w", l.seq, err)
		}
		if why != "" {
			refused = append(refused, id, int64(l.seq), why, at)
		}
	}
	if err := t.insert(ctx, `INSERT INTO events VALUES `, 5, ``, events); err != nil {
		return fmt.Errorf("keeping events: %w", err)
	}
	if err := t.insert(ctx, `INSERT INTO refused VALUES `, 4, ``, refused); err != nil {
		return fmt.Errorf("listing what cannot be read: %w", err)
	}
	return f.store(ctx)
}

// hear notes that a terminal was heard, and how far its clock is ahead.
func (t *tx) hear(ctx context.Context, b *upload.Batch, at int64) error {
	_, err := t.exec(ctx, `INSERT INTO heard VALUES (?1, ?2, ?3, ?4, ?5, 0, NULL)
		ON CONFLICT (scope, terminal) DO UPDATE SET at = excluded.at, offset_ms = excluded.offset_ms, agent = excluded.agent`,
		b.Scope, b.Terminal, at, b.Sent.UnixMilli()-at, plain(b.Agent))
	if err != nil {
		return fmt.Errorf("noting who was heard: %w", err)
	}
	return nil
}
