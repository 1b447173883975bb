package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func journalCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "journal", Short: "Check, show or count what the gate has recorded"},
		journalVerifyCommand(), journalListCommand(), journalExportCommand(), journalOccupancyCommand(), journalRateCommand(), journalCheckpointCommand())
}

// withJournal gives a command the journal for reading; an agent may be
// writing to it meanwhile.
func withJournal(f func(cmd *cobra.Command, c *config, r *journal.Reader) error) func(*cobra.Command, []string) error {
	return withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		r, err := journal.OpenReader(c.journalPath())
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("no journal yet in %s: gate-agent run makes it (%w)", c.path(c.State), err)
		}
		if err != nil {
			return journalError(err)
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		return journalError(f(cmd, c, r))
	})
}

// journalError gives a damaged or foreign journal its exit code.
func journalError(err error) error {
	if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, journal.ErrNewer) {
		return cli.RefusedError{Err: err}
	}
	return err
}

func journalListCommand() *cobra.Command {
	var (
		asJSON bool
		since  time.Duration
		kinds  []string
		filter journal.Filter
	)
	cmd := &cobra.Command{
		Use:     "list --config FILE [--since DURATION] [--kind KIND]... [--json]",
		Short:   "Show recorded events",
		Example: "  gate-agent journal list --config /etc/gate-agent/config.toml --since 1h",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the recorded JSON, one event on a line")
	cmd.Flags().DurationVar(&since, "since", 0, "only events of this last time; default all")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only events of these kinds (docs/journal.md)")
	list := withJournal(func(cmd *cobra.Command, _ *config, r *journal.Reader) error {
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		if !asJSON {
			fmt.Fprintln(table, "SEQ\tAT\tKIND\tOF\tVERDICT\tREASON\tMETHOD\tPEOPLE\tENTITLEMENT\tMS\tSTAFF\tWHAT")
		}
		for e, err := range r.List(cmd.Context(), filter) {
			if err != nil {
				return errors.Join(err, table.Flush())
			}
			if asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", e.Bytes)
				continue
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.At.Local().Format("01-02 15:04:05"),
				e.Kind, nonzero(e.Reservation), e.Verdict, e.Reason, e.Method, nonzero(e.People), shown(e.Entitlement), nonzero(e.ElapsedMS), shown(e.Staff), shown(what(e.Event)))
		}
		return table.Flush()
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if since > 0 {
			filter.Since = time.Now().Add(-since)
		}
		if filter.Kinds, err = journalKinds(kinds); err != nil {
			return err
		}
		return list(cmd, args)
	}
	return cmd
}

// journalKinds are those that a command line names; none of them is all.
func journalKinds(names []string) (kinds []journal.Kind, err error) {
	for _, k := range names {
		if !slices.Contains(journal.Kinds(), journal.Kind(k)) {
			return nil, cli.UsageError(fmt.Sprintf("--kind %q: want one of %q", k, journal.Kinds()))
		}
		kinds = append(kinds, journal.Kind(k))
	}
	return kinds, nil
}

// what is what else a person wants to know of an event.
func what(e journal.Event) string {
	switch e.Kind {
	case journal.KindStart:
		return e.Version
	case journal.KindList:
		return fmt.Sprintf("epoch %d, seq %d", e.ListEpoch, e.ListSeq)
	case journal.KindPrune:
		return fmt.Sprintf("up to %d, all before %s", e.Through, e.Cutoff.Local().Format("2006-01-02 15:04"))
	case journal.KindShift:
		return string(e.State)
	case journal.KindIncident:
		return strings.TrimSpace(string(e.State) + " " + e.Note)
	}
	return strings.TrimSpace(e.Direction + " " + e.Note)
}

// nonzero is nothing for 0, as an event leaves it out.
func nonzero[T uint64 | uint32 | int64](n T) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
