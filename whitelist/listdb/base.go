package listdb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/mattn/go-sqlite3"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/internal/diskroom"
	"github.com/gate-agent/gate-agent/whitelist"
)

// The schema. card_id is an index over an ordinary table: WITHOUT ROWID would
// keep the rows, of some 830 bytes each, in the inner pages of its tree, and a
// cold lookup among a million rows would read some ten pages instead of six.
//
// set_state has one row in a list that has a set, and none in any other.
const schema = `
CREATE TABLE manifest (signed BLOB NOT NULL);
CREATE TABLE set_state (lanes BLOB NOT NULL);
CREATE TABLE row (card_id BLOB NOT NULL PRIMARY KEY, sealed BLOB NOT NULL);`

// A base is one open list.db whose manifest was verified. Its users are
// snapshots; it is closed with the last of them.
type base struct {
	head  whitelist.Head
	floor floor
	state []byte // of the set; nil when the list has none

	db                *sql.DB
	lookup, page, ids *sql.Stmt
	users             atomic.Int64
}

// openBase opens a database in the state folder and verifies its manifest. It has
// one user. It goes on answering when its file is given another name, or none.
func (s *Store) openBase(name string) (*base, error) {
	// A database that is replaced as a whole is immutable: no locks, no stat.
	b := &base{db: openSQLite(filepath.Join(s.cfg.Dir, name), "mode=ro&immutable=1")}
	if err := b.load(s.cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("opening list: %w", err), b.db.Close())
	}
	b.users.Store(1)
	return b, nil
}

func (b *base) load(cfg Config) error {
	var n int
	var signed []byte
	if err := b.db.QueryRow("SELECT count(*), max(signed) FROM manifest").Scan(&n, &signed); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if n != 1 {
		return fmt.Errorf("%w: %d manifests", ErrUnreadable, n)
	}
	var err error
	if b.head, err = cfg.readHead(signed); err != nil {
		return err
	}
	b.floor = floorOf(b.head)
	if b.head.Manifest.Published() {
		if err := b.db.QueryRow("SELECT lanes FROM set_state").Scan(&b.state); err != nil {
			return fmt.Errorf("%w: the state of its set: %w", ErrUnreadable, err)
		}
		if err := checkState(b.head.Manifest, b.state); err != nil {
			return err
		}
	}
	for _, q := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&b.lookup, "SELECT sealed FROM row WHERE card_id = ?"},
		{&b.page, "SELECT card_id, sealed FROM row WHERE card_id > ? ORDER BY card_id LIMIT ?"},
		{&b.ids, "SELECT card_id, NULL FROM row WHERE card_id > ? ORDER BY card_id LIMIT ?"}, // from the index alone
	} {
		if *q.stmt, err = b.db.Prepare(q.text); err != nil {
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
	}
	return nil
}

// checkState says whether a state is that of the set of a manifest.
func checkState(m whitelist.Manifest, state []byte) error {
	set, err := whitelist.SetOfState(state)
	if err != nil || set.Digest() != m.Set.Digest {
		return fmt.Errorf("%w: the state is not that of its set", ErrUnreadable)
	}
	return nil
}

func (b *base) hold() *base {
	b.users.Add(1)
	return b
}

func (b *base) release() {
	if b.users.Add(-1) == 0 {
		b.db.Close() // read-only: nothing can be lost here
	}
}

// sealed returns a sealed row, nil when there is none.
func (b *base) sealed(ctx context.Context, id cardid.CardID) (sealed []byte, err error) {
	err = b.lookup.QueryRowContext(ctx, id[:]).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return sealed, err
}

// rows yields what a statement, page or ids, selects of all rows, ascending by
// CardID. It reads some at a time, and between these a tap has its turn: the
// database has one connection.
func (b *base) rows(ctx context.Context, page *sql.Stmt) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		const some = 128
		var ids, sealed []byte
		var ends []int
		for after := []byte{}; ; {
			ids, sealed, ends = ids[:0], sealed[:0], ends[:0]
			rows, err := page.QueryContext(ctx, after, some)
			if err != nil {
				yield(whitelist.SealedRow{}, fmt.Errorf("%w: %w", ErrUnreadable, err))
				return
			}
			for err == nil && rows.Next() {
				var id, row sql.RawBytes
				if err = rows.Scan(&id, &row); err == nil && (len(id) != sha256.Size || len(row) > whitelist.MaxRow) {
					err = fmt.Errorf("%w: not a row of a list", whitelist.ErrTampered)
				}
				if err == nil {
					ids, sealed = append(ids, id...), append(sealed, row...)
					ends = append(ends, len(sealed))
				}
			}
			err = errors.Join(err, rows.Err(), rows.Close())
			at := 0
			for i, end := range ends {
				row := whitelist.SealedRow{ID: cardid.CardID(ids[i*sha256.Size:]), Sealed: sealed[at:end]}
				if !yield(row, nil) {
					return
				}
				at = end
			}
			if err != nil {
				yield(whitelist.SealedRow{}, fmt.Errorf("%w: %w", ErrUnreadable, err))
				return
			}
			if len(ends) < some {
				return
			}
			after = slices.Clone(ids[len(ids)-sha256.Size:])
		}
	}
}

// syncEvery is how many bytes are written before they are made durable. At the end
// of a gigabyte the journal's own sync, for which a tap waits, would stand behind
// all of it.
const syncEvery = 2 << 20

// stage writes a database beside list.db, makes it durable and opens it. end is
// asked after the last row: it says whether they are those of the list, and the
// state of their set if they have one.
func (s *Store) stage(ctx context.Context, head []byte, rows iter.Seq2[whitelist.SealedRow, error], end func() (state []byte, err error), progress func(uint64)) (*base, error) {
	if err := diskroom.Check(s.cfg.Dir); err != nil {
		return nil, err
	}
	f, err := s.root.OpenFile(listFile+staged, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := s.fill(ctx, f, head, rows, end, progress); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return s.openBase(listFile + staged)
}

func (s *Store) fill(ctx context.Context, f *os.File, head []byte, rows iter.Seq2[whitelist.SealedRow, error], end func() ([]byte, error), progress func(uint64)) (err error) {
	// No journal and no syncing by SQLite: until the rename this file is nobody's.
	db := openSQLite(filepath.Join(s.cfg.Dir, listFile+staged), "mode=rw&_journal_mode=OFF&_synchronous=OFF&_locking_mode=EXCLUSIVE")
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tx.Rollback() // without a journal it cannot succeed; the file is removed
		}
	}()
	if _, err := tx.Exec(schema); err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO manifest (signed) VALUES (?)", head); err != nil {
		return err
	}
	insert, err := tx.Prepare("INSERT INTO row (card_id, sealed) VALUES (?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	var n uint64
	unsynced := 0
	for row, err := range rows {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if _, err := insert.Exec(row.ID[:], row.Sealed); err != nil {
			return err
		}
		if unsynced += len(row.Sealed); unsynced > syncEvery {
			if err := errors.Join(f.Sync(), diskroom.Check(s.cfg.Dir)); err != nil {
				return err
			}
			unsynced = 0
		}
		if n++; n%1000 == 0 {
			progress(n)
		}
	}
	state, err := end()
	if err != nil {
		return err
	}
	if state != nil {
		if _, err := tx.Exec("INSERT INTO set_state (lanes) VALUES (?)", state); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if n%1000 != 0 || n == 0 {
		progress(n)
	}
	return nil
}

// rowsOf yields what a reader's Next returns before io.EOF.
func rowsOf(next func() (whitelist.SealedRow, error)) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		for {
			row, err := next()
			if err == io.EOF || !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// openSQLite returns a handle that connects to path once. A pool that connected
// again could find the successor of the list under the same name.
func openSQLite(path, query string) *sql.DB {
	u := url.URL{Scheme: "file", Path: path, RawQuery: query}
	db := sql.OpenDB(&once{dsn: u.String()})
	db.SetMaxOpenConns(1)
	return db
}

type once struct {
	dsn  string
	used atomic.Bool
}

func (c *once) Connect(context.Context) (driver.Conn, error) {
	if c.used.Swap(true) {
		return nil, errors.New("the database connection was lost")
	}
	return c.Driver().Open(c.dsn)
}

func (c *once) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }
