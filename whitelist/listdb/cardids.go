package listdb

import (
	"context"
	"fmt"
	"iter"

	"github.com/gate-agent/gate-agent/crypto/cardid"
)

// CardIDs yields the pseudonym of every row of the list in force, in the order of
// their bytes. It is all that a terminal can say of people who have not shown a
// card: rows open with their certificate alone. It ends after the first error, and
// holds nothing of the database between two of them. It does not verify the list.
func (s *Store) CardIDs(ctx context.Context) iter.Seq2[cardid.CardID, error] {
	return func(yield func(cardid.CardID, error) bool) {
		snap, err := s.current()
		if err != nil {
			yield(cardid.CardID{}, err)
			return
		}
		defer snap.release()
		for row, err := range snap.ids(ctx) {
			if err != nil {
				err = fmt.Errorf("reading the list: %w", err)
			}
			if !yield(row.ID, err) || err != nil {
				return
			}
		}
	}
}
