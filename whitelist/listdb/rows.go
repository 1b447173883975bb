package listdb

import (
	"context"
	"fmt"
	"iter"

	"github.com/gate-agent/gate-agent/whitelist"
)

// Rows yields the rows of the list in force, ascending by CardID; the bytes of one
// are valid until the next. It ends after the first error. It does not verify the
// list.
func (s *Store) Rows(ctx context.Context) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		snap, err := s.current()
		if err != nil {
			yield(whitelist.SealedRow{}, err)
			return
		}
		defer snap.release()
		for row, err := range snap.rows(ctx) {
			if err != nil {
				err = fmt.Errorf("reading the list: %w", err)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// Above yields the rows of two sequences as one, all three ascending by CardID. A
// row of upper stands in the place of lower's; one without content hides it.
func Above(lower, upper iter.Seq2[whitelist.SealedRow, error]) iter.Seq2[whitelist.SealedRow, error] {
	return above(lower, upper)
}
