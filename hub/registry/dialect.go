package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	_ "github.com/mattn/go-sqlite3"    // database/sql driver "sqlite3"
)

// A dialect is all in which the engines differ. Statements are written once,
// with SQLite's ?1 and in what both understand; texts and bytes sort bytewise in both.
type dialect struct {
	name   string
	schema *strings.Replacer // of the words in braces and types of schema.go
	begin  string            // makes a transaction the only one that writes; "": it is
	never  string            // makes %[1]s a table whose rows never change
	dollar bool              // $1 for ?1
	learn  string            // has the engine look at tables that grew within a transaction
}

var engines = map[string]dialect{
	"sqlite": {
		schema: strings.NewReplacer("{table}", "STRICT", "{clustered}", "STRICT, WITHOUT ROWID"),
		never: `
CREATE TRIGGER %[1]s_no_update BEFORE UPDATE ON %[1]s BEGIN SELECT raise(ABORT, '%[1]s is never changed'); END;
CREATE TRIGGER %[1]s_no_delete BEFORE DELETE ON %[1]s BEGIN SELECT raise(ABORT, '%[1]s is never changed'); END;
`,
	},
	"postgres": {
		schema: strings.NewReplacer("{table}", "", "{clustered}", "", "INTEGER", "BIGINT", "BLOB", "BYTEA", "TEXT", `TEXT COLLATE "C"`),
		begin:  `SELECT pg_advisory_xact_lock(7237125016341503340)`,
		never: `
CREATE FUNCTION %[1]s_never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%[1]s is never changed'; END $$;
CREATE TRIGGER %[1]s_never BEFORE UPDATE OR DELETE OR TRUNCATE ON %[1]s EXECUTE FUNCTION %[1]s_never();
`,
		dollar: true,
		// PostgreSQL counts what is in a table in its own time, after the commit. A
		// plan made for an empty table would read all of it for each page.
		learn: `ANALYZE holders, credentials, entitlements, touched, published, revoked`,
	},
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
// process that writes, such as a publication of a million rows.
const busyTimeout = "60000"

func connect(name string) (*Registry, error) {
	engine, path, ok := strings.Cut(name, ":")
	switch {
	case ok && engine == "sqlite" && path != "":
		return connectSQLite(path)
	case ok && (engine == "postgres" || engine == "postgresql"):
		where, _, _ := strings.Cut(path, "?")
		if !strings.HasPrefix(where, "//") || strings.Count(where, "@") > 1 { // else a part of the password is a host, and in every error
			return nil, errors.New("not a URL of PostgreSQL: write postgres://USER@HOST/DATABASE, and the password into PGPASSFILE, or with %40 for @ in it")
		}
		w, err := sql.Open("pgx", name)
		if err != nil {
			return nil, errors.New("not a URL of PostgreSQL: write postgres://USER@HOST/DATABASE") // the error may hold the password
		}
		w.SetMaxOpenConns(1) // writers queue in Go, and whoever reads finds a connection
		r, err := sql.Open("pgx", name)
		if err != nil {
			return nil, errors.Join(errors.New("not a URL of PostgreSQL"), w.Close())
		}
		r.SetMaxOpenConns(16)
		r.SetMaxIdleConns(4)
		return &Registry{dialect: engines["postgres"], w: w, r: r}, nil
	}
	return nil, errors.New("a registry is sqlite:PATH or postgres://USER@HOST/DATABASE")
}

func connectSQLite(path string) (*Registry, error) {
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
		name := url.URL{Scheme: "file", Path: path, RawQuery: params + "&_foreign_keys=1&_busy_timeout=" + busyTimeout + "&_stmt_cache_size=64"}
		return sql.Open("sqlite3", name.String())
	}
	w, err := open("mode=rw&_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_secure_delete=true")
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1) // writers queue in Go
	r, err := open("mode=rw&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	r.SetMaxOpenConns(4)
	return &Registry{dialect: engines["sqlite"], w: w, r: r}, nil
}

// migrate brings the schema to what this program knows.
func (r *Registry) migrate(ctx context.Context) error {
	return r.write(ctx, func(t *tx) error {
		// Not CREATE IF NOT EXISTS of every table: a database that holds something
		// else of the same name is found out.
		if _, err := t.exec(ctx, r.dialect.schema.Replace(`CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) {table}`)); err != nil {
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
			for statement := range strings.SplitSeq(r.dialect.schema.Replace(m), ";\n") {
				if strings.TrimSpace(statement) == "" {
					continue
				}
				if _, err := t.exec(ctx, statement); err != nil {
					return fmt.Errorf("schema %d: %w", version, err)
				}
			}
			if version == 1 {
				if err := r.appendOnly(ctx, t, "history"); err != nil {
					return err
				}
			}
			if _, err := t.exec(ctx, `INSERT INTO schema_version VALUES (?1)`, version); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Registry) appendOnly(ctx context.Context, t *tx, table string) error {
	for statement := range strings.SplitSeq(fmt.Sprintf(r.dialect.never, table), "\n") {
		if statement == "" {
			continue
		}
		if _, err := t.exec(ctx, statement); err != nil {
			return fmt.Errorf("keeping %s from changes: %w", table, err)
		}
	}
	return nil
}
