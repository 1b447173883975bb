package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// Record writes a decision that does not open the gate. One that does is an
// error: it goes through Reserve.
//
// A refused birth date that cannot be written, on a full disk, is remembered
// until the journal is closed, and is in the next event of that card: the card
// would be given it at each tap.
func (j *Journal) Record(ctx context.Context, d terminal.Decision) error {
	if d.Admitted() {
		return fail(j.path, "recording a decision", errors.New("it admits and has no reservation"))
	}
	return j.record(ctx, "recording a decision", KindDecision, d)
}

// Traced writes what a session with a card used up that was no tap: signatures
// of the terminal's key, and a birth date that the card refused. Its verdict is
// none.
func (j *Journal) Traced(ctx context.Context, d terminal.Decision) error {
	return j.record(ctx, "recording a traced session", KindTrace, d)
}

func (j *Journal) record(ctx context.Context, doing string, kind Kind, d terminal.Decision) error {
	if _, owed := j.unwritten.Load(d.CardID); owed {
		d.BirthDateRefused = true
	}
	if d.BirthDateRefused {
		j.unwritten.Store(d.CardID, nil)
	}
	e := decisionEvent(kind, d)
	if kind == KindTrace {
		e.Verdict = ""
	}
	if err := j.append(ctx, doing, e, nil); err != nil {
		return err
	}
	j.unwritten.Delete(d.CardID)
	return nil
}

// Reserve writes an admission and counts it as an entry of d.Entitlement, in
// one transaction and only when exactly seen entries stood before.
func (j *Journal) Reserve(ctx context.Context, d terminal.Decision, seen uint32) (terminal.Reservation, error) {
	const doing = "reserving an entry"
	if !d.Admitted() || d.Entitlement == "" {
		return 0, fail(j.path, doing, errors.New("the decision does not admit, or names no entitlement"))
	}
	e := decisionEvent(KindReserve, d)
	err := j.append(ctx, doing, e, func(tx *sql.Tx, s *state) error {
		standing, err := uses(ctx, tx, d.Entitlement)
		if err != nil {
			return err
		}
		if standing != seen {
			return terminal.ErrUsesChanged
		}
		s.entries++
		s.states += int64(e.Seq) * reserved
		_, err = tx.ExecContext(ctx, `INSERT INTO admissions VALUES (?, ?, ?)`, int64(e.Seq), e.Entitlement, reserved)
		return err
	})
	if err != nil {
		return 0, err
	}
	return terminal.Reservation(e.Seq), nil
}

// Commit writes that the relay moved for a reservation. The error is
// ErrSettled when the reservation is not open.
func (j *Journal) Commit(ctx context.Context, r terminal.Reservation) error {
	return j.settle(ctx, "committing an entry", KindCommit, r, "", committed)
}

// Annul writes that the relay did not move, and why; the entry no longer
// counts. The error is ErrSettled when the reservation is not open.
func (j *Journal) Annul(ctx context.Context, r terminal.Reservation, why terminal.Reason) error {
	return j.settle(ctx, "annulling an entry", KindAnnul, r, why, annulled)
}

func (j *Journal) settle(ctx context.Context, doing string, kind Kind, r terminal.Reservation, why terminal.Reason, to int64) error {
	e := &Event{Kind: kind, At: instant(j.now()), Reservation: uint64(r), Reason: why}
	return j.append(ctx, doing, e, func(tx *sql.Tx, s *state) error {
		res, err := tx.ExecContext(ctx, `UPDATE admissions SET state = ? WHERE seq = ? AND state = ?`, to, int64(r), reserved)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); n != 1 || err != nil {
			return errors.Join(fmt.Errorf("%w: %d", ErrSettled, r), err)
		}
		s.states += int64(r) * (to - reserved)
		return nil
	})
}

// Started writes that the agent of a terminal started, for a scope; version is
// that of the agent.
func (j *Journal) Started(ctx context.Context, at time.Time, name, scope, version string) error {
	return j.append(ctx, "recording the start", &Event{
		Kind: KindStart, At: instant(at), Terminal: name, Scope: scope, Version: version,
	}, nil)
}

// ListApplied writes that a list came into force; rows is the SHA-256 of its
// rows, as the list's manifest has it.
func (j *Journal) ListApplied(ctx context.Context, at time.Time, scope string, epoch, seq uint64, rows [sha256.Size]byte) error {
	return j.append(ctx, "recording a list", &Event{
		Kind: KindList, At: instant(at), Scope: scope, ListEpoch: epoch, ListSeq: seq, RowsSHA256: hex.EncodeToString(rows[:]),
	}, nil)
}

// append gives the event its number, lets index change the index, and makes
// both durable. Nothing is written when index returns an error.
func (j *Journal) append(ctx context.Context, doing string, e *Event, index func(*sql.Tx, *state) error) error {
	s, err := j.transact(ctx, e, index)
	if err != nil {
		return fail(j.path, doing, err)
	}
	for {
		old := j.latest.Load()
		if s.latest <= old || j.latest.CompareAndSwap(old, s.latest) {
			return nil
		}
	}
}

func (j *Journal) transact(ctx context.Context, e *Event, index func(*sql.Tx, *state) error) (state, error) {
	tx, err := j.w.BeginTx(ctx, nil)
	if err != nil {
		return state{}, err
	}
	defer tx.Rollback() // nothing is lost; after Commit it does nothing
	s, err := loadState(ctx, tx)
	if err != nil {
		return state{}, err
	}
	e.Seq = s.seq + 1
	bytes, err := e.encode()
	if err != nil {
		return state{}, err
	}
	s.seq, s.hash, s.latest = e.Seq, next(s.hash, bytes), max(s.latest, e.At.UnixMilli())
	if index != nil {
		if err := index(tx, &s); err != nil {
			return state{}, err
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO events VALUES (?, ?, ?)`, int64(e.Seq), string(bytes), s.hash[:]); err != nil {
		return state{}, err
	}
	if err := s.store(ctx, tx); err != nil {
		return state{}, err
	}
	return s, tx.Commit()
}
