package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func journalCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "journal", Short: "Check or show what the gate has recorded"}, journalVerifyCommand(), journalListCommand())
}

// withJournal gives a command the journal for reading; an agent may be
// writing to it meanwhile.
func withJournal(f func(cmd *cobra.Command, r *journal.Reader) error) func(*cobra.Command, []string) error {
	return withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		r, err := journal.OpenReader(c.journalPath())
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("no journal yet in %s: gate-agent run makes it (%w)", c.path(c.State), err)
		}
		if err != nil {
			return journalError(err)
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		return f(cmd, r)
	})
}

// journalError gives a damaged or foreign journal its exit code.
func journalError(err error) error {
	if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, journal.ErrNewer) {
		return refusedError{err}
	}
	return err
}

func journalVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --config FILE [--json]",
		Short: "Check every event against the hash chain",
		Long: `Verify walks the whole hash chain and names the first event that does not fit.
A journal that lost its newest events, and was made to look whole, verifies:
compare the printed head with one that was kept elsewhere.`,
		Example: "  gate-agent journal verify --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withJournal(func(cmd *cobra.Command, r *journal.Reader) error {
		report, err := r.Verify(cmd.Context())
		if err != nil {
			return journalError(err)
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
				"incarnation": hex.EncodeToString(report.Incarnation[:]), "events": report.Events,
				"head": hex.EncodeToString(report.Head[:]), "open": report.Open,
			})
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d events, every one in the chain; %d admissions neither committed nor annulled\nhead %x\n",
			report.Events, report.Open, report.Head)
		return nil
	})
	return cmd
}

func journalListCommand() *cobra.Command {
	var (
		asJSON bool
		since  time.Duration
		kinds  []string
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
	cmd.RunE = withJournal(func(cmd *cobra.Command, r *journal.Reader) error {
		var filter journal.Filter
		if since > 0 {
			filter.Since = time.Now().Add(-since)
		}
		known := []journal.Kind{journal.KindDecision, journal.KindReserve, journal.KindPassed, journal.KindCommit, journal.KindAnnul, journal.KindDoubt,
			journal.KindIncident, journal.KindShift, journal.KindStart, journal.KindList, journal.KindTrace}
		for _, k := range kinds {
			if !slices.Contains(known, journal.Kind(k)) {
				return cli.UsageError(fmt.Sprintf("--kind %q: want one of %q", k, known))
			}
			filter.Kinds = append(filter.Kinds, journal.Kind(k))
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		if !asJSON {
			fmt.Fprintln(table, "SEQ\tAT\tKIND\tVERDICT\tREASON\tMETHOD\tENTITLEMENT\tMS")
		}
		for e, err := range r.List(cmd.Context(), filter) {
			if err != nil {
				return errors.Join(journalError(err), table.Flush())
			}
			if asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", e.Bytes)
				continue
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", e.Seq, e.At.Local().Format("01-02 15:04:05"),
				e.Kind, e.Verdict, e.Reason, e.Method, e.Entitlement, e.ElapsedMS)
		}
		return table.Flush()
	})
	return cmd
}
