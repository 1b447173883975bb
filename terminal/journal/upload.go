package journal

import (
	"context"
	"errors"
	"fmt"
)

// What follows is for whoever carries the journal elsewhere: events as bytes, which
// nobody reads on the way. An event that cannot be read is carried like any other.

// Incarnation is the random name of the journal.
func (r *Reader) Incarnation(ctx context.Context) ([16]byte, error) {
	id, err := incarnationOf(ctx, r.db)
	if err != nil {
		return id, fail(r.path, "reading its incarnation", err)
	}
	return id, nil
}

// Ends are the numbers of the last event that retention deleted, 0 for none, and of
// the last event that there is.
func (r *Reader) Ends(ctx context.Context) (pruned, last uint64, err error) {
	b, err := baseOf(ctx, r.db)
	var head int64
	if err == nil {
		err = r.db.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM events`).Scan(&head)
	}
	if err != nil {
		return 0, 0, fail(r.path, "looking for its ends", err)
	}
	return b.seq, max(b.seq, uint64(head)), nil
}

// HashAt is the hash of an event that is there, or of the last one deleted, or of
// number 0, which the first event follows. It does not check the chain.
func (r *Reader) HashAt(ctx context.Context, seq uint64) (Hash, error) {
	h, err := hashOf(ctx, r.db, seq)
	if err != nil {
		return h, fail(r.path, "reading a hash", err)
	}
	return h, nil
}

// Bytes are the events behind one, at most so many, as they were hashed. It does
// not check the chain.
func (r *Reader) Bytes(ctx context.Context, after uint64, most int) (events [][]byte, err error) {
	defer func() {
		if err != nil {
			err = fail(r.path, "reading events", err)
		}
	}()
	rows, err := r.db.QueryContext(ctx, `SELECT seq, bytes FROM events WHERE seq > ? ORDER BY seq LIMIT ?`, int64(after), most)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var seq int64
		var b []byte
		if err := rows.Scan(&seq, &b); err != nil {
			return nil, err
		}
		if want := after + uint64(len(events)) + 1; uint64(seq) != want {
			return nil, &ChainError{want, fmt.Sprintf("it is missing, the next one is %d", seq)}
		}
		events = append(events, b)
	}
	return events, rows.Err()
}
