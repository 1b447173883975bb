package listdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"sync/atomic"

	"github.com/mattn/go-sqlite3"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/whitelist"
)

// The schema. card_id is an index over an ordinary table: WITHOUT ROWID would
// keep the rows, of some 830 bytes each, in the inner pages of its tree, and a
// cold lookup among a million rows would read some ten pages instead of six.
const schema = `
CREATE TABLE manifest (signed BLOB NOT NULL);
CREATE TABLE row (card_id BLOB NOT NULL PRIMARY KEY, sealed BLOB NOT NULL);`

// A snapshot is one open, verified list.db. It is closed when the last of its
// users, the store and the views, lets go.
type snapshot struct {
	stamp    stamp
	floor    floor
	manifest whitelist.Manifest
	signed   []byte
	trust    roles.Trust
	scopeKey cardid.ScopeKey
	db       *sql.DB
	lookup   *sql.Stmt
	users    atomic.Int64
}

// openSnapshot opens a database in the state folder and verifies its manifest.
func (s *Store) openSnapshot(name string) (*snapshot, error) {
	// A database that is replaced as a whole is immutable: no locks, no stat.
	db := openSQLite(filepath.Join(s.cfg.Dir, name), "mode=ro&immutable=1")
	snap := &snapshot{trust: s.cfg.Trust, scopeKey: s.cfg.ScopeKey, db: db}
	if err := snap.load(s.cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("opening list: %w", err), db.Close())
	}
	snap.users.Store(1)
	return snap, nil
}

func (s *snapshot) load(cfg Config) error {
	var n int
	if err := s.db.QueryRow("SELECT count(*), max(signed) FROM manifest").Scan(&n, &s.signed); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if n != 1 {
		return fmt.Errorf("%w: %d manifests", ErrUnreadable, n)
	}
	head, err := whitelist.ReadHead(s.signed, cfg.Trust)
	if err != nil {
		return err
	}
	s.manifest = head.Manifest
	if err := cfg.accepts(s.manifest); err != nil {
		return err
	}
	s.floor = floorOf(s.manifest, head.Payload())
	if s.lookup, err = s.db.Prepare("SELECT sealed FROM row WHERE card_id = ?"); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return nil
}

// accepts holds a verified manifest against the configuration.
func (c Config) accepts(m whitelist.Manifest) error {
	switch {
	case m.Scope != c.Scope:
		return fmt.Errorf("%w: it is for %q, this terminal is in %q", whitelist.ErrScope, m.Scope, c.Scope)
	case m.Hierarchy != c.Hierarchy:
		return fmt.Errorf("%w: a %s list on a %s terminal", ErrHierarchy, m.Hierarchy, c.Hierarchy)
	case m.ScopeKeyCheck != c.ScopeKey.Check():
		return fmt.Errorf("%w: give this terminal the current key of scope %q", ErrScopeKey, c.Scope)
	}
	return nil
}

func (s *snapshot) pin() *view {
	s.users.Add(1)
	return &view{snap: s}
}

func (s *snapshot) unpin() {
	if s.users.Add(-1) == 0 {
		s.db.Close() // read-only: nothing can be lost here
	}
}

// A view implements whitelist.View.
type view struct {
	snap     *snapshot
	released atomic.Bool
}

func (v *view) Manifest() whitelist.Manifest { return v.snap.manifest }

func (v *view) CardID(head []byte) cardid.CardID { return v.snap.scopeKey.ID(head) }

func (v *view) Release() {
	if !v.released.Swap(true) {
		v.snap.unpin()
	}
}

func (v *view) Lookup(ctx context.Context, head []byte) (whitelist.Row, error) {
	if v.released.Load() {
		return whitelist.Row{}, errors.New("looking up: the view was released")
	}
	s := v.snap
	id := s.scopeKey.ID(head)
	var sealed []byte
	switch err := s.lookup.QueryRowContext(ctx, id[:]).Scan(&sealed); {
	case errors.Is(err, sql.ErrNoRows):
		return whitelist.Row{}, whitelist.ErrNotListed
	case err != nil:
		return whitelist.Row{}, fmt.Errorf("looking up: %w", err)
	}
	row, err := whitelist.OpenRow(s.scopeKey, s.manifest.Scope, head, sealed)
	if err != nil {
		return whitelist.Row{}, fmt.Errorf("looking up: %w", err)
	}
	return row, nil
}

// verify writes the list file again from the database and reads it like one
// that has just arrived.
func (s *snapshot) verify(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, "SELECT card_id, sealed FROM row ORDER BY card_id")
	if err != nil {
		return fmt.Errorf("verifying list: %w: %w", ErrUnreadable, err)
	}
	defer rows.Close()
	file, err := whitelist.NewReader(io.MultiReader(bytes.NewReader(s.signed), &rowReader{rows: rows}), s.trust)
	if err != nil {
		return fmt.Errorf("verifying list: %w", err)
	}
	for {
		switch _, err := file.Next(); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("verifying list: %w", err)
		}
	}
}

// A rowReader reads the rows of a database as the bytes of a list file.
type rowReader struct {
	rows *sql.Rows
	item []byte // the current row
	rest []byte // what of item is still to be read
}

func (r *rowReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if !r.rows.Next() {
			if err := r.rows.Err(); err != nil {
				return 0, fmt.Errorf("%w: %w", ErrUnreadable, err)
			}
			return 0, io.EOF
		}
		var id, sealed sql.RawBytes
		if err := r.rows.Scan(&id, &sealed); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		if len(id) != sha256.Size || len(sealed) > whitelist.MaxRow {
			return 0, fmt.Errorf("%w: not a row of a list", whitelist.ErrTampered)
		}
		r.item = whitelist.AppendRow(r.item[:0], whitelist.SealedRow{ID: cardid.CardID(id), Sealed: sealed})
		r.rest = r.item
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
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
