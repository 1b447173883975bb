package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// An entriesReport is what report entries prints. docs/cli.md lists its members.
type entriesReport struct {
	Scope string       `json:"scope"`
	Since time.Time    `json:"since"`
	Until time.Time    `json:"until"`
	StepS int64        `json:"step_s"`
	Gates []gateMinute `json:"gates"`
}

type gateMinute struct {
	At      time.Time `json:"at"`
	Gate    string    `json:"gate"`
	Entered uint64    `json:"entered"`
	Left    uint64    `json:"left"`
	InDoubt uint64    `json:"in_doubt"`
}

func reportEntriesCommand() *cobra.Command {
	var since, step time.Duration
	cmd := &cobra.Command{
		Use:   "entries [--scope SCOPE] [--since DURATION] [--step DURATION] [--json | --csv]",
		Short: "Count the people who passed each gate, a minute or another step at a time",
		Long: `Entries counts the people who entered and left by each gate, as terminals have
recorded and sent it. Steps in which nobody passed are left out. People are in doubt
while nobody has said whether they passed. ゲートごと、一定時間ごとの入退場者数を表示します。`,
		Example: "  gate-hub report entries --config /var/lib/gate-hub --since 3h --step 10m",
	}
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back")
	cmd.Flags().DurationVar(&step, "step", time.Minute, "how long a step is, whole seconds")
	return withReport(cmd, func(ctx context.Context, _ *site, e *ingest.Store, scope string) (report, error) {
		if step < time.Second || step%time.Second != 0 {
			return nil, cli.UsageError(fmt.Sprintf("--step %v: want whole seconds, 1s or more", step))
		}
		now := time.Now().UTC()
		r := entriesReport{Scope: scope, Since: now.Add(-since).Truncate(step), Until: now, StepS: int64(step / time.Second), Gates: []gateMinute{}}
		all, err := e.Entries(ctx, scope, r.Since, r.Until, step)
		for _, m := range all {
			r.Gates = append(r.Gates, gateMinute{m.Start, m.Gate, m.Entered, m.Left, m.InDoubt})
		}
		return r, err
	})
}

func (r entriesReport) table() table {
	t := table{head: []string{"at", "gate", "entered", "left", "in_doubt"}}
	var sum gateMinute
	for _, g := range r.Gates {
		t.rows = append(t.rows, []string{rfc3339(g.At), g.Gate, fmt.Sprint(g.Entered), fmt.Sprint(g.Left), fmt.Sprint(g.InDoubt)})
		sum.Entered, sum.Left, sum.InDoubt = sum.Entered+g.Entered, sum.Left+g.Left, sum.InDoubt+g.InDoubt
	}
	t.note = fmt.Sprintf("%d entered, %d left, %d in doubt / 入場 %[1]d、退場 %[2]d、未確定 %[3]d", sum.Entered, sum.Left, sum.InDoubt)
	return t
}
