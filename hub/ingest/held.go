package ingest

import (
	"context"
	"fmt"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// A Held is what an event that is held is known by.
type Held struct {
	Terminal    string
	Incarnation upload.Incarnation
	Seq         uint64
	Hash        upload.Hash
}

// Held calls f with every event of a scope that is held, ascending by terminal,
// incarnation and number, until f fails.
func (s *Store) Held(ctx context.Context, scope string, f func(Held) error) error {
	rows, err := s.query(ctx, `SELECT j.terminal, j.incarnation, e.seq, e.hash FROM events e JOIN journals j ON j.id = e.journal
		WHERE j.scope = ?1 ORDER BY 1, 2, 3`, scope)
	err = each(rows, err, func() error {
		var h Held
		var id, hash []byte
		var seq int64
		if err := rows.Scan(&h.Terminal, &id, &seq, &hash); err != nil {
			return err
		}
		h.Seq = uint64(seq)
		copy(h.Incarnation[:], id)
		copy(h.Hash[:], hash)
		return f(h)
	})
	if err != nil {
		return fmt.Errorf("reading what is held: %w", err)
	}
	return nil
}
