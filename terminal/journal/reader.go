package journal

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A Reader reads a journal, also while an agent has it open. It takes no lock
// that an agent waits for.
type Reader struct {
	path    string
	version int64 // of the schema
	db      *sql.DB
}

// OpenReader opens the journal at path for reading. The error is ErrNewer when
// a newer program wrote it, ErrCorrupt when it is no journal or damaged.
func OpenReader(path string) (*Reader, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	r, err := openReader(path, "mode=ro")
	if err != nil && unused(path) {
		// A journal in WAL mode needs two files beside it even for reading. On
		// a medium that cannot hold them nobody can be writing either.
		if r, again := openReader(path, "mode=ro&immutable=1"); again == nil {
			return r, nil
		}
	}
	if err != nil {
		return nil, fail(path, "opening", err)
	}
	return r, nil
}

// unused reports that no connection has the database open.
func unused(path string) bool {
	_, err := os.Lstat(path + "-wal")
	return errors.Is(err, os.ErrNotExist)
}

func openReader(path, params string) (*Reader, error) {
	if _, err := os.Stat(path); err != nil { // clearer than what SQLite says
		return nil, err
	}
	db, err := openDB(path, params)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	version, err := versionOf(context.Background(), db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Reader{path, version, db}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.db.Close() }

// A Filter chooses events. The zero Filter chooses all.
type Filter struct {
	After       uint64    // events with a greater Seq
	Through     uint64    // events with no greater Seq; 0 means all
	Kinds       []Kind    // of any of these kinds; none means all
	Entitlement string    // of this entitlement
	Since       time.Time // not before
	Until       time.Time // before
}

// An Entry is an event with the bytes that the chain covers.
type Entry struct {
	Event
	Bytes []byte // the JSON text, exactly as it was hashed
	Hash  Hash
}

// List yields the events that a filter chooses, in sequence, up to the last
// one that was there when it got to it. It holds nothing open between two
// events: the caller may take its time. It ends after the first error. List
// does not check the chain.
func (r *Reader) List(ctx context.Context, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		const page = 256
		for after := f.After; ; {
			entries, err := r.page(ctx, after, page)
			if err != nil {
				yield(Entry{}, fail(r.path, "listing", err))
				return
			}
			for _, e := range entries {
				if f.Through > 0 && e.Seq > f.Through || f.match(e.Event) && !yield(e, nil) {
					return
				}
			}
			if len(entries) < page {
				return
			}
			after = entries[page-1].Seq
		}
	}
}

func (r *Reader) page(ctx context.Context, after uint64, n int) (entries []Entry, err error) {
	rows, err := r.db.QueryContext(ctx, `SELECT seq, bytes, hash FROM events WHERE seq > ? ORDER BY seq LIMIT ?`, int64(after), n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e Entry
		var seq int64
		var hash []byte
		if err := rows.Scan(&seq, &e.Bytes, &hash); err != nil {
			return nil, err
		}
		if e.Event, err = parseEvent(e.Bytes); err != nil {
			return nil, &ChainError{uint64(seq), err.Error()}
		}
		if e.Seq != uint64(seq) || copy(e.Hash[:], hash) != len(e.Hash) {
			return nil, &ChainError{uint64(seq), "its content or its hash is another's"}
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

func (f Filter) match(e Event) bool {
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(f.Entitlement == "" || f.Entitlement == e.Entitlement) &&
		(f.Since.IsZero() || !e.At.Before(f.Since)) &&
		(f.Until.IsZero() || e.At.Before(f.Until))
}
