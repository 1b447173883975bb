package journal

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/terminal"
)

// tail is how many of the last events Open checks against the chain: more than
// a power cut can have torn, few enough not to be noticed.
const tail = 256

// recover checks what Open relies on: version, durability of this connection,
// the end of the chain, and the index against its own sums and the last event.
// An index that disagrees is made again from the events.
func (j *Journal) recover(ctx context.Context) (err error) {
	tx, err := j.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing is lost; after Commit it does nothing
	version, err := versionOf(ctx, tx)
	if err != nil {
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
	switch {
	case version < schemaVersion:
		if err := migrate(ctx, tx); err != nil {
			return err
		}
		s, err = rebuild(ctx, tx)
	case err == nil && s.agrees(ctx, tx, uint64(last)):
		err = checkTail(ctx, tx, uint64(last))
	default:
		s, err = rebuild(ctx, tx)
		j.reindexed = true
	}
	if err != nil {
		return err
	}
	j.latest.Store(s.latest)
	return tx.Commit()
}

// migrate makes a journal of version 1 one of this version. Its events stay as
// they are; the index is to be made anew.
func migrate(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DROP TRIGGER IF EXISTS events_no_delete; DROP TABLE IF EXISTS admissions;`+
		baseSchema+fmt.Sprintf(`PRAGMA user_version = %d;`, schemaVersion))
	return err
}

// agrees compares the index with the last event, and the sums of the last two
// blocks with the passages there: as many rows at most, however long the journal
// is. Verify compares each row.
func (s state) agrees(ctx context.Context, q querier, last uint64) bool {
	hash, err := hashOf(ctx, q, last)
	if err != nil || s.seq != last || s.hash != hash {
		return false
	}
	ok, err := sumsAgree(ctx, q, max(int64(last>>16)-1, 0))
	return err == nil && ok
}

// sumsAgree compares the sums from a block on with the passages.
func sumsAgree(ctx context.Context, q querier, block int64) (bool, error) {
	var differ bool
	err := q.QueryRowContext(ctx, `WITH
			want AS (`+sumsOf+`),
			have AS (SELECT * FROM sums WHERE block >= ?)
		SELECT EXISTS (SELECT * FROM want EXCEPT SELECT * FROM have) OR EXISTS (SELECT * FROM have EXCEPT SELECT * FROM want)`,
		block, lastBlock, block).Scan(&differ)
	return !differ, err
}

func checkTail(ctx context.Context, q querier, last uint64) error {
	b, err := baseOf(ctx, q)
	if err != nil {
		return err
	}
	return walk(ctx, q, max(b.seq, last-min(tail, last)), func(link) error { return nil })
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

// rebuild makes the index from base and events, provided that the whole chain
// holds.
func rebuild(ctx context.Context, tx *sql.Tx) (s state, err error) {
	const gone = `DROP TABLE IF EXISTS passages; DROP TABLE IF EXISTS sums; DROP TABLE IF EXISTS folded;`
	if _, err := tx.ExecContext(ctx, gone+indexSchema); err != nil {
		return s, err
	}
	if s, err = refold(ctx, tx, "passages", nil); err != nil {
		return s, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO sums `+sumsOf, 0, lastBlock); err != nil {
		return s, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO folded VALUES (1, 0, x'', 0)`); err != nil {
		return s, err
	}
	return s, s.store(ctx, tx)
}

// refold folds what is carried and every event into an empty table, and checks
// the chain from its base. Each event is also shown to visit, when there is one.
func refold(ctx context.Context, tx *sql.Tx, table string, visit func(link) error) (s state, err error) {
	b, err := baseOf(ctx, tx)
	if err != nil {
		return s, err
	}
	s.seq, s.hash = b.seq, b.hash
	if b.seq > 0 {
		if err := b.check(ctx, tx); err != nil {
			return s, err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO `+table+` SELECT * FROM carried`); err != nil {
			return s, err
		}
	}
	recorded := uint64(0)
	err = walk(ctx, tx, b.seq, func(l link) error {
		if l.event.Kind == KindPrune {
			recorded = l.event.Seq
		}
		if _, err := fold(ctx, tx, table, &l.event); errors.Is(err, ErrSettled) || errors.Is(err, ErrPeople) {
			return &ChainError{l.event.Seq, err.Error()}
		} else if err != nil {
			return err
		}
		s.seq, s.hash, s.latest = l.event.Seq, l.hash, later(s.latest, &l.event)
		if visit != nil {
			return visit(l)
		}
		return nil
	})
	if err == nil && recorded != b.event {
		err = &ChainError{recorded, "it records a deletion, and the chain does not begin there"}
	}
	return s, err
}

// check compares the base with the record of the deletion, and with the digest
// of what is carried. That the record is in the chain is for the walk to find.
func (b base) check(ctx context.Context, q querier) error {
	broken := func(why string) error { return &ChainError{b.event, why} }
	var text []byte
	err := q.QueryRowContext(ctx, `SELECT bytes FROM events WHERE seq = ?`, int64(b.event)).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return broken("it is missing; it records why there is no event before " + fmt.Sprint(b.seq+1))
	} else if err != nil {
		return err
	}
	e, err := parseEvent(text)
	if err != nil {
		return broken(err.Error())
	}
	if e.Kind != KindPrune || e.Through != b.seq || e.ThroughHash != hex.EncodeToString(b.hash[:]) {
		return broken(fmt.Sprintf("it does not record that the events up to %d were deleted", b.seq))
	}
	n, digest, err := carried(ctx, q)
	if err != nil {
		return err
	}
	if e.Carried != n || e.CarriedSHA256 != hex.EncodeToString(digest[:]) {
		return broken("what outlives the events that it records as deleted was changed")
	}
	return nil
}

// openOnes are the open passages, of those that an index has: they are few.
const openOnes = `SELECT seq FROM passages WHERE state IN (1, 4) AND state = 1 ORDER BY seq`

// doubtOpen puts in doubt what the process that had the journal before left
// open: it ended between the relay and the passage, or before the relay.
func (j *Journal) doubtOpen(ctx context.Context) error {
	var open []uint64
	err := each(ctx, j.w, openOnes, func(scan scanner) error {
		var seq uint64
		err := scan(&seq)
		open = append(open, seq)
		return err
	})
	if err != nil {
		return err
	}
	for _, seq := range open {
		e := &Event{Kind: KindDoubt, At: instant(j.now()), Reservation: seq, Reason: terminal.OutOfOrder}
		if err := j.write(ctx, e, nil); err != nil {
			return fmt.Errorf("putting reservation %d in doubt: %w", seq, err)
		}
	}
	return nil
}
