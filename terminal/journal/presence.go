package journal

import (
	"context"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Presence is what a journal knows of those who came and went by one
// entitlement.
type Presence struct {
	Entitlement string
	Entered     uint64 // people
	Left        uint64
	Doubtful    uint64               // of whom nobody knows whether they passed
	Last        time.Time            // when the last of them came or went
	Reservation terminal.Reservation // theirs
	Cards       []string             // pseudonyms of what they showed, as far as its events are kept
}

// Inside is how many of them are known to be inside.
func (p Presence) Inside() uint64 { return p.Entered - min(p.Entered, p.Left) }

// Came reports whether anybody did: else all their passages were annulled.
func (p Presence) Came() bool { return p.Entered+p.Left+p.Doubtful > 0 }

// Presences tells of every entitlement by which somebody passed, in the order in
// which they first came, and of people without one, as that of "". It reads every
// passage, and every event for the pseudonyms.
func (r *Reader) Presences(ctx context.Context) (all []Presence, err error) {
	defer func() {
		if err != nil {
			all, err = nil, fail(r.path, "looking for who is there", err)
		}
	}()
	if r.version < schemaVersion {
		return nil, ErrOlder
	}
	tx, err := r.db.BeginTx(ctx, nil) // one snapshot
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // it only read
	cards := make(map[string][]string)
	err = each(ctx, tx, cardsOf, func(scan scanner) error {
		var entitlement, card string
		err := scan(&entitlement, &card)
		cards[entitlement] = append(cards[entitlement], card)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, tx, presences, func(scan scanner) error {
		var p Presence
		var last, reservation int64
		if err := scan(&p.Entitlement, &p.Entered, &p.Left, &p.Doubtful, &last, &reservation); err != nil {
			return err
		}
		p.Last, p.Reservation, p.Cards = time.UnixMilli(last).UTC(), terminal.Reservation(reservation), cards[p.Entitlement]
		all = append(all, p)
		return nil
	})
	return all, err
}

const presences = `SELECT entitlement,
		sum(CASE WHEN direction = 0 AND state <> 3 THEN passed ELSE 0 END),
		sum(CASE WHEN direction = 1 AND state <> 3 THEN passed ELSE 0 END),
		sum(CASE WHEN state IN (1, 4) THEN people - passed ELSE 0 END),
		max(at), max(seq)
	FROM passages GROUP BY entitlement ORDER BY min(seq)`

const cardsOf = `SELECT DISTINCT coalesce(bytes ->> 'entitlement', ''), bytes ->> 'card_id' FROM events
	WHERE bytes ->> 'kind' = 'reserve' AND bytes ->> 'card_id' IS NOT NULL`
