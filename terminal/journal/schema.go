package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "github.com/mattn/go-sqlite3" // database/sql driver "sqlite3"
)

const (
	applicationID = 0x47414A4C // "GAJL", in the header of the file
	schemaVersion = 2
)

// busyTimeout bounds, in milliseconds, how long a statement waits for another
// program that has the file locked; a tap has 3 s in all.
const busyTimeout = "500"

// The triggers keep programs, and people at a prompt, from changing events by
// mistake; whoever means it is found by the chain. The insert trigger also
// stands in the way of INSERT OR REPLACE, which deletes without a trigger.
const eventSchema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
	seq   INTEGER PRIMARY KEY,
	bytes TEXT NOT NULL CHECK (typeof(bytes) = 'text'),
	hash  BLOB NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32)
);
CREATE TRIGGER events_no_gap BEFORE INSERT ON events
	WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
	BEGIN SELECT raise(ABORT, 'events are appended in sequence'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
	BEGIN SELECT raise(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
	BEGIN SELECT raise(ABORT, 'events are never deleted'); END;
CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta
	BEGIN SELECT raise(ABORT, 'the incarnation never changes'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta
	BEGIN SELECT raise(ABORT, 'the incarnation never changes'); END;
`

// indexSchema is the index, which can be made from the events again. folded
// has one row: the last event that is in the index and its hash, the count and
// the sum over seq × state of the passages, and the greatest instant. last is
// the last event about a passage.
const indexSchema = `
CREATE TABLE passages (
	seq         INTEGER PRIMARY KEY,
	entitlement TEXT NOT NULL,
	zone        TEXT NOT NULL,
	direction   INTEGER NOT NULL CHECK (direction IN (0, 1)),
	at          INTEGER NOT NULL,
	state       INTEGER NOT NULL CHECK (state IN (1, 2, 3, 4)),
	people      INTEGER NOT NULL CHECK (people > 0),
	reentry     INTEGER NOT NULL CHECK (reentry BETWEEN 0 AND people),
	passed      INTEGER NOT NULL CHECK (passed BETWEEN 0 AND people),
	last        INTEGER NOT NULL
);
CREATE INDEX passages_entitlement ON passages (entitlement, seq);
CREATE INDEX passages_open ON passages (seq) WHERE state IN (1, 4);
CREATE TABLE folded (
	only    INTEGER PRIMARY KEY CHECK (only = 1),
	seq     INTEGER NOT NULL,
	hash    BLOB NOT NULL,
	entries INTEGER NOT NULL,
	states  INTEGER NOT NULL,
	latest  INTEGER NOT NULL
);
`

// tempSchema is the part of the index that a check makes again.
var tempSchema = strings.Replace(indexSchema[:strings.Index(indexSchema, "CREATE INDEX")], "CREATE TABLE", "CREATE TEMP TABLE", 1)

// refusalSchema is an index that SQLite keeps by itself, of the few events that
// hold a refused birth date. A journal made before there was one gets it when
// it is opened.
const refusalSchema = `
CREATE INDEX IF NOT EXISTS events_birth_date_refused ON events (bytes ->> 'card_id') WHERE ` + isRefusal + `;
`

// isRefusal finds such an event by its text, which is exact: a quotation mark
// inside a JSON string has a backslash before it.
const isRefusal = `instr(bytes, '"birth_date_refused":true') > 0`

// States of a passage.
//
//	reserved ──Commit──▶ committed ──Annul, by staff─▶ annulled
//	    ├──────Annul───▶ annulled     does not count as an entry
//	    └──────Doubt───▶ doubtful ───Commit, Annul───▶ either
const (
	reserved  = 1
	committed = 2
	annulled  = 3
	doubtful  = 4
)

// openDB opens the database without making one. The name is a URI (RFC 3986),
// so that a path may hold any character.
func openDB(path, params string) (*sql.DB, error) {
	name := url.URL{Scheme: "file", Path: path, RawQuery: params + "&_busy_timeout=" + busyTimeout + "&_stmt_cache_size=16"}
	return sql.Open("sqlite3", name.String())
}

// createIfMissing makes an empty journal with a new incarnation, unless there
// is a file. The new one appears whole or not at all, so that a file which
// holds no journal is never taken for a new one.
func createIfMissing(path string) (created bool, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return false, fmt.Errorf("%w: the file is gone, and its %s-wal is there", ErrCorrupt, filepath.Base(path))
	}
	var incarnation [16]byte
	rand.Read(incarnation[:])
	return true, create(path, incarnation)
}

func create(path string, incarnation [16]byte) (err error) {
	draft := path + ".new"
	for _, leftover := range []string{draft, draft + "-journal"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) // SQLite would let the umask decide
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openDB(draft, "mode=rw&_synchronous=FULL")
	if err != nil {
		return err
	}
	first := firstHash(incarnation)
	_, err = db.Exec(eventSchema + indexSchema + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion))
	if err == nil {
		_, err = db.Exec(`INSERT INTO meta VALUES ('incarnation', ?)`, incarnation[:])
	}
	if err == nil {
		_, err = db.Exec(`INSERT INTO folded VALUES (1, 0, ?, 0, 0, 0)`, first[:])
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// querier is what *sql.DB and *sql.Tx share.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkVersion refuses a file that is no journal, or one of a newer program.
func checkVersion(ctx context.Context, q querier) error {
	var id, version int64
	if err := q.QueryRowContext(ctx, `SELECT application_id FROM pragma_application_id`).Scan(&id); err != nil {
		return err
	}
	if err := q.QueryRowContext(ctx, `SELECT user_version FROM pragma_user_version`).Scan(&version); err != nil {
		return err
	}
	switch {
	case id != applicationID:
		return fmt.Errorf("%w: not a journal", ErrCorrupt)
	case version > schemaVersion:
		return fmt.Errorf("%w: its version is %d, this program knows up to %d", ErrNewer, version, schemaVersion)
	case version < 1:
		return fmt.Errorf("%w: version %d", ErrCorrupt, version)
	}
	return nil
}

// incarnationOf reads the random name of a journal.
func incarnationOf(ctx context.Context, q querier) (id [16]byte, err error) {
	var b []byte
	if err := q.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'incarnation'`).Scan(&b); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%w: it has no incarnation", ErrCorrupt)
		}
		return id, err
	}
	if copy(id[:], b) != len(id) || len(b) != len(id) {
		return id, fmt.Errorf("%w: its incarnation has %d bytes", ErrCorrupt, len(b))
	}
	return id, nil
}
