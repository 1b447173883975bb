package ingest

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A Told is an entry or an exit by a ticket, as its terminal told it.
type Told struct {
	Terminal, Incarnation string // the latter in hexadecimal
	Seq                   uint64 // of its reserve event
	ClaimID               string // "" where it was not claimed
	Entitlement           string
	Gate, Zone            string
	Exit                  bool
	At                    time.Time
	People, Reentry       uint32 // who might pass

	Settled, Doubt bool
	Passed         uint32 // once it is settled; in doubt: who may have
}

// Told are the entries and exits of a scope by tickets, in the order of their instants,
// then of terminal and number.
func (s *Store) Told(ctx context.Context, scope string) iter.Seq2[Told, error] {
	return func(yield func(Told, error) bool) {
		rows, err := s.query(ctx, `SELECT j.terminal, j.incarnation, p.seq, p.entitlement, p.gate, p.zone, p.way, p.at, p.state, p.people, e.bytes
			FROM passages p JOIN journals j ON j.id = p.journal JOIN events e ON e.journal = p.journal AND e.seq = p.seq
			WHERE p.scope = ?1 AND p.entitlement <> '' ORDER BY p.at, j.terminal, j.incarnation, p.seq`, scope)
		stop := false
		err = each(rows, err, func() error {
			if stop {
				return nil
			}
			var t Told
			var incarnation, text []byte
			var seq, way, at, state int64
			if err := rows.Scan(&t.Terminal, &incarnation, &seq, &t.Entitlement, &t.Gate, &t.Zone, &way, &at, &state, &t.Passed, &text); err != nil {
				return err
			}
			if strings.HasPrefix(t.Entitlement, whitelist.PersonPrefix) || strings.HasPrefix(t.Entitlement, whitelist.TokenPrefix) {
				return nil // counted people, not tickets
			}
			e, err := readEvent(uint64(seq), text)
			if err != nil {
				return fmt.Errorf("event %d of terminal %q: %w", seq, t.Terminal, err)
			}
			t.Incarnation, t.Seq, t.ClaimID = hex.EncodeToString(incarnation), uint64(seq), e.ClaimID
			t.Exit, t.At, t.People = way == exit, fromMillis(at), max(1, e.People)
			t.Reentry = min(e.Reentry, t.People)
			if t.Settled, t.Doubt = state != reserved, state == doubtful; state == annulled {
				t.Passed = 0
			}
			stop = !yield(t, nil)
			return nil
		})
		if err != nil && !stop {
			yield(Told{}, fmt.Errorf("reading passages: %w", err))
		}
	}
}
