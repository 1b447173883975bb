// Package ingest keeps at the hub what terminals recorded, and reports on it.
//
// It promises:
//
//   - What an acknowledgement says is durable before it is signed.
//   - An event is kept once, by scope, terminal, incarnation of its journal and
//     number, however often and in whatever pieces it comes.
//   - Nothing that is kept is ever overwritten. Other events under the numbers of
//     those that are kept, from a terminal that was cloned or restored, are kept
//     beside them and told of.
//   - An event that cannot be read is kept and acknowledged like any other, and
//     listed: it holds up nothing.
//   - Reports depend on which events there are, and not on when they came.
//
// Who sends is decided elsewhere: scope and terminal of a caller are authenticated.
// docs/upload.md describes what goes over the wire.
package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// Errors that callers act on.
var (
	// ErrNewerSchema: a newer program wrote the store.
	ErrNewerSchema = errors.New("a newer program wrote the events")
	// ErrFull: the store has no room.
	ErrFull = errors.New("no space left for events")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store of events is closed")
)

// A Store keeps events. Its methods may be called by several goroutines at once,
// and it may be open in several processes.
type Store struct {
	dialect dialect
	w       *sql.DB // for transactions that write
	r       *sql.DB // for single queries

	queue chan *waiting
	open  context.Context // until Close
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// Open opens the store that name says and makes it when there is none:
// "sqlite:PATH", whose file then has mode 0600, or "postgres://…", a URL of
// PostgreSQL's, such as that of the registry: the tables of events lie there in a
// schema of their own, gate_events. The error never holds the URL.
func Open(ctx context.Context, name string) (*Store, error) {
	s, err := connect(ctx, name)
	if err == nil {
		if err = s.migrate(ctx); err != nil {
			err = errors.Join(err, s.closeDB())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store of events: %w", classify(err))
	}
	s.queue = make(chan *waiting)
	s.open, s.stop = context.WithCancel(context.Background())
	s.done.Go(s.commit)
	return s, nil
}

// Close waits for the transaction that is under way. Batches that wait get ErrClosed.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	return s.closeDB()
}

func (s *Store) closeDB() error {
	if s.r == s.w {
		return s.w.Close()
	}
	return errors.Join(s.r.Close(), s.w.Close())
}
