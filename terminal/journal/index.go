package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
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

// fold changes the index by what an event says. It is the one place that does,
// for events that are written and for those that are read again; in is the
// schema of the index, "main" or "temp".
func fold(ctx context.Context, tx *sql.Tx, in string, e *Event, s *state) error {
	switch e.Kind {
	case KindReserve:
		people := max(1, e.People) // version 1 had no number: one person
		s.entries++
		s.states += int64(e.Seq) * reserved
		_, err := tx.ExecContext(ctx, `INSERT INTO `+in+`.passages VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)`,
			int64(e.Seq), e.Entitlement, e.Zone, e.direction(), e.At.UnixMilli(), reserved, people, min(e.Reentry, people), int64(e.Seq))
		return err
	case KindPassed:
		return settle(ctx, tx, in, e, s, reserved, reserved)
	case KindCommit:
		return settle(ctx, tx, in, e, s, committed, reserved, doubtful)
	case KindAnnul:
		return settle(ctx, tx, in, e, s, annulled, reserved, doubtful, committed)
	case KindDoubt:
		return settle(ctx, tx, in, e, s, doubtful, reserved)
	}
	return nil
}

// settle brings the passage of an event from one of some states into another.
// The error is ErrSettled when it is in none of them, or when the event has more
// people than were admitted.
func settle(ctx context.Context, tx *sql.Tx, in string, e *Event, s *state, to int64, from ...int64) error {
	var was, people, reentry, passed int64
	err := tx.QueryRowContext(ctx, `SELECT state, people, reentry, passed FROM `+in+`.passages WHERE seq = ?`, int64(e.Reservation)).
		Scan(&was, &people, &reentry, &passed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if !slices.Contains(from, was) || int64(e.People) > people {
		return fmt.Errorf("%w: %d", ErrSettled, e.Reservation)
	}
	switch {
	case e.Kind == KindPassed:
		passed = int64(e.People)
	case to == committed && e.People > 0:
		people = int64(e.People) // whoever used nothing up went first
		reentry, passed = min(reentry, people), people
	case to == committed:
		passed = people
	}
	s.states += int64(e.Reservation) * (to - was)
	_, err = tx.ExecContext(ctx, `UPDATE `+in+`.passages SET state = ?, people = ?, reentry = ?, passed = ?, last = ? WHERE seq = ?`,
		to, people, reentry, passed, int64(e.Seq), int64(e.Reservation))
	return err
}

// history reads what is known of an entitlement.
func history(ctx context.Context, q querier, entitlement string) (h terminal.History, err error) {
	rows, err := q.QueryContext(ctx, `SELECT seq, zone, direction, at, state, people, reentry, passed, last
		FROM passages WHERE entitlement = ? ORDER BY seq`, entitlement)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p terminal.Passage
		var seq, at, state, last int64
		if err := rows.Scan(&seq, &p.Zone, &p.Direction, &at, &state, &p.People, &p.Reentry, &p.Passed, &last); err != nil {
			return h, err
		}
		h.Last = max(h.Last, uint64(last))
		if state == annulled {
			continue
		}
		p.Reservation, p.At, p.Doubt = terminal.Reservation(seq), time.UnixMilli(at).UTC(), state == doubtful
		h.Passages = append(h.Passages, p)
	}
	return h, rows.Err()
}

// last is the number of the last event about an entitlement.
func last(ctx context.Context, q querier, entitlement string) (seq int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(last), 0) FROM passages WHERE entitlement = ?`, entitlement).Scan(&seq)
	return seq, err
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
	if err := migrate(ctx, tx); err != nil {
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

// migrate makes a journal of version 1 one of this version: its events stay as
// they are, and the index is made anew by recover.
func migrate(ctx context.Context, tx *sql.Tx) error {
	var version int64
	if err := tx.QueryRowContext(ctx, `SELECT user_version FROM pragma_user_version`).Scan(&version); err != nil || version == schemaVersion {
		return err
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`DROP TABLE IF EXISTS admissions; UPDATE folded SET hash = x''; PRAGMA user_version = %d;`, schemaVersion))
	return err
}

// agrees compares the index with its sums and with the last event. It reads
// the passages once, without parsing an event: a few milliseconds for every
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
	err = q.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(seq * state), 0) FROM passages`).Scan(&entries, &states)
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
	if _, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS passages; DROP TABLE IF EXISTS folded;`+indexSchema); err != nil {
		return s, err
	}
	if s, err = refold(ctx, tx, "main"); err != nil {
		return s, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO folded VALUES (1, 0, x'', 0, 0, 0)`); err != nil {
		return s, err
	}
	return s, s.store(ctx, tx)
}

// refold folds every event into an empty index, and checks the chain.
func refold(ctx context.Context, tx *sql.Tx, in string) (s state, err error) {
	if s.hash, err = hashOf(ctx, tx, 0); err != nil {
		return s, err
	}
	err = walk(ctx, tx, 0, func(l link) error {
		s.seq, s.hash, s.latest = l.event.Seq, l.hash, max(s.latest, l.event.At.UnixMilli())
		if err := fold(ctx, tx, in, &l.event, &s); err != nil {
			return &ChainError{s.seq, err.Error()}
		}
		return nil
	})
	return s, err
}
