package registry

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Clean deletes the credentials of a scope whose certificates ended before an
// instant, and holders whom nothing is left of. It returns how many credentials
// those were. Their cards are on the next list no more: to a gate they were
// expired before they were unknown.
func (r *Registry) Clean(ctx context.Context, by By, scope string, before time.Time) (n int, err error) {
	err = r.do(ctx, by, "cleaning up", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		if err := t.queryRow(ctx, `SELECT count(*) FROM credentials WHERE scope = ?1 AND not_after < ?2`, s.id, before.Unix()).Scan(&n); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO touched SELECT scope, head FROM credentials WHERE scope = ?1 AND not_after < ?2 ON CONFLICT DO NOTHING`, s.id, before.Unix()); err != nil {
			return err
		}
		holders, err := t.eraseCredentials(ctx, by, `scope = ?1 AND not_after < ?2`, s.id, before.Unix())
		if err != nil {
			return err
		}
		for _, h := range holders {
			if err := t.dropIdle(ctx, h); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// Ended is how many credentials of a scope [Registry.Clean] would delete.
func (r *Registry) Ended(ctx context.Context, scope string, before time.Time) (n int, err error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		err = r.queryRow(ctx, `SELECT count(*) FROM credentials WHERE scope = ?1 AND not_after < ?2`, s.id, before.Unix()).Scan(&n)
	}
	if err != nil {
		return 0, fmt.Errorf("counting ended certificates: %w", err)
	}
	return n, nil
}

// dropIdle deletes a holder who has neither credentials nor tickets left.
func (t *tx) dropIdle(ctx context.Context, holder int64) error {
	const idle = `NOT EXISTS (SELECT 1 FROM credentials WHERE holder = ?1) AND NOT EXISTS (SELECT 1 FROM entitlements WHERE holder = ?1)`
	if _, err := t.exec(ctx, `DELETE FROM holders WHERE joined = ?1 AND `+idle, holder); err != nil {
		return err
	}
	_, err := t.exec(ctx, `DELETE FROM holders WHERE id = ?1 AND `+idle, holder)
	return err
}

// eraseCredentials deletes credentials and the records of them. What remains of
// a record is that it was imported, so that it cannot be once more. It returns
// whose they were, each once.
func (t *tx) eraseCredentials(ctx context.Context, by By, where string, args ...any) (holders []int64, err error) {
	type gone struct{ id, scope, holder int64 }
	var all []gone
	rows, err := t.query(ctx, `SELECT id, scope, holder FROM credentials WHERE `+where+` ORDER BY id`, args...)
	if err := each(rows, err, func() error {
		var g gone
		err := rows.Scan(&g.id, &g.scope, &g.holder)
		all = append(all, g)
		return err
	}); err != nil {
		return nil, err
	}
	for _, g := range all {
		holders = append(holders, g.holder)
		if _, err := t.exec(ctx, `UPDATE records SET record = NULL WHERE credential = ?1`, g.id); err != nil {
			return nil, err
		}
		if _, err := t.exec(ctx, `DELETE FROM credentials WHERE id = ?1`, g.id); err != nil {
			return nil, err
		}
		if err := t.record(ctx, by, event{verb: "erase", scope: g.scope, holder: g.holder, card: g.id}); err != nil {
			return nil, err
		}
	}
	slices.Sort(holders)
	return slices.Compact(holders), nil
}
