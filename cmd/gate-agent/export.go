package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// personal is said where what is written can be traced to people.
const personal = "This is personal data: whoever has the register can tell whose it is. / 個人データです。取り扱いに注意してください。"

func journalExportCommand() *cobra.Command {
	var (
		format, since, until, out string
		kinds                     []string
		filter                    journal.Filter
	)
	cmd := &cobra.Command{
		Use:   "export --config FILE --format csv|jsonl [--since TIME] [--until TIME] [--kind KIND]... [--entitlement ID] [--out FILE]",
		Short: "Write events as CSV or JSON lines",
		Long: `Export writes events as CSV, for a spreadsheet, or as JSON lines, the bytes that
the hash chain covers (docs/journal.md). It works beside a running agent, and ends
with the last event that there was when it began. What it writes is personal data.
記録をCSVなどで書き出します。`,
		Example: "  gate-agent journal export --config /etc/gate-agent/config.toml --format csv --since today --out /media/usb/today.csv",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&format, "format", "", "csv or jsonl")
	cmd.Flags().StringVar(&since, "since", "", "only events from then on: "+moments)
	cmd.Flags().StringVar(&until, "until", "", "only events before then")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only events of these kinds (docs/journal.md)")
	cmd.Flags().StringVar(&filter.Entitlement, "entitlement", "", "only events of this one")
	cmd.Flags().StringVar(&out, "out", "", "file to write to, mode 0600; it must not exist. Default is standard output")
	write := withJournal(func(cmd *cobra.Command, _ *config, r *journal.Reader) (err error) {
		fmt.Fprintln(cmd.ErrOrStderr(), personal)
		if out == "" {
			return r.Export(cmd.Context(), cmd.OutOrStdout(), filter, journal.Format(format))
		}
		file, err := createDraft(out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Discard()) }()
		if err := r.Export(cmd.Context(), file, filter, journal.Format(format)); err != nil {
			return err
		}
		return file.Keep(nil)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if format != string(journal.CSV) && format != string(journal.JSONLines) {
			return cli.UsageError(fmt.Sprintf("--format %q: want %s or %s", format, journal.CSV, journal.JSONLines))
		}
		now := time.Now()
		if filter.Since, err = moment("since", since, now); err != nil {
			return err
		}
		if filter.Until, err = moment("until", until, now); err != nil {
			return err
		}
		if filter.Kinds, err = journalKinds(kinds); err != nil {
			return err
		}
		return write(cmd, args)
	}
	return cmd
}

const moments = "a time such as 2026-08-01T18:00:00+09:00, a duration such as 1h for so long ago, or today"

// moment reads when something was, as a person says it on the command line; the
// zero time for "".
func moment(flag, text string, now time.Time) (time.Time, error) {
	switch ago, err := time.ParseDuration(text); {
	case text == "":
		return time.Time{}, nil
	case text == "today":
		y, m, d := now.Date()
		return time.Date(y, m, d, 0, 0, 0, 0, now.Location()), nil
	case err == nil && ago >= 0:
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, cli.UsageError(fmt.Sprintf("--%s %q: want %s", flag, text, moments))
	}
	return t, nil
}
