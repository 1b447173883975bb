package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// occupancy is what journal occupancy prints. docs/cli.md lists its members.
type occupancy struct {
	Since *time.Time   `json:"since"` // null: everything
	Zones []zoneCounts `json:"zones"`
}

type zoneCounts struct {
	Zone    string `json:"zone"`
	Entered uint64 `json:"entered"`
	Left    uint64 `json:"left"`
	Inside  uint64 `json:"inside"`
	InDoubt uint64 `json:"in_doubt"`
}

func journalOccupancyCommand() *cobra.Command {
	var (
		since  string
		from   time.Time
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "occupancy --config FILE [--since TIME|today] [--json]",
		Short: "Count the people in each zone",
		Long: `Occupancy counts the people who entered each zone and left it, as this terminal
saw them. With --since those who came before are not counted: who left without a
card is then no longer inside. 区域ごとの在場者数を表示します。`,
		Example: "  gate-agent journal occupancy --config /etc/gate-agent/config.toml --since today",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&since, "since", "", "only who passed from then on: "+moments)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	count := withJournal(func(cmd *cobra.Command, _ *config, r *journal.Reader) error {
		zones, err := r.Occupancy(cmd.Context(), from)
		if err != nil {
			return err
		}
		o := occupancy{Zones: []zoneCounts{}}
		if !from.IsZero() {
			o.Since = &from
		}
		for _, z := range zones {
			o.Zones = append(o.Zones, zoneCounts{z.Name, z.Entered, z.Left, z.Inside(), z.Doubtful})
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(o)
		}
		return o.print(cmd.OutOrStdout())
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if from, err = moment("since", since, time.Now()); err != nil {
			return err
		}
		return count(cmd, args)
	}
	return cmd
}

func (o occupancy) print(w io.Writer) error {
	since := "since the journal began / 記録の最初から"
	if o.Since != nil {
		since = "since " + localTime(*o.Since)
	}
	fmt.Fprintf(w, "People in each zone, %s / 区域ごとの人数\n", since)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ZONE\tENTERED\tLEFT\tINSIDE\tIN DOUBT")
	for _, z := range o.Zones {
		name := shown(z.Zone)
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\n", name, z.Entered, z.Left, z.Inside, z.InDoubt)
	}
	return table.Flush()
}

// rate is what journal rate prints. docs/cli.md lists its members.
type rate struct {
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	StepS   int64     `json:"step_s"`
	Entered []uint64  `json:"entered"`
}

func journalRateCommand() *cobra.Command {
	var (
		since, step time.Duration
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "rate --config FILE [--since DURATION] [--step DURATION] [--json]",
		Short: "Count the people who entered, a minute or another step at a time",
		Long: `Rate counts the people who entered in each step of the last time, up to now.
直近の入場者数を一定時間ごとに表示します。`,
		Example: "  gate-agent journal rate --config /etc/gate-agent/config.toml --since 3h --step 10m",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().DurationVar(&since, "since", time.Hour, "how far back")
	cmd.Flags().DurationVar(&step, "step", time.Minute, "how long a step is, whole seconds")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	count := withJournal(func(cmd *cobra.Command, _ *config, r *journal.Reader) (err error) {
		now := time.Now()
		c := rate{Since: now.Add(-since).Truncate(step), Until: now, StepS: int64(step.Seconds())}
		if c.Entered, err = r.Rate(cmd.Context(), c.Since, c.Until, step); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(c)
		}
		return c.print(cmd.OutOrStdout(), step)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if step < time.Second || step%time.Second != 0 || since < step || since/step >= maxSteps {
			return cli.UsageError(fmt.Sprintf("--since %v --step %v: want steps of whole seconds, and 1 to %d of them", since, step, maxSteps))
		}
		return count(cmd, args)
	}
	return cmd
}

const (
	maxSteps = 10_000
	widest   = 50 // columns of the longest bar
)

// print writes a histogram.
func (r rate) print(w io.Writer, step time.Duration) error {
	layout := "15:04"
	if step%time.Minute != 0 {
		layout = "15:04:05"
	}
	if r.Until.Sub(r.Since) > 20*time.Hour {
		layout = "01-02 " + layout
	}
	var sum uint64
	most := slices.Max(r.Entered)
	for i, n := range r.Entered {
		sum += n
		bar := ""
		if n > 0 {
			bar = strings.Repeat("█", int((n*widest+most-1)/most)) + " "
		}
		fmt.Fprintf(w, "%s  %s%d\n", r.Since.Add(time.Duration(i)*step).Local().Format(layout), bar, n)
	}
	_, err := fmt.Fprintf(w, "%d people entered, at most %d in %v / 入場者 %[1]d人\n", sum, most, step)
	return err
}
