package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// A listDiff is what another list has other than the one in force.
type listDiff struct {
	Same     bool           `json:"same"`
	InForce  *lists.InForce `json:"in_force"`
	Other    *lists.InForce `json:"other"`
	Manifest []manifestDiff `json:"manifest"`
	Rows     *rowsDiff      `json:"rows"` // null: they cannot be compared
	RowsNote string         `json:"rows_note,omitempty"`
}

// A rowsDiff counts; which rows, and what stands in them, is sealed.
type rowsDiff struct {
	Added   uint64  `json:"added"`
	Changed *uint64 `json:"changed"` // null: all of them are sealed anew
	Gone    uint64  `json:"gone"`
}

func listDiffCommand() *cobra.Command {
	var fromSource, asJSON bool
	cmd := &cobra.Command{
		Use:   "diff --config FILE LIST|--source [--json]",
		Short: "Tell what another list has other than the one in force",
		Long: `Diff compares the list in force with a list file, or with --source with what the source
has now, and takes nothing over. Rows are sealed: of them it counts how many came,
changed and went. 名簿の差分を表示します。`,
		Example: `  gate-agent list diff --config /etc/gate-agent/config.toml /media/usb/list.cose
  gate-agent list diff --config /etc/gate-agent/config.toml --source`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().BoolVar(&fromSource, "source", false, "compare with what the source has now")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	compare := withConfig(func(cmd *cobra.Command, c *config, a []string) (err error) {
		store, err := c.openStore()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		now, err := manifestOf(store)
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("the list in %s: %w", c.path(c.State), err)}
		}
		d := listDiff{InForce: lists.NewInForce(now)}
		if fromSource {
			err = c.diffSource(cmd, store, now, &d)
		} else {
			err = c.diffFile(cmd.Context(), store, now, &d, a[0])
		}
		if err != nil {
			return err
		}
		d.Same = len(d.Manifest) == 0 && d.Rows != nil && d.Rows.none()
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
		}
		return printLines(cmd.OutOrStdout(), d.lines())
	})
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if fromSource == (len(a) == 1) {
			return cli.UsageError("name a list file or give --source: one of them")
		}
		return compare(cmd, a)
	}
	return cmd
}

func (c *config) diffFile(ctx context.Context, store *listdb.Store, now whitelist.Manifest, d *listDiff, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := c.diffWhole(ctx, store, now, d, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (c *config) diffWhole(ctx context.Context, store *listdb.Store, now whitelist.Manifest, d *listDiff, r io.Reader) error {
	trust, err := c.trust()
	if err != nil {
		return err
	}
	file, err := whitelist.NewReader(r, trust)
	if err != nil {
		return cli.RefusedError{Err: err}
	}
	return d.compare(ctx, store, now, file.Manifest(), rowsOf(file.Next))
}

// diffFolder is where the files lie that a comparison needs: in the state folder, for
// a folder of the system may be in memory, which is no place for a whole list.
const diffFolder = "diff"

// diffSource compares with what the source has.
func (c *config) diffSource(cmd *cobra.Command, store *listdb.Store, now whitelist.Manifest, d *listDiff) (err error) {
	source, err := c.openSource()
	if err != nil {
		return err
	}
	if source == nil {
		return errNoSource()
	}
	defer source.Close()
	name := filepath.Join(c.path(c.State), diffFolder)
	if err := errors.Join(os.RemoveAll(name), os.Mkdir(name, 0o700)); err != nil { // a comparison that was killed has left it
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(name)) }()
	dir, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	cfg := lists.Config{Source: source, Store: store, Now: time.Now, Tell: tellProgress(cmd.ErrOrStderr())}
	ctx := cmd.Context()
	return importError(lists.Look(ctx, cfg, dir, func(v lists.Preview) error {
		if v.File != nil {
			return c.diffWhole(ctx, store, now, d, v.File)
		}
		rows := store.Rows(ctx)
		if v.Snapshot != nil {
			rows = rowsOf(v.Snapshot.Next)
		}
		for _, delta := range v.Deltas {
			rows = listdb.Above(rows, rowsOf(delta.Next))
		}
		return d.compare(ctx, store, now, v.Manifest, rows)
	}))
}

// compare compares the list in force, whose manifest is now, with another.
func (d *listDiff) compare(ctx context.Context, store *listdb.Store, now, other whitelist.Manifest, rows iter.Seq2[whitelist.SealedRow, error]) error {
	d.Other, d.Manifest = lists.NewInForce(other), diffManifests(now, other)
	var set whitelist.Set
	counted := checked(rows, other, &set)
	if now.ScopeKeyCheck != other.ScopeKeyCheck {
		d.RowsNote = "rows are under another scope key: none can be compared"
		for _, err := range counted {
			if err != nil {
				return cli.RefusedError{Err: err}
			}
		}
		return nil
	}
	count, err := countRows(store.Rows(ctx), counted)
	if err != nil {
		return cli.RefusedError{Err: err}
	}
	d.Rows = &count
	if now.Epoch != other.Epoch {
		count.Changed = nil
		d.RowsNote = "in a new epoch all rows are sealed anew: which of them changed cannot be told"
	}
	return nil
}

// checked passes on the rows of a list that has a set, and ends with an error when
// they are not those that are signed. Readers of files check all others themselves.
func checked(rows iter.Seq2[whitelist.SealedRow, error], m whitelist.Manifest, set *whitelist.Set) iter.Seq2[whitelist.SealedRow, error] {
	if !m.Published() {
		return rows
	}
	return func(yield func(whitelist.SealedRow, error) bool) {
		for row, err := range rows {
			if err == nil {
				set.Add(row)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		if set.Digest() != m.Set.Digest {
			yield(whitelist.SealedRow{}, whitelist.ErrSet)
		}
	}
}

func (d listDiff) lines() [][2]string {
	in := func(l *lists.InForce) string {
		return fmt.Sprintf("epoch %d, seq %d, %d rows", l.Epoch, l.Seq, l.Rows)
	}
	lines := [][2]string{{"in force", in(d.InForce)}, {"other", in(d.Other)}}
	if d.Same {
		lines = append(lines, [2]string{"difference", "none / 違いはありません"})
	}
	for _, m := range d.Manifest {
		lines = append(lines, [2]string{m.Field, m.text()})
	}
	if r := d.Rows; r != nil && !d.Same {
		text := fmt.Sprintf("%d added, %d gone", r.Added, r.Gone)
		if r.Changed != nil {
			text = fmt.Sprintf("%d added, %d changed, %d gone", r.Added, *r.Changed, r.Gone)
		}
		lines = append(lines, [2]string{"rows", text})
	}
	if d.RowsNote != "" {
		lines = append(lines, [2]string{"rows", d.RowsNote})
	}
	return lines
}
