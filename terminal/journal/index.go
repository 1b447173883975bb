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

// state is the one row of the table folded.
type state struct {
	seq    uint64 // the last event
	hash   Hash   // its hash
	latest int64  // greatest instant, Unix milliseconds
}

func loadState(ctx context.Context, q querier) (s state, err error) {
	var seq int64
	var hash []byte
	if err := q.QueryRowContext(ctx, `SELECT seq, hash, latest FROM folded`).Scan(&seq, &hash, &s.latest); err != nil {
		return state{}, err
	}
	s.seq = uint64(seq)
	if copy(s.hash[:], hash) != len(s.hash) {
		return state{}, fmt.Errorf("%w: the index has a hash of %d bytes", ErrCorrupt, len(hash))
	}
	return s, nil
}

func (s state) store(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE folded SET seq = ?, hash = ?, latest = ?`, int64(s.seq), s.hash[:], s.latest)
	return err
}

// A change is what an event adds to the sums of the block of a passage.
type change struct {
	passage                 uint64 // 0: none
	entries, states, people int64
}

func (c change) store(ctx context.Context, tx *sql.Tx) error {
	if c.passage == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO sums VALUES (? >> 16, ?, ?, ?) ON CONFLICT DO UPDATE
		SET entries = entries + excluded.entries, states = states + excluded.states, people = people + excluded.people`,
		int64(c.passage), c.entries, c.states, c.people)
	return err
}

// fold changes a table of passages by what an event says. It is the one place
// that does, for events that are written and for those that are read again.
func fold(ctx context.Context, tx *sql.Tx, table string, e *Event) (change, error) {
	switch e.Kind {
	case KindReserve:
		people, until := max(1, e.People), int64(0) // version 1 had no number: one person
		if !e.Until.IsZero() {
			until = e.Until.UnixMilli()
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO `+table+` (seq, entitlement, zone, direction, at, until, state, people, reentry, passed, last)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)`,
			int64(e.Seq), e.Entitlement, e.Zone, e.direction(), e.At.UnixMilli(), until, reserved, people, min(e.Reentry, people), int64(e.Seq))
		return change{e.Seq, 1, int64(e.Seq) * reserved, int64(people)}, err
	case KindPassed:
		return settle(ctx, tx, table, e, reserved, reserved)
	case KindCommit:
		if e.Staff != "" {
			return settle(ctx, tx, table, e, committed, doubtful)
		}
		return settle(ctx, tx, table, e, committed, reserved, doubtful)
	case KindAnnul:
		if e.Staff != "" {
			return settle(ctx, tx, table, e, annulled, doubtful, committed)
		}
		return settle(ctx, tx, table, e, annulled, reserved, doubtful)
	case KindDoubt:
		return settle(ctx, tx, table, e, doubtful, reserved)
	}
	return change{}, nil
}

// settle brings the passage of an event from one of some states into another.
// The error is ErrSettled when it is in none of them, ErrPeople when the event
// has more people than were admitted, or fewer than have passed.
func settle(ctx context.Context, tx *sql.Tx, table string, e *Event, to int64, from ...int64) (change, error) {
	var was, people, reentry, passed int64
	err := tx.QueryRowContext(ctx, `SELECT state, people, reentry, passed FROM `+table+` WHERE seq = ?`, int64(e.Reservation)).
		Scan(&was, &people, &reentry, &passed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return change{}, err
	}
	if !slices.Contains(from, was) {
		return change{}, fmt.Errorf("%w: %d", ErrSettled, e.Reservation)
	}
	if e.Kind == KindAnnul && was == doubtful && passed > 0 {
		return change{}, fmt.Errorf("%w: nobody, and %d were seen", ErrPeople, passed)
	}
	admitted, count := people, int64(e.People)
	if e.Kind == KindCommit && count == 0 {
		count = people // version 1 had no number: everybody
	}
	if e.Kind == KindCommit || e.Kind == KindPassed {
		if count > people || count < passed {
			return change{}, fmt.Errorf("%w: %d of %d, of whom %d have passed", ErrPeople, count, people, passed)
		}
		passed = count
	}
	if e.Kind == KindCommit {
		people, reentry = count, min(reentry, count) // whoever used nothing up went first
	}
	_, err = tx.ExecContext(ctx, `UPDATE `+table+` SET state = ?, people = ?, reentry = ?, passed = ?, last = ? WHERE seq = ?`,
		to, people, reentry, passed, int64(e.Seq), int64(e.Reservation))
	return change{e.Reservation, 0, int64(e.Reservation) * (to - was), people - admitted}, err
}

// historyOf reads the passages of an entitlement through an index, and where they
// were, as long as their events are kept.
const historyOf = `SELECT p.seq, zone, direction, at, state, people, reentry, passed, last, coalesce(e.bytes ->> 'gate', '')
	FROM passages p LEFT JOIN events e ON e.seq = p.seq WHERE entitlement = ? ORDER BY p.seq`

// history reads what is known of an entitlement.
func history(ctx context.Context, q querier, entitlement string) (h terminal.History, err error) {
	rows, err := q.QueryContext(ctx, historyOf, entitlement)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p terminal.Passage
		var seq, at, state, last int64
		if err := rows.Scan(&seq, &p.Zone, &p.Direction, &at, &state, &p.People, &p.Reentry, &p.Passed, &last, &p.Gate); err != nil {
			return h, err
		}
		h.Last = max(h.Last, uint64(last))
		if state == annulled {
			continue
		}
		p.Reservation, p.At, p.Open, p.Doubt = terminal.Reservation(seq), time.UnixMilli(at).UTC(), state == reserved, state == doubtful
		h.Passages = append(h.Passages, p)
	}
	return h, rows.Err()
}

// lastOf reads the number of the last event about an entitlement.
const lastOf = `SELECT coalesce(max(last), 0) FROM passages WHERE entitlement = ?`

func last(ctx context.Context, q querier, entitlement string) (seq int64, err error) {
	err = q.QueryRowContext(ctx, lastOf, entitlement).Scan(&seq)
	return seq, err
}
