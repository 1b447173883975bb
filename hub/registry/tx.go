package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A tx is the one transaction that writes. What it collects in batches is in
// the database when flush returns, and with the commit at the latest.
type tx struct {
	sql     *sql.Tx
	dialect dialect
	numbers map[string]int64 // read and to be written back
	history batch
	touched batch
	written int // rows, in batches
	learnAt int // of written
}

// many is how many rows make a plan for none of them wrong.
const many = 2048

// write runs f in a transaction that no other writer runs beside; f's error
// undoes it.
func (r *Registry) write(ctx context.Context, f func(*tx) error) (err error) {
	begun, err := r.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("waiting to write: %w", err)
	}
	defer func() { // also when f panics
		if undone := begun.Rollback(); !errors.Is(undone, sql.ErrTxDone) {
			err = errors.Join(err, undone)
		}
	}()
	t := &tx{
		sql: begun, dialect: r.dialect, numbers: map[string]int64{}, learnAt: many,
		history: newBatch("INSERT INTO history (seq, at, actor, verb, reason, scope, holder, other, credential, entitlement, terminal) VALUES ", 11, ""),
		touched: newBatch("INSERT INTO touched (scope, head) VALUES ", 2, " ON CONFLICT DO NOTHING"),
	}
	if err := t.run(ctx, f); err != nil {
		return err
	}
	if err := begun.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

func (t *tx) run(ctx context.Context, f func(*tx) error) error {
	if t.dialect.begin != "" {
		if _, err := t.sql.ExecContext(ctx, t.dialect.begin); err != nil {
			return fmt.Errorf("waiting to write: %w", err)
		}
	}
	if err := f(t); err != nil {
		return err
	}
	if err := t.flush(ctx); err != nil {
		return err
	}
	for name, last := range t.numbers {
		if _, err := t.exec(ctx, `INSERT INTO numbers VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET last = excluded.last`, name, last); err != nil {
			return fmt.Errorf("numbering: %w", err)
		}
	}
	return nil
}

// flush writes what was collected.
func (t *tx) flush(ctx context.Context) error {
	if err := t.history.flush(ctx, t); err != nil {
		return fmt.Errorf("writing history: %w", err)
	}
	if err := t.touched.flush(ctx, t); err != nil {
		return fmt.Errorf("marking rows: %w", err)
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

// query and queryRow of a Registry read what is committed.
func (r *Registry) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return r.r.QueryContext(ctx, r.dialect.sql(query), args...)
}

func (r *Registry) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return r.r.QueryRowContext(ctx, r.dialect.sql(query), args...)
}

// querier is what a Registry and its tx share.
type querier interface {
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	queryRow(ctx context.Context, query string, args ...any) *sql.Row
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

// next gives a number that was never given before, also not to something that
// is deleted: the history names things by it.
func (t *tx) next(ctx context.Context, name string) (int64, error) {
	last, ok := t.numbers[name]
	if !ok {
		err := t.queryRow(ctx, `SELECT last FROM numbers WHERE name = ?1`, name).Scan(&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, fmt.Errorf("numbering: %w", err)
		}
	}
	t.numbers[name] = last + 1
	return last + 1, nil
}

// batchRows is how many rows go into one statement: the widest has 14 columns,
// and SQLite takes 32766 parameters, PostgreSQL 65535.
const batchRows = 256

// A batch collects rows for one INSERT.
type batch struct {
	head, tail string
	columns    int
	args       []any
}

func newBatch(head string, columns int, tail string) batch {
	return batch{head: head, columns: columns, tail: tail}
}

func (b *batch) add(ctx context.Context, t *tx, args ...any) error {
	if len(args) != b.columns {
		return fmt.Errorf("%d values for %d columns", len(args), b.columns)
	}
	b.args = append(b.args, args...)
	if len(b.args) < batchRows*b.columns {
		return nil
	}
	return b.flush(ctx, t)
}

func (b *batch) flush(ctx context.Context, t *tx) error {
	if len(b.args) == 0 {
		return nil
	}
	rows := len(b.args) / b.columns
	_, err := t.exec(ctx, b.head+tuples(rows, b.columns)+b.tail, b.args...)
	clear(b.args)
	b.args = b.args[:0]
	if err != nil {
		return err
	}
	if t.written += rows; t.written < t.learnAt {
		return nil
	}
	t.learnAt = 8 * t.written
	return t.learn(ctx)
}

// learn comes before many statements on tables that may have grown.
func (t *tx) learn(ctx context.Context) error {
	if t.dialect.learn == "" {
		return nil
	}
	_, err := t.exec(ctx, t.dialect.learn)
	return err
}

// tuples is "(?1,?2),(?3,?4)" for two rows of two.
func tuples(rows, columns int) string {
	var s strings.Builder
	n := 0
	for i := range rows {
		if i > 0 {
			s.WriteByte(',')
		}
		s.WriteByte('(')
		s.WriteString(parameters(n, columns))
		s.WriteByte(')')
		n += columns
	}
	return s.String()
}

// parameters is "?3,?4" for two after 2.
func parameters(after, n int) string {
	var s strings.Builder
	for i := range n {
		if i > 0 {
			s.WriteByte(',')
		}
		s.WriteByte('?')
		s.WriteString(strconv.Itoa(after + i + 1))
	}
	return s.String()
}

// anys is a slice as arguments.
func anys[T any](first []any, s []T) []any {
	args := make([]any, 0, len(first)+len(s))
	args = append(args, first...)
	for _, v := range s {
		args = append(args, v)
	}
	return args
}

// null is v, or NULL for the zero value.
func null[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
