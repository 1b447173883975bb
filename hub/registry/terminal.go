package registry

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/registration"
)

// A Terminal reads cards in a scope.
type Terminal struct {
	Name string // 1 to registration.MaxName bytes; different from the others of its scope, retired ones too

	Identity []byte // public key that it signs with, SubjectPublicKeyInfo in DER; of a kind of package sign1
	Delivery []byte // public key that the scope key is sealed to, or nil; opaque, at most 4096 bytes

	State   []byte // kept for whoever sends it commands and leases; opaque
	Retired bool
}

func (t Terminal) check() error {
	if err := checkText("a terminal's name", t.Name, 1, registration.MaxName); err != nil {
		return err
	}
	if len(t.Delivery) > 4096 {
		return fmt.Errorf("%w: a delivery key of %d bytes", ErrInvalid, len(t.Delivery))
	}
	if _, err := t.key("check"); err != nil {
		return fmt.Errorf("%w: identity key: %w", ErrInvalid, err)
	}
	return nil
}

// key is the terminal as one that may register cards.
func (t Terminal) key(scope string) (sign1.Key, error) {
	public, err := x509.ParsePKIXPublicKey(t.Identity)
	if err != nil {
		return sign1.Key{}, err
	}
	key := sign1.Key{Public: public, Role: sign1.RoleRegistration, Scope: scope, Signer: t.Name}
	_, err = sign1.NewKeys(key) // refuses kinds that nobody signs with
	return key, err
}

// AddTerminal adds a terminal to a scope. One identity key is one terminal's, in
// every scope.
func (r *Registry) AddTerminal(ctx context.Context, by By, scope string, terminal Terminal) error {
	return r.do(ctx, by, "adding terminal", func(t *tx) error {
		if err := terminal.check(); err != nil {
			return err
		}
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		if err := t.absent(ctx, `SELECT 1 FROM terminals WHERE scope = ?1 AND name = ?2`, s.id, terminal.Name); err != nil {
			return fmt.Errorf("%w: terminal %q", err, terminal.Name)
		}
		id, err := t.next(ctx, "thing")
		if err != nil {
			return err
		}
		return t.addTerminal(ctx, by, s.id, id, terminal)
	})
}

func (t *tx) addTerminal(ctx context.Context, by By, scope, id int64, terminal Terminal) error {
	if err := t.identityIsFree(ctx, terminal.Identity); err != nil {
		return err
	}
	if _, err := t.exec(ctx, `INSERT INTO terminals VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)`, id, scope, terminal.Name, terminal.Identity, terminal.Delivery, terminal.State); err != nil {
		return err
	}
	return t.record(ctx, by, event{verb: "add_terminal", scope: scope, terminal: id})
}

func (t *tx) identityIsFree(ctx context.Context, spki []byte) error {
	if err := t.absent(ctx, `SELECT 1 FROM terminals WHERE identity = ?1 AND retired = 0`, spki); err != nil {
		return fmt.Errorf("%w: this identity key", err)
	}
	return nil
}

// SetTerminalKeys replaces the keys of a terminal, for a reason.
func (r *Registry) SetTerminalKeys(ctx context.Context, by By, scope, name string, identity, delivery []byte) error {
	return r.changeTerminal(ctx, by, "replacing a terminal's keys", "set_terminal_keys", scope, name, func(t *tx, id int64, old Terminal) error {
		return t.setTerminalKeys(ctx, id, old, identity, delivery)
	})
}

func (t *tx) setTerminalKeys(ctx context.Context, id int64, old Terminal, identity, delivery []byte) error {
	now := Terminal{Name: old.Name, Identity: identity, Delivery: delivery}
	if err := now.check(); err != nil {
		return err
	}
	if string(identity) != string(old.Identity) {
		if err := t.identityIsFree(ctx, identity); err != nil {
			return err
		}
	}
	_, err := t.exec(ctx, `UPDATE terminals SET identity = ?2, delivery = ?3 WHERE id = ?1`, id, identity, delivery)
	return err
}

// RetireTerminal ends that a terminal registers cards and gets keys, for good.
func (r *Registry) RetireTerminal(ctx context.Context, by By, scope, name string) error {
	return r.changeTerminal(ctx, by, "retiring terminal", "retire_terminal", scope, name, func(t *tx, id int64, _ Terminal) error {
		_, err := t.exec(ctx, `UPDATE terminals SET retired = 1 WHERE id = ?1`, id)
		return err
	})
}

func (r *Registry) changeTerminal(ctx context.Context, by By, doing, verb, scope, name string, change func(*tx, int64, Terminal) error) error {
	return r.do(ctx, by, doing, func(t *tx) error {
		if err := by.because(); err != nil {
			return err
		}
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		id, old, err := terminalOf(ctx, t, s.id, name)
		if err != nil {
			return err
		}
		if old.Retired {
			return retired(name)
		}
		if err := change(t, id, old); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: verb, scope: s.id, terminal: id})
	})
}

func retired(name string) error {
	return fmt.Errorf("%w: terminal %q is retired: add it under another name", ErrInvalid, name)
}

// SetTerminalState keeps bytes for whoever sends commands and leases. It is no
// verb of an operator and not in the history.
func (r *Registry) SetTerminalState(ctx context.Context, scope, name string, state []byte) error {
	if err := r.write(ctx, func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		id, _, err := terminalOf(ctx, t, s.id, name)
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `UPDATE terminals SET state = ?2 WHERE id = ?1`, id, state)
		return err
	}); err != nil {
		return fmt.Errorf("keeping a terminal's state: %w", err)
	}
	return nil
}

// Terminals returns those of a scope, ascending by name, retired ones too.
func (r *Registry) Terminals(ctx context.Context, scope string) ([]Terminal, error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		var all []Terminal
		if _, all, err = terminals(ctx, r, `scope = ?1 ORDER BY name`, s.id); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("reading terminals: %w", err)
}

// Terminal returns a terminal of a scope.
func (r *Registry) Terminal(ctx context.Context, scope, name string) (Terminal, error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		var t Terminal
		if _, t, err = terminalOf(ctx, r, s.id, name); err == nil {
			return t, nil
		}
	}
	return Terminal{}, fmt.Errorf("reading terminal: %w", err)
}

// TerminalWith returns the terminal in force that has an identity key
// (SubjectPublicKeyInfo in DER), and its scope. Whoever shows another one, such as that
// of a terminal which was retired or has other keys by now, is not found.
func (r *Registry) TerminalWith(ctx context.Context, identity []byte) (scope string, t Terminal, err error) {
	id, all, err := terminals(ctx, r, `identity = ?1 AND retired = 0`, identity)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: no terminal has this identity key", ErrNotFound)
	}
	if err == nil {
		err = r.queryRow(ctx, `SELECT s.name FROM scopes s JOIN terminals t ON t.scope = s.id WHERE t.id = ?1`, id[0]).Scan(&scope)
	}
	if err != nil {
		return "", Terminal{}, fmt.Errorf("reading terminal: %w", err)
	}
	return scope, all[0], nil
}

// TerminalKeys are the keys of every terminal in force that may register cards
// in a scope: Keys of a registration.Trust.
func (r *Registry) TerminalKeys(ctx context.Context, scope string) (sign1.Keys, error) {
	all, err := r.Terminals(ctx, scope)
	if err != nil {
		return sign1.Keys{}, err
	}
	var keys []sign1.Key
	for _, t := range all {
		if t.Retired {
			continue
		}
		key, err := t.key(scope)
		if err != nil {
			return sign1.Keys{}, fmt.Errorf("reading terminal %q: %w", t.Name, err)
		}
		keys = append(keys, key)
	}
	return sign1.NewKeys(keys...)
}

func terminalOf(ctx context.Context, q querier, scope int64, name string) (int64, Terminal, error) {
	ids, all, err := terminals(ctx, q, `scope = ?1 AND name = ?2`, scope, name)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: terminal %q", ErrNotFound, name)
	}
	if err != nil {
		return 0, Terminal{}, err
	}
	return ids[0], all[0], nil
}

func terminals(ctx context.Context, q querier, where string, args ...any) (ids []int64, all []Terminal, err error) {
	rows, err := q.query(ctx, `SELECT id, name, identity, delivery, state, retired = 1 FROM terminals WHERE `+where, args...)
	if err := each(rows, err, func() error {
		var id int64
		var t Terminal
		err := rows.Scan(&id, &t.Name, &t.Identity, &t.Delivery, &t.State, &t.Retired)
		ids, all = append(ids, id), append(all, t)
		return err
	}); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, nil, err
	}
	return ids, all, nil
}
