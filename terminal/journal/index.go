package journal

import (
	"context"
	"database/sql"
	"fmt"
)

// tail is how many of the last events Open checks against the chain: more than
// a power cut can have torn, few enough not to be noticed.
const tail = 256

// state is the one row of the table folded.
type state struct {
	seq     uint64 // the last event
	hash    Hash   // its hash
	entries int64  // number of admissions
	states  int64  // sum over admissions of seq × state
	latest  int64  // greatest instant, Unix milliseconds
}

func loadState(ctx context.Context, q querier) (s state, err error) {
	var seq int64
	var hash []byte
	err = q.QueryRowContext(ctx, `SELECT seq, hash, entries, states, latest FROM folded`).
		Scan(&seq, &hash, &s.entries, &s.states, &s.latest)
	if err != nil {
		return state{}, err
	}
	s.seq = uint64(seq)
	if copy(s.hash[:], hash) != len(s.hash) {
		return state{}, fmt.Errorf("%w: the index has a hash of %d bytes", ErrCorrupt, len(hash))
	}
	return s, nil
}

func (s state) store(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE folded SET seq = ?, hash = ?, entries = ?, states = ?, latest = ?`,
		int64(s.seq), s.hash[:], s.entries, s.states, s.latest)
	return err
}

func uses(ctx context.Context, q querier, entitlement string) (n uint32, err error) {
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM admissions WHERE entitlement = ? AND state IN (1, 2)`, entitlement).Scan(&n)
	return n, err
}

// recover checks what Open relies on: version, durability of this connection,
// the end of the chain, and the index against its own sums and the last event.
// An index that disagrees is made again from the events.
func (j *Journal) recover(ctx context.Context) (err error) {
	tx, err := j.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing is lost; after Commit it does nothing
	if err := checkVersion(ctx, tx); err != nil {
		return err
	}
	if err := checkDurable(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, refusalSchema); err != nil {
		return err
	}
	var last int64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM events`).Scan(&last); err != nil {
		return err
	}
	s, err := loadState(ctx, tx)
	if err == nil && s.seq > uint64(last) {
		// An event and its index are one transaction: events are gone.
		return &ChainError{uint64(last) + 1, fmt.Sprintf("it is missing; there were %d events", s.seq)}
	}
	// Whatever keeps the index from being read is no reason to give up: the
	// events are the truth, and making it again finds out whether they are sound.
	if err == nil && s.agrees(ctx, tx, uint64(last)) {
		err = walk(ctx, tx, uint64(max(last-tail, 0)), func(link) error { return nil })
	} else {
		s, err = rebuild(ctx, tx)
		j.reindexed = true
	}
	if err != nil {
		return err
	}
	j.latest.Store(s.latest)
	return tx.Commit()
}

// agrees compares the index with its sums and with the last event. It reads
// the admissions once, without parsing an event: a few milliseconds for every
// ten thousand. Verify compares each row.
func (s state) agrees(ctx context.Context, q querier, last uint64) bool {
	hash, err := hashOf(ctx, q, last)
	if err != nil || s.seq != last || s.hash != hash {
		return false
	}
	entries, states, err := sums(ctx, q)
	return err == nil && s.entries == entries && s.states == states
}

func sums(ctx context.Context, q querier) (entries, states int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(seq * state), 0) FROM admissions`).Scan(&entries, &states)
	return entries, states, err
}

// checkDurable makes sure that SQLite took the settings that durability rests
// on; a file system without shared memory would silently get another mode.
func checkDurable(ctx context.Context, q querier) error {
	var mode string
	var sync int
	if err := q.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return err
	}
	if err := q.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&sync); err != nil {
		return err
	}
	if mode != "wal" || sync != 2 {
		return fmt.Errorf("SQLite uses journal mode %s and synchronous %d, want wal and 2 (FULL)", mode, sync)
	}
	return nil
}

// rebuild makes the index from the events, provided that the whole chain holds.
func rebuild(ctx context.Context, tx *sql.Tx) (s state, err error) {
	if _, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS admissions; DROP TABLE IF EXISTS folded;`+indexSchema); err != nil {
		return s, err
	}
	if s.hash, err = hashOf(ctx, tx, 0); err != nil {
		return s, err
	}
	err = walk(ctx, tx, 0, func(l link) error {
		s.seq, s.hash, s.latest = l.event.Seq, l.hash, max(s.latest, l.event.At.UnixMilli())
		return nil
	})
	if err != nil {
		return s, err
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO admissions SELECT seq, bytes ->> 'entitlement', 1 FROM events WHERE bytes ->> 'kind' = 'reserve';
		UPDATE admissions SET state = 2 WHERE seq IN (SELECT bytes ->> 'reservation' FROM events WHERE bytes ->> 'kind' = 'commit');
		UPDATE admissions SET state = 3 WHERE seq IN (SELECT bytes ->> 'reservation' FROM events WHERE bytes ->> 'kind' = 'annul');
		INSERT INTO folded VALUES (1, 0, x'', 0, 0, 0);`); err != nil {
		return s, err
	}
	if s.entries, s.states, err = sums(ctx, tx); err != nil {
		return s, err
	}
	return s, s.store(ctx, tx)
}
