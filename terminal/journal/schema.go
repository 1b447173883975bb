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
CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta
	BEGIN SELECT raise(ABORT, 'the incarnation never changes'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta
	BEGIN SELECT raise(ABORT, 'the incarnation never changes'); END;
`

// baseSchema is what version 2 added to the truth. The chain begins after event
// base.seq, whose hash is base.hash; event base.event records that those before
// were deleted, and nothing else moves the base. carried and refused are what
// outlives its events, and have their digest in that record.
const baseSchema = `
CREATE TABLE base (
	only  INTEGER PRIMARY KEY CHECK (only = 1),
	seq   INTEGER NOT NULL,
	hash  BLOB NOT NULL,
	event INTEGER NOT NULL
);
INSERT INTO base VALUES (1, 0, x'', 0);
CREATE TABLE carried (` + passageColumns + `);
CREATE INDEX carried_entitlement ON carried (entitlement);
CREATE TABLE refused (card_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
	WHEN OLD.seq > (SELECT seq FROM base)
	BEGIN SELECT raise(ABORT, 'events are deleted by retention only'); END;
CREATE TRIGGER base_no_insert BEFORE INSERT ON base
	BEGIN SELECT raise(ABORT, 'the base is one'); END;
CREATE TRIGGER base_no_delete BEFORE DELETE ON base
	BEGIN SELECT raise(ABORT, 'the base is one'); END;
CREATE TRIGGER base_needs_record BEFORE UPDATE ON base
	WHEN NEW.seq <= OLD.seq OR NOT EXISTS (
		SELECT 1 FROM events WHERE seq = (SELECT max(seq) FROM events) AND seq = NEW.event AND bytes ->> 'kind' = 'prune'
			AND bytes ->> 'through' = NEW.seq AND bytes ->> 'through_hash' = lower(hex(NEW.hash)))
	BEGIN SELECT raise(ABORT, 'the base moves with the record of a deletion'); END;
`

// passageColumns are those of a passage; at and until are Unix milliseconds,
// until 0 when the entitlement never ends, last is the last event about it.
const passageColumns = `
	seq         INTEGER PRIMARY KEY,
	entitlement TEXT NOT NULL,
	zone        TEXT NOT NULL,
	direction   INTEGER NOT NULL CHECK (direction IN (0, 1)),
	at          INTEGER NOT NULL,
	until       INTEGER NOT NULL,
	state       INTEGER NOT NULL CHECK (state IN (1, 2, 3, 4)),
	people      INTEGER NOT NULL CHECK (people > 0),
	reentry     INTEGER NOT NULL CHECK (reentry BETWEEN 0 AND people),
	passed      INTEGER NOT NULL CHECK (passed BETWEEN 0 AND people),
	last        INTEGER NOT NULL
`

// indexSchema is the index, which can be made from the base and the events
// again. folded has one row: the last event that is in the index and its hash,
// and the greatest instant. sums has, for each block of 65 536 numbers, how many
// passages there are, the sum of their seq × state, and their people.
const indexSchema = `
CREATE TABLE passages (` + passageColumns + `);
CREATE INDEX passages_entitlement ON passages (entitlement);
CREATE INDEX passages_open ON passages (seq) WHERE state IN (1, 4);
CREATE INDEX passages_at ON passages (at);
CREATE TABLE sums (
	block   INTEGER PRIMARY KEY,
	entries INTEGER NOT NULL,
	states  INTEGER NOT NULL,
	people  INTEGER NOT NULL
);
CREATE TABLE folded (
	only    INTEGER PRIMARY KEY CHECK (only = 1),
	seq     INTEGER NOT NULL,
	hash    BLOB NOT NULL,
	latest  INTEGER NOT NULL
);
`

// sumsOf are the sums of the blocks from one up to another.
const sumsOf = `SELECT seq >> 16, count(*), sum(seq * state), sum(people) FROM passages WHERE seq BETWEEN ? << 16 AND (? << 16) + 65535 GROUP BY 1`

// lastBlock is greater than that of any passage.
const lastBlock int64 = 1 << 46

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
	_, err = db.Exec(eventSchema + baseSchema + indexSchema + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion))
	if err == nil {
		_, err = db.Exec(`INSERT INTO meta VALUES ('incarnation', ?)`, incarnation[:])
	}
	if err == nil {
		_, err = db.Exec(`INSERT INTO folded VALUES (1, 0, ?, 0)`, first[:])
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

// versionOf refuses a file that is no journal, or one of a newer program.
func versionOf(ctx context.Context, q querier) (version int64, err error) {
	var id int64
	if err := q.QueryRowContext(ctx, `SELECT application_id FROM pragma_application_id`).Scan(&id); err != nil {
		return 0, err
	}
	if err := q.QueryRowContext(ctx, `SELECT user_version FROM pragma_user_version`).Scan(&version); err != nil {
		return 0, err
	}
	switch {
	case id != applicationID:
		return 0, fmt.Errorf("%w: not a journal", ErrCorrupt)
	case version > schemaVersion:
		return 0, fmt.Errorf("%w: its version is %d, this program knows up to %d", ErrNewer, version, schemaVersion)
	case version < 1:
		return 0, fmt.Errorf("%w: version %d", ErrCorrupt, version)
	}
	return version, nil
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
