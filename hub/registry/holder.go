package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// MaxReference is the longest reference of a holder, in bytes: as long as the
// ticket of a registration.
const MaxReference = 128

// AddHolder returns the number of the holder whom the organiser knows by
// reference, and adds them if there is none. A reference is opaque, no name.
func (r *Registry) AddHolder(ctx context.Context, by By, scope, reference string) (id int64, err error) {
	err = r.do(ctx, by, "adding holder", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		id, err = t.holder(ctx, by, s.id, reference)
		return err
	})
	return id, err
}

// Holder returns the number of the holder whom the organiser knows by reference.
func (r *Registry) Holder(ctx context.Context, scope, reference string) (int64, error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		var id int64
		if id, err = findHolder(ctx, r, s.id, reference); err == nil {
			return id, nil
		}
	}
	return 0, fmt.Errorf("reading holder: %w", err)
}

// findHolder follows a link to the holder in force.
func findHolder(ctx context.Context, q querier, scope int64, reference string) (id int64, err error) {
	err = q.queryRow(ctx, `SELECT coalesce(joined, id) FROM holders WHERE scope = ?1 AND reference = ?2`, scope, reference).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: no holder of this reference", ErrNotFound) // which may be somebody's
	}
	return id, err
}

// holder is findHolder, or a new holder; "" is always a new one.
func (t *tx) holder(ctx context.Context, by By, scope int64, reference string) (id int64, err error) {
	if err := checkText("a holder's reference", reference, 0, MaxReference); err != nil {
		return 0, err
	}
	if reference != "" {
		if id, err := findHolder(ctx, t, scope, reference); !errors.Is(err, ErrNotFound) {
			return id, err
		}
	}
	if id, err = t.next(ctx, "thing"); err != nil {
		return 0, err
	}
	if _, err := t.exec(ctx, `INSERT INTO holders VALUES (?1, ?2, ?3, NULL)`, id, scope, null(reference)); err != nil {
		return 0, err
	}
	return id, t.record(ctx, by, event{verb: "add_holder", scope: scope, holder: id})
}

// holders is holder for up to batchRows references at once.
func (t *tx) holders(ctx context.Context, by By, scope int64, references []string) (map[string]int64, error) {
	ids := map[string]int64{}
	if len(references) == 0 {
		return ids, nil
	}
	rows, err := t.query(ctx, `SELECT reference, coalesce(joined, id) FROM holders WHERE scope = ?1 AND reference IN (`+parameters(1, len(references))+`)`, anys([]any{scope}, references)...)
	if err := each(rows, err, func() error {
		var reference string
		var id int64
		err := rows.Scan(&reference, &id)
		ids[reference] = id
		return err
	}); err != nil {
		return nil, err
	}
	insert := newBatch(`INSERT INTO holders (id, scope, reference) VALUES `, 3, "")
	for _, reference := range references {
		if ids[reference] != 0 {
			continue
		}
		id, err := t.next(ctx, "thing")
		if err != nil {
			return nil, err
		}
		if err := insert.add(ctx, t, id, scope, reference); err != nil {
			return nil, err
		}
		if err := t.record(ctx, by, event{verb: "add_holder", scope: scope, holder: id}); err != nil {
			return nil, err
		}
		ids[reference] = id
	}
	return ids, insert.flush(ctx, t)
}

// checkHolder is ErrNotFound unless the holder is one in force of the scope.
func (t *tx) checkHolder(ctx context.Context, scope, id int64) error {
	var one int
	err := t.queryRow(ctx, `SELECT 1 FROM holders WHERE scope = ?1 AND id = ?2 AND joined IS NULL`, scope, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: holder %d", ErrNotFound, id)
	}
	return err
}

// Link joins two holders, who are one person: what other has becomes holder's,
// and its reference leads there.
func (r *Registry) Link(ctx context.Context, by By, scope string, holder, other int64) error {
	return r.do(ctx, by, "linking holders", func(t *tx) error {
		if err := by.because(); err != nil {
			return err
		}
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		if holder == other {
			return fmt.Errorf("%w: a holder and the same holder", ErrInvalid)
		}
		for _, id := range []int64{holder, other} {
			if err := t.checkHolder(ctx, s.id, id); err != nil {
				return err
			}
		}
		for _, set := range []string{
			`UPDATE credentials SET holder = ?1 WHERE holder = ?2`,
			`UPDATE entitlements SET holder = ?1 WHERE holder = ?2`,
			`UPDATE holders SET joined = ?1 WHERE id = ?2 OR joined = ?2`,
		} {
			if _, err := t.exec(ctx, set, holder, other); err != nil {
				return err
			}
		}
		if err := t.fits(ctx, s.id, []int64{holder}, nil); err != nil {
			return err
		}
		if err := t.touchHolders(ctx, holder); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: "link", scope: s.id, holder: holder, other: other})
	})
}

// EraseHolder deletes what is personal of a holder: reference, credentials with
// their keys and birth dates, and kept records. Their cards are on the next
// list no more. Entitlements stay, without holder, order number and message, and
// are revoked. The history keeps numbers.
func (r *Registry) EraseHolder(ctx context.Context, by By, scope string, holder int64) error {
	return r.do(ctx, by, "erasing holder", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		if err := t.checkHolder(ctx, s.id, holder); err != nil {
			return err
		}
		if err := t.touchHolders(ctx, holder); err != nil {
			return err
		}
		held, err := t.entitlements(ctx, `holder = ?1`, holder)
		if err != nil {
			return err
		}
		for _, e := range held {
			if err := t.touchOrder(ctx, s.id, e.order); err != nil {
				return err
			}
			content := e.Entitlement
			content.Message = ""
			text, err := encodeContent(content)
			if err != nil {
				return err
			}
			if _, err := t.exec(ctx, `UPDATE entitlements SET holder = NULL, order_number = NULL, status = 3, content = ?3 WHERE scope = ?1 AND id = ?2`, s.id, e.ID, text); err != nil {
				return err
			}
			if err := t.record(ctx, by, event{verb: "erase", scope: s.id, holder: holder, entitlement: e.ID}); err != nil {
				return err
			}
		}
		// Marks still hold the heads, until the next publication takes the rows away.
		if _, err := t.eraseCredentials(ctx, by, `holder = ?1`, holder); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM holders WHERE joined = ?1`, holder); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM holders WHERE id = ?1`, holder); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: "erase", scope: s.id, holder: holder})
	})
}

// touchHolders marks the rows of every credential of holders.
func (t *tx) touchHolders(ctx context.Context, holders ...int64) error {
	for len(holders) > 0 {
		some := holders[:min(len(holders), batchRows)]
		holders = holders[len(some):]
		if _, err := t.exec(ctx, `INSERT INTO touched SELECT scope, head FROM credentials WHERE holder IN (`+parameters(0, len(some))+`) ON CONFLICT DO NOTHING`, anys(nil, some)...); err != nil {
			return fmt.Errorf("marking rows: %w", err)
		}
	}
	return nil
}
