package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/mattn/go-sqlite3"
)

// A dialect is all in which the engines differ. Statements are written once,
// with SQLite's ?1 and in what both understand, as in package registry.
type dialect struct {
	schema *strings.Replacer // of schema.go
	begin  string            // makes a transaction the only one that writes; "": it is
	never  string            // makes %[1]s a table whose rows never change
	dollar bool              // $1 for ?1
}

var sqliteDialect = dialect{
	schema: strings.NewReplacer("{table}", "STRICT", "{clustered}", "STRICT, WITHOUT ROWID"),
	never: `CREATE TRIGGER %[1]s_no_update BEFORE UPDATE ON %[1]s BEGIN SELECT raise(ABORT, '%[1]s is never changed'); END
CREATE TRIGGER %[1]s_no_delete BEFORE DELETE ON %[1]s BEGIN SELECT raise(ABORT, '%[1]s is never changed'); END`,
}

var postgresDialect = dialect{
	schema: strings.NewReplacer("{table}", "", "{clustered}", "", "INTEGER", "BIGINT", "BLOB", "BYTEA", "TEXT", `TEXT COLLATE "C"`),
	begin:  `SELECT pg_advisory_xact_lock(7237125016341503341)`,
	never: `CREATE FUNCTION %[1]s_never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%[1]s is never changed'; END $$
CREATE TRIGGER %[1]s_never BEFORE UPDATE OR DELETE OR TRUNCATE ON %[1]s EXECUTE FUNCTION %[1]s_never()`,
	dollar: true,
}

// sql turns a statement into the dialect's. A question mark stands for a
// parameter and nothing else.
func (d dialect) sql(query string) string {
	if d.dollar {
		return strings.ReplaceAll(query, "?", "$")
	}
	return query
}

// busyTimeout bounds, in milliseconds, how long a transaction waits for another
// process that writes.
const busyTimeout = "10000"

// pgSchema keeps the tables of events apart from those of a registry in the same database.
const pgSchema = "gate_events"

func connect(ctx context.Context, name string) (*Store, error) {
	engine, path, ok := strings.Cut(name, ":")
	switch {
	case ok && engine == "sqlite" && path != "":
		return connectSQLite(path)
	case ok && (engine == "postgres" || engine == "postgresql"):
		return connectPostgres(ctx, name)
	}
	return nil, errors.New("a store of events is sqlite:PATH or postgres://USER@HOST/DATABASE")
}

func connectPostgres(ctx context.Context, name string) (*Store, error) {
	cfg, err := pgx.ParseConfig(name)
	if err != nil {
		return nil, errors.New("not a URL of PostgreSQL: write postgres://USER@HOST/DATABASE") // the error may hold the password
	}
	cfg.RuntimeParams["search_path"] = pgSchema
	cfg.RuntimeParams["synchronous_commit"] = "on" // whatever the server's default is
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(4)
	// Two processes that make it at once: one of them is told that it is there.
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgSchema); err != nil {
		if _, again := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgSchema); again != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return &Store{dialect: postgresDialect, w: db, r: db}, nil
}

func connectSQLite(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would let the umask decide
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	open := func(params string) (*sql.DB, error) {
		name := url.URL{Scheme: "file", Path: path, RawQuery: params + "&_busy_timeout=" + busyTimeout + "&_stmt_cache_size=64"}
		return sql.Open("sqlite3", name.String())
	}
	w, err := open("mode=rw&_txlock=immediate&_journal_mode=WAL&_synchronous=FULL")
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1) // writers queue in Go
	r, err := open("mode=rw&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	r.SetMaxOpenConns(4)
	return &Store{dialect: sqliteDialect, w: w, r: r}, nil
}

// migrate brings the schema to what this program knows.
func (s *Store) migrate(ctx context.Context) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, s.dialect.schema.Replace(`CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) {table}`)); err != nil {
			return err
		}
		var version int
		if err := t.queryRow(ctx, `SELECT coalesce(max(version), 0) FROM schema_version`).Scan(&version); err != nil {
			return err
		}
		if version > len(migrations) {
			return fmt.Errorf("%w: its schema is of version %d, this program knows up to %d", ErrNewerSchema, version, len(migrations))
		}
		for _, m := range migrations[version:] {
			version++
			statements := strings.Split(s.dialect.schema.Replace(m.tables), ";\n")
			for _, table := range m.never {
				statements = append(statements, strings.Split(fmt.Sprintf(s.dialect.never, table), "\n")...)
			}
			for _, statement := range statements {
				if strings.TrimSpace(statement) == "" {
					continue
				}
				if _, err := t.exec(ctx, statement); err != nil {
					return fmt.Errorf("schema %d: %w", version, err)
				}
			}
			if _, err := t.exec(ctx, `INSERT INTO schema_version VALUES (?1)`, version); err != nil {
				return err
			}
		}
		return nil
	})
}

// classify marks what says that there is no room.
func classify(err error) error {
	if lite, ok := errors.AsType[sqlite3.Error](err); ok && (lite.Code == sqlite3.ErrFull || errors.Is(lite.SystemErrno, syscall.ENOSPC) || errors.Is(lite.SystemErrno, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "53100" { // disk_full
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
