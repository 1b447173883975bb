package registry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/registration"
)

// An Enrolment is how far a terminal is with the token that was issued for it: one
// token for each name, the last.
//
//	issued ──first keys──▶ waiting ──ApproveTerminal──▶ approved ──the same keys──▶ used
//	   └───────────first keys, where nobody has to approve──────────────────────────▲
//
// From the first keys on the token is theirs alone.
type Enrolment struct {
	Name    string
	Expires time.Time
	Approve bool // somebody has to compare the keys first
	Replace bool // the terminal is there, and gets other keys

	Identity []byte // public keys that came with the token, nil for none; as in Terminal
	Delivery []byte
	Approved bool
	Used     time.Time // zero: not yet
}

// Waiting is whether keys came that somebody has to approve.
func (e Enrolment) Waiting() bool {
	return e.Identity != nil && e.Approve && !e.Approved && e.Used.IsZero()
}

type enrolment struct {
	Enrolment
	terminal int64 // the number that it has, or will have
	digest   []byte
}

// IssueToken issues a token for a terminal of a scope, of which digest is the SHA-256
// of its secret; the token before ends. Of e, Name, Expires, Approve and Replace count.
// Replace wants a terminal that is there, and a reason; else there must be none.
func (r *Registry) IssueToken(ctx context.Context, by By, scope string, e Enrolment, digest [sha256.Size]byte) error {
	return r.do(ctx, by, "issuing a token", func(t *tx) error {
		if err := checkText("a terminal's name", e.Name, 1, registration.MaxName); err != nil {
			return err
		}
		if !e.Expires.After(by.At) {
			return fmt.Errorf("%w: a token that has expired", ErrInvalid)
		}
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		id, old, err := terminalOf(ctx, t, s.id, e.Name)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		case err == nil && old.Retired:
			return retired(e.Name)
		case err == nil && !e.Replace:
			return fmt.Errorf("%w: terminal %q", ErrExists, e.Name)
		case err != nil && e.Replace:
			return err
		case e.Replace:
			if err := by.because(); err != nil {
				return err
			}
		default:
			if id, err = t.reserved(ctx, s.id, e.Name); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, `DELETE FROM enrolments WHERE scope = ?1 AND name = ?2`, s.id, e.Name); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO enrolments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, NULL, 0, 0)`,
			id, s.id, e.Name, digest[:], toUnix(e.Expires), number(e.Approve), number(e.Replace)); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: "issue_token", scope: s.id, terminal: id})
	})
}

// reserved is the number of a terminal that is yet to come.
func (t *tx) reserved(ctx context.Context, scope int64, name string) (int64, error) {
	e, err := enrolmentOf(ctx, t, scope, name)
	if errors.Is(err, ErrNotFound) {
		return t.next(ctx, "thing")
	}
	return e.terminal, err
}

// EnrolTerminal takes the keys that came with a token's secret, and makes them those of
// the terminal; by.Reason says for the history how. Asked again with the same keys it
// does nothing more: the answer may have been lost. waiting says that the keys are kept
// and have to be approved.
//
// The errors are ErrToken, also where there is no token for the name, ErrTokenEnded,
// ErrTokenUsed, ErrExists for an identity key that another terminal has or a terminal
// that was added meanwhile, and ErrInvalid for keys of no kind that signs.
func (r *Registry) EnrolTerminal(ctx context.Context, by By, scope, name string, secret, identity, delivery []byte) (waiting bool, err error) {
	err = r.do(ctx, by, "enrolling terminal", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if errors.Is(err, ErrNotFound) {
			return ErrToken
		}
		if err != nil {
			return err
		}
		e, err := enrolmentOf(ctx, t, s.id, name)
		if errors.Is(err, ErrNotFound) {
			return ErrToken
		}
		if err != nil {
			return err
		}
		digest := sha256.Sum256(secret)
		if subtle.ConstantTimeCompare(digest[:], e.digest) != 1 {
			return ErrToken
		}
		// Whoever has the secret may hear what became of it.
		same := string(e.Identity) == string(identity) && string(e.Delivery) == string(delivery)
		switch {
		case e.Identity != nil && !same:
			return ErrTokenUsed
		case !e.Expires.After(by.At):
			return ErrTokenEnded
		}
		if !e.Used.IsZero() { // its keys may have been replaced since, or it was retired
			_, now, err := terminalOf(ctx, t, s.id, name)
			if err == nil && (now.Retired || string(now.Identity) != string(identity)) {
				err = ErrTokenUsed
			}
			return err
		}
		terminal := Terminal{Name: name, Identity: identity, Delivery: delivery}
		if err := terminal.check(); err != nil {
			return err
		}
		if e.Approve && !e.Approved {
			waiting = true
			_, err := t.exec(ctx, `UPDATE enrolments SET identity = ?2, delivery = ?3 WHERE terminal = ?1`, e.terminal, identity, delivery)
			return err
		}
		if err := t.enrol(ctx, by, s.id, e, terminal); err != nil {
			return err
		}
		_, err = t.exec(ctx, `UPDATE enrolments SET identity = ?2, delivery = ?3, used = ?4 WHERE terminal = ?1`, e.terminal, identity, delivery, toUnix(by.At))
		return err
	})
	return waiting && err == nil, err
}

func (t *tx) enrol(ctx context.Context, by By, scope int64, e enrolment, terminal Terminal) error {
	id, old, err := terminalOf(ctx, t, scope, e.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		return t.addTerminal(ctx, by, scope, e.terminal, terminal)
	case err != nil:
		return err
	case old.Retired:
		return retired(e.Name)
	case !e.Replace:
		return fmt.Errorf("%w: terminal %q", ErrExists, e.Name)
	}
	if err := t.setTerminalKeys(ctx, id, old, terminal.Identity, terminal.Delivery); err != nil {
		return err
	}
	return t.record(ctx, by, event{verb: "set_terminal_keys", scope: scope, terminal: id})
}

// ApproveTerminal says that these keys, which wait, are those of the terminal: somebody
// has compared them.
func (r *Registry) ApproveTerminal(ctx context.Context, by By, scope, name string, identity, delivery []byte) error {
	return r.do(ctx, by, "approving terminal", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		e, err := enrolmentOf(ctx, t, s.id, name)
		switch {
		case err != nil:
			return err
		case !e.Expires.After(by.At):
			return fmt.Errorf("terminal %q: %w", name, ErrTokenEnded)
		case !e.Waiting() || string(e.Identity) != string(identity) || string(e.Delivery) != string(delivery):
			return fmt.Errorf("%w: these keys of terminal %q do not wait", ErrInvalid, name)
		}
		if _, err := t.exec(ctx, `UPDATE enrolments SET approved = 1 WHERE terminal = ?1`, e.terminal); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: "approve_terminal", scope: s.id, terminal: e.terminal})
	})
}

// Enrolments returns those of a scope, ascending by name: the last of each terminal.
func (r *Registry) Enrolments(ctx context.Context, scope string) ([]Enrolment, error) {
	s, err := scopeOf(ctx, r, scope)
	var found []enrolment
	if err == nil {
		found, err = enrolments(ctx, r, `scope = ?1 ORDER BY name`, s.id)
	}
	if err != nil {
		return nil, fmt.Errorf("reading enrolments: %w", err)
	}
	all := make([]Enrolment, len(found))
	for i, e := range found {
		all[i] = e.Enrolment
	}
	return all, nil
}

func enrolmentOf(ctx context.Context, q querier, scope int64, name string) (enrolment, error) {
	all, err := enrolments(ctx, q, `scope = ?1 AND name = ?2`, scope, name)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: a token for terminal %q", ErrNotFound, name)
	}
	if err != nil {
		return enrolment{}, err
	}
	return all[0], nil
}

func enrolments(ctx context.Context, q querier, where string, args ...any) (all []enrolment, err error) {
	rows, err := q.query(ctx, `SELECT terminal, name, digest, expires, approve = 1, replaces = 1, identity, delivery, approved = 1, used FROM enrolments WHERE `+where, args...)
	err = each(rows, err, func() error {
		var e enrolment
		var expires, used int64
		err := rows.Scan(&e.terminal, &e.Name, &e.digest, &expires, &e.Approve, &e.Replace, &e.Identity, &e.Delivery, &e.Approved, &used)
		e.Expires, e.Used = fromUnix(expires), fromUnix(used)
		all = append(all, e)
		return err
	})
	return all, err
}
