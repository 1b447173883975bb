package registry

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A Scope is a venue or an event with lists of its own.
type Scope struct {
	Name      string // 1 to whitelist.MaxName bytes; stays
	Hierarchy string // whitelist.Production or Test; stays

	Venue    whitelist.Venue
	Policy   whitelist.Policy
	Lifetime time.Duration // a list's not_after is issued_at and this; whole seconds, at most ten years
	// FirstUse says that rows carry birth dates, so that a card without registered
	// keys can prove itself. Where it is false none is kept.
	FirstUse  bool
	LeaseDays int // 1 to 366: how long a terminal keeps the scope key without contact

	// Of the last publication; Seq is 0 before there was one in this epoch. Epoch
	// is at least 1.
	Epoch, Seq, SetSeq uint64

	// RevocationAsOf is the oldest instant up to which revocations are known of
	// any issuer of the scope's credentials, zero while one is unknown. Credentials
	// that are retired or revoked by the operator do not count.
	RevocationAsOf time.Time

	id      int64
	rebuild bool
}

// settings checks what AddScope and SetScope take.
func (s Scope) settings() error {
	if s.Lifetime < time.Second || s.Lifetime > maxLifetime || s.Lifetime%time.Second != 0 {
		return fmt.Errorf("%w: a lifetime of %v, allowed are whole seconds from 1 s to ten years", ErrInvalid, s.Lifetime)
	}
	if s.LeaseDays < 1 || s.LeaseDays > 366 {
		return fmt.Errorf("%w: a lease of %d days, allowed are 1 to 366", ErrInvalid, s.LeaseDays)
	}
	issued := time.Unix(1, 0)
	if err := (whitelist.Manifest{
		Scope: s.Name, Hierarchy: s.Hierarchy, Policy: s.Policy, Venue: s.Venue,
		IssuedAt: issued, NotAfter: issued.Add(s.Lifetime),
	}).Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

const maxLifetime = 10 * 366 * 24 * time.Hour

// maxFirstEpoch leaves room behind it that nobody ever needs.
const maxFirstEpoch = 1 << 48

// AddScope adds a scope in epoch 1, or in s.Epoch where it is greater: a hub that
// was lost begins again above the epoch of its last list.
func (r *Registry) AddScope(ctx context.Context, by By, s Scope) error {
	return r.do(ctx, by, "adding scope", func(t *tx) error {
		if err := s.settings(); err != nil {
			return err
		}
		if s.Epoch > maxFirstEpoch {
			return fmt.Errorf("%w: epoch %d, allowed are at most %d", ErrInvalid, s.Epoch, uint64(maxFirstEpoch))
		}
		venue, policy, err := encodeSettings(s)
		if err != nil {
			return err
		}
		if err := t.absent(ctx, `SELECT 1 FROM scopes WHERE name = ?1`, s.Name); err != nil {
			return err
		}
		id, err := t.next(ctx, "thing")
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO scopes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, 0, NULL, NULL)`,
			id, s.Name, s.Hierarchy, venue, policy, int64(s.Lifetime/time.Second), number(s.FirstUse), s.LeaseDays, int64(max(1, s.Epoch))); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: "add_scope", scope: id})
	})
}

// SetScope changes the venue, the policy and the numbers of a scope to those of
// s. A venue that does not name what entitlements name is refused. When first use
// ends, birth dates are deleted.
func (r *Registry) SetScope(ctx context.Context, by By, s Scope) error {
	return r.do(ctx, by, "changing scope", func(t *tx) error {
		old, err := scopeOf(ctx, t, s.Name)
		if err != nil {
			return err
		}
		if s.Hierarchy != old.Hierarchy {
			return fmt.Errorf("%w: the hierarchy of a scope stays", ErrInvalid)
		}
		if err := s.settings(); err != nil {
			return err
		}
		venue, policy, err := encodeSettings(s)
		if err != nil {
			return err
		}
		if err := t.venueFits(ctx, old.id, s.Venue); err != nil {
			return err
		}
		rebuild := old.rebuild || s.FirstUse != old.FirstUse || s.Venue.IsZero() != old.Venue.IsZero()
		if _, err := t.exec(ctx, `UPDATE scopes SET venue = ?2, policy = ?3, lifetime = ?4, first_use = ?5, lease_days = ?6, rebuild = ?7 WHERE id = ?1`,
			old.id, venue, policy, int64(s.Lifetime/time.Second), number(s.FirstUse), s.LeaseDays, number(rebuild)); err != nil {
			return err
		}
		if !s.FirstUse {
			if _, err := t.exec(ctx, `UPDATE credentials SET birth_date = NULL WHERE scope = ?1 AND birth_date IS NOT NULL`, old.id); err != nil {
				return err
			}
		}
		return t.record(ctx, by, event{verb: "set_scope", scope: old.id})
	})
}

// NewEpoch begins the numbering of a scope again, above every list so far: for a
// new scope key, or when numbers were lost. What was published is forgotten, and
// the next publication builds every row.
func (r *Registry) NewEpoch(ctx context.Context, by By, scope string) error {
	return r.do(ctx, by, "beginning an epoch", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE scopes SET epoch = epoch + 1, seq = 0, set_seq = 0, rebuild = 1, state = NULL, manifest = NULL WHERE id = ?1`, s.id); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM published WHERE scope = ?1`, s.id); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: "new_epoch", scope: s.id})
	})
}

// Scope returns a scope.
func (r *Registry) Scope(ctx context.Context, name string) (Scope, error) {
	s, err := scopeOf(ctx, r, name)
	if err != nil {
		return Scope{}, fmt.Errorf("reading scope: %w", err)
	}
	return s, nil
}

// Scopes returns the names of all scopes, ascending.
func (r *Registry) Scopes(ctx context.Context) (names []string, err error) {
	var name string
	rows, err := r.query(ctx, `SELECT name FROM scopes ORDER BY name`)
	if err := each(rows, err, func() error {
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}); err != nil {
		return nil, fmt.Errorf("reading scopes: %w", err)
	}
	return names, nil
}

func scopeOf(ctx context.Context, q querier, name string) (s Scope, err error) {
	var venue, policy []byte
	var lifetime int64
	err = q.queryRow(ctx, `SELECT id, name, hierarchy, venue, policy, lifetime, first_use = 1, lease_days, epoch, seq, set_seq, rebuild = 1 FROM scopes WHERE name = ?1`, name).
		Scan(&s.id, &s.Name, &s.Hierarchy, &venue, &policy, &lifetime, &s.FirstUse, &s.LeaseDays, &s.Epoch, &s.Seq, &s.SetSeq, &s.rebuild)
	if errors.Is(err, sql.ErrNoRows) {
		return Scope{}, fmt.Errorf("%w: scope %q", ErrNotFound, name)
	}
	if err != nil {
		return Scope{}, err
	}
	s.Lifetime = time.Duration(lifetime) * time.Second
	if err := errors.Join(decodeJSON(venue, &s.Venue), decodeJSON(policy, &s.Policy)); err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", name, err)
	}
	if s.RevocationAsOf, err = asOf(ctx, q, s.id); err != nil {
		return Scope{}, err
	}
	return s, nil
}

// encodeSettings is what the columns venue and policy hold: JSON by the names
// of the Go fields, which a test holds still.
func encodeSettings(s Scope) (venue, policy string, err error) {
	v, err := json.Marshal(s.Venue)
	if err != nil {
		return "", "", err
	}
	p, err := json.Marshal(s.Policy)
	if err != nil {
		return "", "", err
	}
	return string(v), string(p), nil
}

func decodeJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// venueFits checks that the entitlements of a scope can be in lists of a venue.
func (t *tx) venueFits(ctx context.Context, scope int64, v whitelist.Venue) error {
	const page = 1000
	for last, n := "", page; n == page; {
		n = 0
		var content []byte
		rows, err := t.query(ctx, `SELECT id, content FROM entitlements WHERE scope = ?1 AND id > ?2 ORDER BY id LIMIT ?3`, scope, last, page)
		if err := each(rows, err, func() error {
			if err := rows.Scan(&last, &content); err != nil {
				return err
			}
			n++
			e, err := decodeContent(last, content)
			if err != nil {
				return err
			}
			if err := v.CheckEntitlement(e); err != nil {
				return fmt.Errorf("%w: entitlement %q: %w", ErrInvalid, last, err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// do is write for a verb that is in the history; doing says which.
func (r *Registry) do(ctx context.Context, by By, doing string, f func(*tx) error) error {
	if err := by.check(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := r.write(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// absent is ErrExists when the query finds a row.
func (t *tx) absent(ctx context.Context, query string, args ...any) error {
	var one int
	switch err := t.queryRow(ctx, query, args...).Scan(&one); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return ErrExists
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
