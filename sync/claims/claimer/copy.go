package claimer

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "github.com/mattn/go-sqlite3" // database/sql driver "sqlite3"

	"github.com/gate-agent/gate-agent/sync/claims"
)

// A store is what a terminal has heard of the logs of its scope, and how far it has told
// them of its journal. It is an index: without it, it is made again from both.
//
// records has what each number holds; unread, that this cannot be read,
// and twice, that something else came under the same number later. mine marks the entries of this terminal that wait to be settled. own has
// the reservations of the journal that the follower has come to.
type store struct {
	w, r  *sql.DB // one connection writes, readers do not wait for it
	scope string
	me    claims.Writer
}

const storeVersion = 1

const schema = `
CREATE TABLE records (
	token TEXT NOT NULL,
	n     INTEGER NOT NULL,
	value BLOB NOT NULL,
	twice INTEGER NOT NULL DEFAULT 0,
	unread INTEGER NOT NULL DEFAULT 0,
	mine  TEXT,
	PRIMARY KEY (token, n)
) WITHOUT ROWID;
CREATE INDEX records_mine ON records (mine) WHERE mine IS NOT NULL;
CREATE INDEX records_bad ON records (unread) WHERE unread OR twice;
CREATE TABLE own (reservation INTEGER PRIMARY KEY, token TEXT NOT NULL, id TEXT NOT NULL);
CREATE INDEX own_token ON own (token, id);
CREATE TABLE state (
	only     INTEGER PRIMARY KEY CHECK (only = 1),
	owner    TEXT NOT NULL,    -- scope, terminal and incarnation
	created  INTEGER NOT NULL, -- of the stream, Unix nanoseconds
	revision INTEGER NOT NULL, -- heard up to
	journal  INTEGER NOT NULL, -- told up to this event
	foreign_scope INTEGER NOT NULL -- its events are of another scope there
);
`

// openStore opens the copy at path. One that is damaged, or of another terminal, scope
// or journal, is made anew.
func openStore(path, scope string, me claims.Writer) (*store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	s, err := tryStore(path, scope, me)
	if err == nil {
		return s, nil
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		if gone := os.Remove(file); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), gone)
		}
	}
	if s, err = tryStore(path, scope, me); err != nil {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	return s, nil
}

var errOther = errors.New("it is of another version, terminal, scope or journal")

func tryStore(path, scope string, me claims.Writer) (_ *store, err error) {
	s := &store{scope: scope, me: me}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// An index need not survive a power cut: NORMAL does not sync at each commit.
	if s.w, err = openDB(path, "mode=rwc&_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate"); err != nil {
		return nil, err
	}
	s.w.SetMaxOpenConns(1)
	if err := s.init(); err != nil {
		return nil, err
	}
	if s.r, err = openDB(path, "mode=ro"); err != nil {
		return nil, err
	}
	s.r.SetMaxOpenConns(2)
	return s, nil
}

func openDB(path, params string) (*sql.DB, error) {
	name := url.URL{Scheme: "file", Path: path, RawQuery: params + "&_busy_timeout=100&_stmt_cache_size=16"}
	return sql.Open("sqlite3", name.String())
}

func (s *store) init() error {
	var version int
	if err := s.w.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version == 0 {
		tx, err := s.w.Begin()
		if err != nil {
			return err
		}
		defer tx.Rollback() // after Commit it does nothing
		if _, err := tx.Exec(schema); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO state VALUES (1, ?, 0, 0, 0, 0)`, s.owner()); err != nil {
			return err
		}
		if _, err := tx.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, storeVersion)); err != nil {
			return err
		}
		return tx.Commit()
	}
	return belongs(context.Background(), s.w, s.owner())
}

func (s *store) owner() string {
	return fmt.Sprintf("%q %q %s", s.scope, s.me.Terminal, s.me.Incarnation)
}

// belongs checks whose a copy is.
func belongs(ctx context.Context, db *sql.DB, owner string) error {
	var version int
	var whose string
	if err := db.QueryRowContext(ctx, `SELECT user_version, owner FROM pragma_user_version, state`).Scan(&version, &whose); err != nil {
		return err
	}
	if version != storeVersion || whose != owner {
		return errOther
	}
	return nil
}

func (s *store) close() error {
	var errs []error
	for _, db := range []*sql.DB{s.r, s.w} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// attach says which stream is heard now. Of another one than before nothing is known,
// and it is told of all of the journal again.
func (s *store) attach(ctx context.Context, created time.Time) (revision uint64, err error) {
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	var was int64
	if err := tx.QueryRowContext(ctx, `SELECT created, revision FROM state`).Scan(&was, &revision); err != nil {
		return 0, err
	}
	if was == created.UnixNano() {
		return revision, nil
	}
	for _, q := range []string{`DELETE FROM records`, `DELETE FROM own`, `UPDATE state SET revision = 0, journal = 0, foreign_scope = 0`} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return 0, err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE state SET created = ?`, created.UnixNano()); err != nil {
		return 0, err
	}
	return 0, tx.Commit()
}

// A value is what a number holds. Its revision is 0 when it was not heard in its turn.
type value struct {
	token    string
	n        uint64
	bytes    []byte
	revision uint64
}

// put keeps values, all or none. The first of a number stays: again are those of
// numbers that had another.
func (s *store) put(ctx context.Context, values ...value) (again []value, err error) {
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // after Commit it does nothing
	revision := uint64(0)
	for _, v := range values {
		var had []byte
		err := tx.QueryRowContext(ctx, `SELECT value FROM records WHERE token = ? AND n = ?`, v.token, int64(v.n)).Scan(&had)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			err = s.insert(ctx, tx, v)
		case err == nil && !bytes.Equal(had, v.bytes):
			again = append(again, v)
			_, err = tx.ExecContext(ctx, `UPDATE records SET twice = 1 WHERE token = ? AND n = ?`, v.token, int64(v.n))
		}
		if err != nil {
			return nil, err
		}
		revision = max(revision, v.revision)
	}
	if revision > 0 {
		if _, err := tx.ExecContext(ctx, `UPDATE state SET revision = max(revision, ?)`, int64(revision)); err != nil {
			return nil, err
		}
	}
	return again, tx.Commit()
}

func (s *store) insert(ctx context.Context, tx *sql.Tx, v value) error {
	var mine any
	r, err := claims.Parse(s.scope, v.token, v.bytes)
	if err == nil && r.Writer == s.me {
		switch {
		case r.Kind == claims.Entry && r.Reservation == 0:
			mine = r.ID
		case r.Kind == claims.Settle:
			if _, err := tx.ExecContext(ctx, `UPDATE records SET mine = NULL WHERE token = ? AND n = ? AND mine = ?`, v.token, int64(r.Of), r.ID); err != nil {
				return err
			}
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO records (token, n, value, unread, mine) VALUES (?, ?, ?, ?, ?)`, v.token, int64(v.n), v.bytes, err != nil, mine)
	return err
}

// errTwice says that a number holds more than one record.
var errTwice = errors.New("number was written twice")

// log is what is known of an entitlement's log.
func (s *store) log(ctx context.Context, token string) (log []claims.Numbered, err error) {
	err = each(ctx, s.r, func(scan func(...any) error) error {
		var n int64
		var value []byte
		var twice bool
		if err := scan(&n, &value, &twice); err != nil {
			return err
		}
		e := claims.Numbered{N: uint64(n)}
		if e.Record, e.Err = claims.Parse(s.scope, token, value); e.Err == nil && twice {
			e.Err = errTwice
		}
		log = append(log, e)
		return nil
	}, `SELECT n, value, twice FROM records WHERE token = ? ORDER BY n`, token)
	return log, err
}

// unread is how many numbers cannot be read, or were written twice.
func (s *store) unread(ctx context.Context) (n int, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT count(*) FROM records WHERE unread OR twice`).Scan(&n)
	return n, err
}

// reservations are those of this terminal's entries and exits in a log, by their IDs.
func (s *store) reservations(ctx context.Context, token string) (map[string]uint64, error) {
	of := make(map[string]uint64)
	err := each(ctx, s.r, func(scan func(...any) error) error {
		var id string
		var r int64
		err := scan(&id, &r)
		of[id] = uint64(r)
		return err
	}, `SELECT id, reservation FROM own WHERE token = ?`, token)
	return of, err
}

// A claim is an entry of this terminal in a log.
type claim struct{ token, id string }

// loose are the claims that nothing in the journal is known of, as far as the follower
// has come.
func (s *store) loose(ctx context.Context) (loose []claim, err error) {
	err = each(ctx, s.r, func(scan func(...any) error) error {
		var c claim
		err := scan(&c.token, &c.id)
		loose = append(loose, c)
		return err
	}, `SELECT token, mine FROM records r WHERE mine IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM own WHERE own.token = r.token AND own.id = r.mine)`)
	return loose, err
}

// owned reports whether a claim is known in the journal.
func (s *store) owned(ctx context.Context, c claim) (owned bool, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM own WHERE token = ? AND id = ?)`, c.token, c.id).Scan(&owned)
	return owned, err
}

// own keeps what a reservation is called, and where.
func (s *store) own(ctx context.Context, reservation uint64, token, id string) error {
	_, err := s.w.ExecContext(ctx, `INSERT OR REPLACE INTO own VALUES (?, ?, ?)`, int64(reservation), token, id)
	return err
}

// called is what a reservation is called; known is false of one that no log is told of.
func (s *store) called(ctx context.Context, reservation uint64) (token, id string, known bool, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT token, id FROM own WHERE reservation = ?`, int64(reservation)).Scan(&token, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", false, nil
	}
	return token, id, err == nil, err
}

// told is how far the journal was told, and whether it was of another scope there.
func (s *store) told(ctx context.Context) (through uint64, foreign bool, err error) {
	var seq int64
	err = s.r.QueryRowContext(ctx, `SELECT journal, foreign_scope FROM state`).Scan(&seq, &foreign)
	return uint64(seq), foreign, err
}

func (s *store) tell(ctx context.Context, through uint64, foreign bool) error {
	_, err := s.w.ExecContext(ctx, `UPDATE state SET journal = ?, foreign_scope = ?`, int64(through), foreign)
	return err
}

// revision is how far the stream was heard.
func (s *store) revision(ctx context.Context) (revision int64, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT revision FROM state`).Scan(&revision)
	return revision, err
}

// each shows every row of a query.
func each(ctx context.Context, db *sql.DB, visit func(scan func(...any) error) error, query string, args ...any) (err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := visit(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
