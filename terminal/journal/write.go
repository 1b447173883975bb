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

// Reserve writes an admission and counts it, in one transaction and only when
// seen is the last event about the entitlement. Staff may open the gate for
// people without one.
func (j *Journal) Reserve(ctx context.Context, d terminal.Decision, seen uint64) (terminal.Reservation, error) {
	const doing = "reserving an entry"
	if !d.Admitted() || d.People == 0 || d.Entitlement == "" && d.Reason != terminal.Override {
		return 0, fail(j.path, doing, errors.New("the decision does not admit, or names no entitlement"))
	}
	e := decisionEvent(KindReserve, d)
	e.Claim, e.ClaimID = d.Claim, d.ClaimID
	if !d.Until.IsZero() {
		e.Until = instant(d.Until)
	}
	err := j.append(ctx, doing, e, func(tx *sql.Tx) error {
		if d.Entitlement == "" {
			return nil
		}
		now, err := last(ctx, tx, d.Entitlement)
		if err == nil && uint64(now) != seen {
			err = terminal.ErrUsesChanged
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return terminal.Reservation(e.Seq), nil
}

// Passed writes that so many people in all have passed for an open reservation,
// and that more may come. The error is ErrSettled when it is not open, ErrPeople
// when it is not for so many.
func (j *Journal) Passed(ctx context.Context, r terminal.Reservation, people uint32) error {
	return j.settle(ctx, "recording a passage", &Event{Kind: KindPassed, Reservation: uint64(r), People: people})
}

// Commit settles a reservation that is open or in doubt: so many people have
// passed, at least one, and the rest is free again. The error is ErrSettled when
// it is neither, ErrPeople when it is not for so many.
func (j *Journal) Commit(ctx context.Context, r terminal.Reservation, people uint32) error {
	const doing = "committing an entry"
	if people == 0 { // an event without a number has everybody
		return fail(j.path, doing, fmt.Errorf("%w: when nobody passed, annul it", ErrPeople))
	}
	return j.settle(ctx, doing, &Event{Kind: KindCommit, Reservation: uint64(r), People: people})
}

// Annul settles a reservation that is open or in doubt, for which nobody passed,
// and why; it no longer counts. The error is ErrSettled when it is neither.
func (j *Journal) Annul(ctx context.Context, r terminal.Reservation, why terminal.Reason) error {
	return j.settle(ctx, "annulling an entry", &Event{Kind: KindAnnul, Reservation: uint64(r), Reason: why})
}

// SettleBy settles a reservation on the word of staff, who says why: so many
// people have passed. 0 annuls it, also when it was committed. While people are
// still passing the error is ErrSettled; it is ErrPeople for fewer people than the
// sensor saw of an entry in doubt, and for more than were admitted. Only an entry
// in doubt is settled by nobody in particular.
func (j *Journal) SettleBy(ctx context.Context, r terminal.Reservation, people uint32, by terminal.Staff, note string) error {
	e := &Event{
		Kind: KindCommit, Reservation: uint64(r), People: people, Staff: by.Name, Role: by.Role, Note: note,
	}
	if people == 0 {
		e.Kind, e.Reason = KindAnnul, terminal.Annulled
	}
	return j.settle(ctx, "settling an entry", e)
}

// Doubt writes that nobody can tell whether people passed for an open
// reservation, and why. It counts until it is settled.
func (j *Journal) Doubt(ctx context.Context, r terminal.Reservation, why terminal.Reason) error {
	return j.settle(ctx, "putting an entry in doubt", &Event{Kind: KindDoubt, Reservation: uint64(r), Reason: why})
}

func (j *Journal) settle(ctx context.Context, doing string, e *Event) error {
	e.At = instant(j.now())
	return j.append(ctx, doing, e, nil)
}

// Incident writes what happened at the gate without a card.
func (j *Journal) Incident(ctx context.Context, i terminal.Incident) error {
	e := &Event{
		Kind: KindIncident, At: instant(i.At), Gate: i.Gate, Reason: i.Reason, State: i.State,
		Staff: i.Staff.Name, Role: i.Staff.Role, Note: i.Note,
	}
	if i.Direction == terminal.Exit {
		e.Direction = terminal.Exit.String()
	}
	return j.append(ctx, "recording an incident", e, nil)
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

// Commanded writes that a command of the operator is about to be carried out: its
// number in a scope, what it says, and its message.
func (j *Journal) Commanded(ctx context.Context, at time.Time, name, scope string, number uint64, action, message string) error {
	return j.append(ctx, "recording a command", &Event{
		Kind: KindCommand, At: instant(at), Terminal: name, Scope: scope, Command: number, Action: action, Note: message,
	}, nil)
}

// append writes an event, and says what was done when it fails.
func (j *Journal) append(ctx context.Context, doing string, e *Event, allowed func(*sql.Tx) error) error {
	if err := j.write(ctx, e, allowed); err != nil {
		return fail(j.path, doing, err)
	}
	return nil
}

// write gives the event its number, folds it into the index, and makes both
// durable. Nothing is written when it does not fit, or when allowed, if not nil,
// returns an error.
func (j *Journal) write(ctx context.Context, e *Event, allowed func(*sql.Tx) error) error {
	tx, err := j.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing is lost; after Commit it does nothing
	if allowed != nil {
		if err := allowed(tx); err != nil {
			return err
		}
	}
	s, err := add(ctx, tx, e)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	j.saw(s.latest)
	return nil
}

// saw raises the greatest instant, Unix milliseconds.
func (j *Journal) saw(latest int64) {
	for {
		old := j.latest.Load()
		if latest <= old || j.latest.CompareAndSwap(old, latest) {
			return
		}
	}
}

// add puts an event behind the last one, with all that follows from it.
func add(ctx context.Context, tx *sql.Tx, e *Event) (s state, err error) {
	if s, err = loadState(ctx, tx); err != nil {
		return s, err
	}
	e.Seq = s.seq + 1
	bytes, err := e.encode()
	if err != nil {
		return s, err
	}
	s.seq, s.hash, s.latest = e.Seq, next(s.hash, bytes), later(s.latest, e)
	changed, err := fold(ctx, tx, "passages", e)
	if err != nil {
		return s, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO events VALUES (?, ?, ?)`, int64(e.Seq), string(bytes), s.hash[:]); err != nil {
		return s, err
	}
	return s, errors.Join(changed.store(ctx, tx), s.store(ctx, tx))
}
