package registry

import (
	"bytes"
	"context"
)

// A headSource gives up to page heads after one, ascending.
type headSource func(ctx context.Context, after []byte) ([][]byte, error)

// merged gives the heads of several sources, ascending, each once. A source that
// has ended is not asked again: PostgreSQL goes through the marks of the
// publication before, deleted and not yet swept up, to find that there is none.
type merged []struct {
	next  headSource
	heads [][]byte // read and not given out
	after []byte
	ended bool
}

func (m merged) page(ctx context.Context) (some [][]byte, err error) {
	for len(some) < page {
		var least []byte
		for i := range m {
			s := &m[i]
			if len(s.heads) == 0 && !s.ended {
				if s.after == nil {
					s.after = []byte{} // not NULL
				}
				if s.heads, err = s.next(ctx, s.after); err != nil {
					return nil, err
				}
				if s.ended = len(s.heads) < page; len(s.heads) > 0 {
					s.after = s.heads[len(s.heads)-1]
				}
			}
			if len(s.heads) > 0 && (least == nil || bytes.Compare(s.heads[0], least) < 0) {
				least = s.heads[0]
			}
		}
		if least == nil {
			return some, nil
		}
		for i := range m {
			if s := &m[i]; len(s.heads) > 0 && bytes.Equal(s.heads[0], least) {
				s.heads = s.heads[1:]
			}
		}
		some = append(some, least)
	}
	return some, nil
}
