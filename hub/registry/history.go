package registry

import (
	"context"
	"database/sql"
	"fmt"
)

// An Event is a row of the history. Things have numbers that outlive them, so
// that the history of somebody whose data was deleted says what was done and no
// longer to whom.
type Event struct {
	By
	Seq  int64 // ascending, by commit
	Verb string

	Holder      int64 // 0: none
	Other       int64 // of a transfer or a link: the holder before
	Credential  int64 // 0: none
	Entitlement string
	Terminal    int64
}

type event struct {
	verb                                 string
	scope, holder, other, card, terminal int64
	entitlement                          string
}

func (t *tx) record(ctx context.Context, by By, e event) error {
	seq, err := t.next(ctx, "history")
	if err != nil {
		return err
	}
	return t.history.add(ctx, t, seq, by.At.Unix(), by.Actor, e.verb, by.Reason,
		null(e.scope), null(e.holder), null(e.other), null(e.card), null(e.entitlement), null(e.terminal))
}

// EntitlementHistory is all that was done with an entitlement, the oldest first.
func (r *Registry) EntitlementHistory(ctx context.Context, scope, id string) ([]Event, error) {
	s, err := scopeOf(ctx, r, scope)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	return r.events(ctx, `scope = ?1 AND entitlement = ?2`, s.id, id)
}

// CredentialHistory is all that was done with a credential, the oldest first,
// by its number ([Credential.ID]), also after it was deleted.
func (r *Registry) CredentialHistory(ctx context.Context, credential int64) ([]Event, error) {
	return r.events(ctx, `credential = ?1`, credential)
}

// HolderHistory is all that was done with a holder.
func (r *Registry) HolderHistory(ctx context.Context, holder int64) ([]Event, error) {
	return r.events(ctx, `holder = ?1`, holder)
}

// TerminalHistory is all that was done with a terminal by an operator, the oldest first.
func (r *Registry) TerminalHistory(ctx context.Context, scope, name string) ([]Event, error) {
	s, err := scopeOf(ctx, r, scope)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	id, _, err := terminalOf(ctx, r, s.id, name)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	return r.events(ctx, `scope = ?1 AND terminal = ?2`, s.id, id)
}

func (r *Registry) events(ctx context.Context, where string, args ...any) (all []Event, err error) {
	rows, err := r.query(ctx, `SELECT seq, at, actor, verb, reason, holder, other, credential, entitlement, terminal FROM history WHERE `+where+` ORDER BY seq`, args...)
	if err := each(rows, err, func() error {
		var e Event
		var at int64
		var holder, other, credential, terminal sql.NullInt64
		var entitlement sql.NullString
		if err := rows.Scan(&e.Seq, &at, &e.Actor, &e.Verb, &e.Reason, &holder, &other, &credential, &entitlement, &terminal); err != nil {
			return err
		}
		e.At, e.Holder, e.Other, e.Credential, e.Terminal = fromUnix(at), holder.Int64, other.Int64, credential.Int64, terminal.Int64
		e.Entitlement = entitlement.String
		all = append(all, e)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	return all, nil
}
