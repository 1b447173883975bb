package ingest

import (
	"context"
	"time"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// maxGroup is how many changes one transaction makes durable: disks sync a few
// hundred times a second, and hundreds of terminals may send at once.
const maxGroup = 64

// A waiting change is one that somebody waits for.
type waiting struct {
	write func(context.Context, *tx) error // may be called again
	done  chan<- error                     // has room for it
}

// durably has a change written, together with others that come meanwhile. One that
// is given up on may be written all the same.
func (s *Store) durably(ctx context.Context, write func(context.Context, *tx) error) error {
	done := make(chan error, 1)
	select {
	case s.queue <- &waiting{write, done}:
	case <-s.open.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take keeps a batch, at an instant.
func (s *Store) take(ctx context.Context, b *upload.Batch, at time.Time) (outcome, error) {
	placed := make(chan outcome, 1) // not a variable: who gave up does not look
	err := s.durably(ctx, func(ctx context.Context, t *tx) error {
		o, err := t.place(ctx, b, at.UnixMilli())
		select {
		case <-placed: // of an attempt that was undone
		default:
		}
		placed <- o
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	return <-placed, nil
}

// commit writes what waits, group by group, until the store is closed.
func (s *Store) commit() {
	for {
		var group []*waiting
		select {
		case w := <-s.queue:
			group = append(group, w)
		case <-s.open.Done():
			return
		}
	more:
		for len(group) < maxGroup {
			select {
			case w := <-s.queue:
				group = append(group, w)
			default:
				break more
			}
		}
		s.writeGroup(group)
	}
}

// writeGroup writes a group, or each of it by itself where that fails: what cannot
// be written holds up nothing else.
func (s *Store) writeGroup(group []*waiting) {
	err := s.writeAll(group)
	if err != nil && len(group) > 1 {
		for _, w := range group {
			w.done <- s.writeAll([]*waiting{w})
		}
		return
	}
	for _, w := range group {
		w.done <- err
	}
}

// writeAll writes in one transaction. It ends even where the store is being closed:
// what is begun is finished.
func (s *Store) writeAll(group []*waiting) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return classify(s.write(ctx, func(t *tx) error {
		for _, w := range group {
			if err := w.write(ctx, t); err != nil {
				return err
			}
		}
		return nil
	}))
}
