package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A tx is the one transaction that writes.
type tx struct {
	sql     *sql.Tx
	dialect dialect
}

// write runs f in a transaction that no other writer runs beside; f's error
// undoes it.
func (s *Store) write(ctx context.Context, f func(*tx) error) (err error) {
	begun, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("waiting to write: %w", err)
	}
	defer func() { // also when f panics
		if undone := begun.Rollback(); !errors.Is(undone, sql.ErrTxDone) {
			err = errors.Join(err, undone)
		}
	}()
	if s.dialect.begin != "" {
		if _, err := begun.ExecContext(ctx, s.dialect.begin); err != nil {
			return fmt.Errorf("waiting to write: %w", err)
		}
	}
	if err := f(&tx{begun, s.dialect}); err != nil {
		return err
	}
	if err := begun.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

func (t *tx) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.sql.ExecContext(ctx, t.dialect.sql(query), args...)
}

func (t *tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.sql.QueryContext(ctx, t.dialect.sql(query), args...)
}

func (t *tx) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return t.sql.QueryRowContext(ctx, t.dialect.sql(query), args...)
}

// query of a Store reads what is committed.
func (s *Store) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.r.QueryContext(ctx, s.dialect.sql(query), args...)
}

// each scans every row of a query; scan is called once for each.
func each(rows *sql.Rows, err error, scan func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close() // rows.Err tells what went wrong
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// insert writes rows of so many columns by one statement: head, tuples, tail. A
// batch has at most 256 rows, and SQLite takes 32766 parameters.
func (t *tx) insert(ctx context.Context, head string, columns int, tail string, args []any) error {
	if len(args) == 0 {
		return nil
	}
	var q strings.Builder
	q.WriteString(head)
	for i := range args {
		switch {
		case i == 0:
			q.WriteString("(?")
		case i%columns == 0:
			q.WriteString("),(?")
		default:
			q.WriteString(",?")
		}
		q.WriteString(strconv.Itoa(i + 1))
	}
	q.WriteString(")")
	q.WriteString(tail)
	_, err := t.exec(ctx, q.String(), args...)
	return err
}
