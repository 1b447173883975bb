package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// pruneBatch is how many events go in one transaction, and so how long a tap
// may have to wait for it.
const pruneBatch = 2048

// Over says whether an entitlement is over, so that nobody needs to know any
// more how often it was used.
type Over func(Used) bool

// Used is what Over judges: an entitlement all of whose events are to go.
type Used struct {
	Entitlement string
	Until       time.Time // its end as the journal knows it, the zero time for none
	Last        time.Time // when somebody last came or went by it
	Inside      int64     // people who came and did not go
}

// Everything is for Prune where nobody else has to have an event before it goes.
const Everything uint64 = math.MaxUint64

// Prune deletes the oldest events: as many as are all older than cutoff, from
// the first one on, up to a reservation that is open or in doubt, and none behind
// event most: the last one that a hub has acknowledged, or Everything. by is who
// wants it, the zero Staff for a rule of the venue.
//
// What was used of an entitlement stays known, without its events, until it is
// over: nil means that its end is before cutoff. over is called within a
// transaction and uses no method of j. A card that refused a birth date is
// remembered always.
//
// Prune goes in steps that each leave a whole journal, with an event that records
// what was deleted; between them taps go on. It returns how many events it
// deleted. When it returns nil, none of them is in any file of the journal any
// more: SQLite overwrites what it frees, and the WAL is empty. A program that
// reads the journal for long can prevent the latter; the error is then ErrBusy,
// and another Prune completes it.
func (j *Journal) Prune(ctx context.Context, cutoff time.Time, most uint64, over Over, by terminal.Staff) (deleted uint64, err error) {
	defer func() {
		if err != nil {
			err = fail(j.path, "deleting old events", err)
		}
	}()
	if over == nil {
		over = func(u Used) bool { return !u.Until.IsZero() && u.Until.Before(cutoff) }
	}
	for {
		n, err := j.prune(ctx, instant(cutoff), most, over, by)
		if deleted += n; err != nil {
			return deleted, err
		}
		if n == 0 {
			break
		}
	}
	var busy, frames, done int64
	if err := j.w.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &done); err != nil {
		return deleted, err
	}
	if busy != 0 {
		return deleted, fmt.Errorf("%w: they are deleted, and still in its -wal; delete again later", ErrBusy)
	}
	return deleted, nil
}

// prune is one step.
func (j *Journal) prune(ctx context.Context, cutoff Instant, most uint64, over Over, by terminal.Staff) (deleted uint64, err error) {
	at := instant(j.now())
	if cutoff.After(at.Time) {
		return 0, fmt.Errorf("the cutoff %s is after now, %s", cutoff.Format(instantFormat), at.Format(instantFormat))
	}
	tx, err := j.w.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // nothing is lost; after Commit it does nothing
	old, err := baseOf(ctx, tx)
	if err != nil {
		return 0, err
	}
	through, err := carry(ctx, tx, old, cutoff, most)
	if err != nil || through.seq == old.seq {
		return 0, err
	}
	if err := forget(ctx, tx, through.seq, over); err != nil {
		return 0, err
	}
	n, digest, err := carried(ctx, tx)
	if err != nil {
		return 0, err
	}
	e := &Event{
		Kind: KindPrune, At: at, Staff: by.Name, Role: by.Role, Cutoff: cutoff,
		Through: through.seq, ThroughHash: hex.EncodeToString(through.hash[:]), Deleted: through.seq - old.seq,
		Carried: n, CarriedSHA256: hex.EncodeToString(digest[:]),
	}
	s, err := add(ctx, tx, e)
	if err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE base SET seq = ?, hash = ?, event = ?`, int64(through.seq), through.hash[:], int64(e.Seq)); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM events WHERE seq <= ?`, int64(through.seq)); err != nil {
		return 0, err
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	j.saw(s.latest)
	return e.Deleted, nil
}

// firstOpen is the first passage that is open or in doubt.
const firstOpen = `SELECT min(seq) FROM passages WHERE state IN (1, 4)`

// carry folds the events that may go, behind the old base, into what outlives
// them, and returns the new base. It checks their chain: what is not sound is
// not deleted but shown.
func carry(ctx context.Context, tx *sql.Tx, old base, cutoff Instant, most uint64) (through base, err error) {
	limit := int64(min(old.seq+pruneBatch, most))
	var open sql.NullInt64
	if err := tx.QueryRowContext(ctx, firstOpen).Scan(&open); err != nil {
		return through, err
	}
	if open.Valid {
		limit = min(limit, open.Int64-1)
	}
	through = old
	err = walk(ctx, tx, old.seq, func(l link) error {
		if int64(l.event.Seq) > limit || !l.event.At.Before(cutoff.Time) {
			return errStop
		}
		through.seq, through.hash = l.event.Seq, l.hash
		if l.event.BirthDateRefused && l.event.CardID != "" {
			if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO refused VALUES (?)`, l.event.CardID); err != nil {
				return err
			}
		}
		_, err := fold(ctx, tx, "carried", &l.event)
		return err
	})
	return through, err
}

// forget deletes the passages up to an event that nobody needs to know of any
// more: those of entitlements that are over, and of people without one. No event
// about them may be left, or it would lead nowhere.
func forget(ctx context.Context, tx *sql.Tx, through uint64, over Over) error {
	var gone []string
	err := each(ctx, tx, `SELECT entitlement, max(until), max(at), sum(CASE WHEN state = 3 THEN 0 WHEN direction = 0 THEN people ELSE -people END)
		FROM carried WHERE entitlement <> '' GROUP BY entitlement
		HAVING (SELECT max(last) FROM passages WHERE passages.entitlement = carried.entitlement) <= ?`, func(scan scanner) error {
		var u Used
		var until, last int64
		if err := scan(&u.Entitlement, &until, &last, &u.Inside); err != nil {
			return err
		}
		u.Last = time.UnixMilli(last).UTC()
		if until != 0 {
			u.Until = time.UnixMilli(until).UTC()
		}
		if over(u) {
			gone = append(gone, u.Entitlement)
		}
		return nil
	}, int64(through))
	if err != nil {
		return err
	}
	for _, table := range []string{"carried", "passages"} { // passages last: it knows the last event
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE entitlement = '' AND seq <= ?1
			AND (SELECT last FROM passages p WHERE p.seq = `+table+`.seq) <= ?1`, int64(through)); err != nil {
			return err
		}
		for _, entitlement := range gone {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE entitlement = ?`, entitlement); err != nil {
				return err
			}
		}
	}
	block := int64(through >> 16)
	if _, err := tx.ExecContext(ctx, `DELETE FROM sums WHERE block <= ?`, block); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO sums `+sumsOf, 0, block)
	return err
}

// carried counts the passages that outlive their events, and gives the digest
// of all that does: SHA-256 of label ‖ incarnation ‖ the items of eachCarried.
func carried(ctx context.Context, q querier) (n uint64, digest Hash, err error) {
	id, err := incarnationOf(ctx, q)
	if err != nil {
		return 0, digest, err
	}
	h := sha256.New()
	h.Write([]byte(carriedLabel))
	h.Write(id[:])
	if err := eachCarried(ctx, q, func(item []byte) { h.Write(item) }); err != nil {
		return 0, digest, err
	}
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM carried`).Scan(&n)
	return n, Hash(h.Sum(nil)), err
}

// eachCarried shows what outlives its events in deterministic CBOR: an array for
// each passage, in sequence, and a text string for each card that refused a
// birth date, in the order of their bytes.
func eachCarried(ctx context.Context, q querier, item func([]byte)) error {
	const passages = `SELECT seq, entitlement, zone, direction, at, until, state, people, reentry, passed, last FROM carried ORDER BY seq`
	err := each(ctx, q, passages, func(scan scanner) error {
		var entitlement, zone string
		var seq, direction, at, until, state, people, reentry, passed, last int64
		if err := scan(&seq, &entitlement, &zone, &direction, &at, &until, &state, &people, &reentry, &passed, &last); err != nil {
			return err
		}
		b, err := codec.Marshal([]any{seq, entitlement, zone, direction, at, until, state, people, reentry, passed, last})
		item(b)
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, q, `SELECT card_id FROM refused ORDER BY card_id`, func(scan scanner) error {
		var card string
		if err := scan(&card); err != nil {
			return err
		}
		b, err := codec.Marshal(card)
		item(b)
		return err
	})
}

type scanner func(dest ...any) error

// each shows every row of a query.
func each(ctx context.Context, q querier, query string, row func(scanner) error, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
