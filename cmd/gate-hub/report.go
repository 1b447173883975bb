package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func reportCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "report", Short: "Report on what terminals have sent"},
		reportEntriesCommand(), reportConflictsCommand(), reportTerminalsCommand(), reportRefusedCommand())
}

// A table is a report for people and for spreadsheets.
type table struct {
	head []string
	rows [][]string
	note string // for people, below the table
}

// A report is an answer that is a table too.
type report interface{ table() table }

// withReport makes a command that prints a report on the events of a scope.
func withReport(cmd *cobra.Command, make func(ctx context.Context, s *site, e *ingest.Store, scope string) (report, error)) *cobra.Command {
	cmd.Args = cli.Args(cobra.NoArgs)
	asJSON := jsonFlag(cmd)
	asCSV := cmd.Flags().Bool("csv", false, "print CSV (RFC 4180)")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		return withEvents(func(ctx context.Context, s *site, e *ingest.Store, scope string) error {
			r, err := make(ctx, s, e, scope)
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), r, *asJSON, *asCSV)
		})(cmd.Context(), s, scope)
	})
	return cmd
}

func printReport(w io.Writer, r report, asJSON, asCSV bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := r.table()
	if asCSV {
		c := csv.NewWriter(w)
		c.UseCRLF = true
		for _, row := range t.rows {
			for i := range row {
				row[i] = journal.Plain(row[i]) // no program is to take a name for a formula
			}
		}
		if err := c.Write(t.head); err != nil {
			return err
		}
		return c.WriteAll(t.rows)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, strings.ToUpper(strings.ReplaceAll(strings.Join(t.head, "\t"), "_", " ")))
	for _, row := range t.rows {
		for i := range row {
			row[i] = shown(row[i])
		}
		fmt.Fprintln(out, strings.Join(row, "\t"))
	}
	if t.note != "" {
		fmt.Fprintln(out, t.note)
	}
	return out.Flush()
}

// shown is text from a terminal, on a screen: nothing in it moves the cursor.
func shown(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7F && c < 0xA0 {
			return '\uFFFD'
		}
		return c
	}, s)
}

// rfc3339 is an instant in a report, "" for none.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// someInstant is for JSON: null for none.
func someInstant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
