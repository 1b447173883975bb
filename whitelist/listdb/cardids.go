package listdb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// CardIDs yields the pseudonym of every row of the list in force, in the order of
// their bytes. It is all that a terminal can say of people who have not shown a
// card: rows open with their certificate alone. It ends after the first error, and
// holds nothing of the database between two of them. It does not verify the list.
func (s *Store) CardIDs(ctx context.Context) iter.Seq2[cardid.CardID, error] {
	return func(yield func(cardid.CardID, error) bool) {
		v, err := s.Current()
		if err != nil {
			yield(cardid.CardID{}, err)
			return
		}
		defer v.Release()
		const page = 1024
		for after := []byte{}; ; {
			ids, err := v.(*view).snap.cardIDs(ctx, after, page)
			for _, id := range ids {
				if !yield(id, nil) {
					return
				}
			}
			if err != nil {
				yield(cardid.CardID{}, fmt.Errorf("reading the list: %w", err))
				return
			}
			if len(ids) < page {
				return
			}
			after = ids[page-1][:]
		}
	}
}

func (s *snapshot) cardIDs(ctx context.Context, after []byte, n int) (ids []cardid.CardID, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT card_id FROM row WHERE card_id > ? ORDER BY card_id LIMIT ?", after, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id []byte
		if err := rows.Scan(&id); err != nil {
			return ids, err
		}
		if len(id) != sha256.Size {
			return ids, fmt.Errorf("%w: not a row of a list", whitelist.ErrTampered)
		}
		ids = append(ids, cardid.CardID(id))
	}
	return ids, rows.Err()
}
