// Package registry is what an organiser knows: scopes, holders and their
// credentials, entitlements, terminals, and which certificates are revoked.
//
// It promises:
//
//   - A verb happens whole or not at all, one after the other, and what its
//     nil error says is durable.
//   - Whoever changed something, why and when is in a history whose rows never
//     change.
//   - Every change that alters a row of a list marks the head of that row in the
//     same transaction, so that a publication of the marked rows gives the same
//     list as one of all rows.
//   - The same registry gives the same rows in the same order. It reads no
//     clock: instants are handed in.
//
// It holds no name of a person: a holder is the organiser's opaque reference.
// docs/hub-registry.md says what is kept, and how it is deleted.
//
// SQLite and PostgreSQL hold the same schema; dialect.go has all that differs.
package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// Errors that callers act on. Each comes wrapped with what it is about.
var (
	// ErrNotFound: there is no such scope, holder, credential, entitlement or terminal.
	ErrNotFound = errors.New("not in the registry")
	// ErrExists: there is one already, and it is not the same.
	ErrExists = errors.New("in the registry already")
	// ErrInvalid: what was handed in breaks a rule written at its type.
	ErrInvalid = errors.New("invalid")
	// ErrCardKeyInUse: the card's key is registered under another certificate of
	// the scope that is not retired.
	ErrCardKeyInUse = errors.New("the card's key is in use under another certificate: renew that credential with this one, or retire it first")
	// ErrTaken: the ticket has a holder with a card already.
	ErrTaken = errors.New("the ticket has a holder with a registered card: transfer it, or add the card to that holder")
	// ErrReplayed: a registration's nonce was in another record.
	ErrReplayed = errors.New("another record of the same nonce was imported")
	// ErrOlder: revocations as of an earlier instant than those applied.
	ErrOlder = errors.New("older than what was applied")
	// ErrToken: no token has this secret, for this terminal.
	ErrToken = errors.New("no such token for this terminal")
	// ErrTokenEnded: the token's time is over.
	ErrTokenEnded = errors.New("the token has expired")
	// ErrTokenUsed: other keys came with this token before.
	ErrTokenUsed = errors.New("the token was used, by other keys")
	// ErrNewerSchema: a newer program wrote the registry.
	ErrNewerSchema = errors.New("a newer program wrote the registry")
)

// A Registry is open in any number of processes. Its methods may be called by
// several goroutines at once; those that write wait for each other.
type Registry struct {
	dialect dialect
	w       *sql.DB // for transactions that write
	r       *sql.DB // for single queries
}

// Open opens the registry that name says and makes it when there is none:
// "sqlite:PATH", whose file then has mode 0600, or "postgres://…", a URL of
// PostgreSQL's (libpq, 34.1.1.2) with a database that exists. The error never
// holds the URL, in which a password may be.
func Open(ctx context.Context, name string) (*Registry, error) {
	r, err := connect(name)
	if err != nil {
		return nil, fmt.Errorf("opening the registry: %w", err)
	}
	if err := r.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the registry: %w", err), r.Close())
	}
	return r, nil
}

// Close closes the registry.
func (r *Registry) Close() error {
	if r.r == r.w {
		return r.w.Close()
	}
	return errors.Join(r.r.Close(), r.w.Close())
}

// By is who does something, why, and when: the row of the history.
type By struct {
	Actor  string // a login or a program, not a person's name; 1 to 64 bytes
	Reason string // in words that name no person, at most 200 bytes
	At     time.Time
}

func (b By) check() error {
	if err := checkText("actor", b.Actor, 1, 64); err != nil {
		return err
	}
	if err := checkText("reason", b.Reason, 0, 200); err != nil {
		return err
	}
	if err := strictcbor.CheckTime(b.At); err != nil {
		return fmt.Errorf("%w: the instant of a change %w", ErrInvalid, err)
	}
	return nil
}

// because is check for a verb that has to be explained.
func (b By) because() error {
	if b.Reason == "" {
		return fmt.Errorf("%w: this needs a reason", ErrInvalid)
	}
	return b.check()
}

func checkText(what, s string, least, most int) error {
	if err := strictcbor.CheckText(s, least, most); err != nil {
		return fmt.Errorf("%w: %s %w", ErrInvalid, what, err)
	}
	return nil
}

// toUnix cuts to whole seconds; the zero time is 0.
func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
