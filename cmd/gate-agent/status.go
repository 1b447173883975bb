package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/terminal/api"
)

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --config FILE [--json]",
		Short: "Ask the running agent how it and its lanes are",
		Long: `Status asks the running agent how it and its lanes are: what the lamps show and why,
list, clock, reader, who is on duty. It needs no passcode. ゲートの状態を表示します。`,
		Example: "  gate-agent status --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		s, err := c.client().Status(cmd.Context())
		if w := c.memory.State().Wiped; errors.Is(err, api.ErrNotRunning) && w.Number > 0 {
			err = cli.RefusedError{Err: fmt.Errorf("this terminal is wiped, by command %d: see gate-agent command status / この端末は消去されています", w.Number)}
		}
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
		}
		return errors.Join(printLanes(cmd.OutOrStdout(), s.Lanes), printLines(cmd.OutOrStdout(), describeStatus(s)))
	})
	return cmd
}

// signalWords says what the lamps show.
var signalWords = map[string]words.Text{
	"ready":        {EN: "ready", JA: "利用できます"},
	"caution":      {EN: "ready, with a warning", JA: "注意して利用できます"},
	"out_of_order": {EN: "out of order", JA: "停止中"},
	"emergency":    {EN: "emergency: the gate stands open", JA: "非常開放中"},
}

// printLanes prints a row for each lane, and a line for each that is not ready.
func printLanes(w io.Writer, lanes []api.LaneStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LANE\tMODE\tSHOWS\tREADER")
	var notes [][2]string
	for _, l := range lanes {
		shows := l.Signal
		if w, ok := signalWords[l.Signal]; ok {
			shows = w.EN + " / " + w.JA
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", shown(l.Lane), l.Mode, shows, shown(l.Reader.Detail))
		for _, r := range l.Why {
			said := words.Reason(r)
			notes = append(notes, [2]string{"because", fmt.Sprintf("%s: %s: %s %s", l.Lane, r, said.EN, said.JA)})
		}
		if len(l.Halts) > 0 {
			notes = append(notes, [2]string{"halted by", fmt.Sprintf("%s: %s", l.Lane, strings.Join(l.Halts, ", "))})
		}
	}
	return errors.Join(t.Flush(), printLines(w, notes))
}

func describeStatus(s api.Status) [][2]string {
	lines := [][2]string{{"terminal", s.Terminal}}
	if l := s.List; l == nil {
		lines = append(lines, [2]string{"list", noList})
	} else {
		lines = append(lines,
			[2]string{"list", fmt.Sprintf("epoch %d, seq %d, issued %s, %v ago", l.Epoch, l.Seq, localTime(l.IssuedAt), age(l.AgeS))},
			[2]string{"not after", expiry(*l)}, [2]string{"revocation", revocation(*l)})
	}
	if s.Operator != nil {
		lines = append(lines, describeOperator(*s.Operator)...)
	}
	if h := s.Hub; h != nil {
		lines = append(lines, [2]string{"hub", describeConnection(*h)}, [2]string{"unsent", describeUnsent(*h)})
		if h.Claims != nil {
			lines = append(lines, [2]string{"claims", describeClaims(*h.Claims)})
		}
	}
	clock := localTime(s.Clock.Now)
	if !s.Clock.Trusted {
		clock += ": NOT TRUSTED, it is behind what has surely passed. Set it / 時計が遅れています"
	}
	onDuty := describePerson(s.OnDuty)
	if !s.Staff {
		onDuty = "no staff is configured (docs/staff.md)"
	}
	record := fmt.Sprintf("%d entries open, %d in doubt", s.Journal.Open, s.Journal.InDoubt)
	if s.Journal.Detail != "" {
		record = s.Journal.Detail
	}
	return append(lines,
		[2]string{"clock", clock}, [2]string{"on duty", onDuty},
		[2]string{"journal", record},
		[2]string{"agent", fmt.Sprintf("%s, running for %v", s.Version, age(s.UptimeS))})
}

func describeConnection(h api.HubStatus) string {
	if h.Connected {
		text := fmt.Sprintf("connected to %s since %s / 接続中", h.Server, localTime(*h.Since))
		if h.Problem != "" {
			text += ": " + h.Problem
		}
		return text
	}
	text := "NOT CONNECTED / 未接続"
	if h.Since != nil {
		text += ", since " + localTime(*h.Since)
	}
	if h.Problem != "" {
		text += ": " + h.Problem
	}
	return text + ". Taps go on / 入場は続けられます"
}

func describeUnsent(h api.HubStatus) string {
	text := fmt.Sprintf("%d events / 未送信の記録", h.Unsent)
	if h.Upload != "" {
		text += ". " + h.Upload
	}
	return text
}

func describeOperator(o api.Operator) [][2]string {
	lines := [][2]string{{"scope", o.Scope}}
	if l := o.Lease; l != nil && l.NotAfter == nil {
		lines = append(lines, [2]string{"scope key", fmt.Sprintf("NONE: %s / 鍵がありません", l.Detail)})
	} else if l != nil {
		text := fmt.Sprintf("leased until %s, in %v", localTime(*l.NotAfter), age(l.LeftS))
		if l.EndsSoon {
			text += ": ENDS SOON, the hub has not renewed it / まもなく期限切れ"
		}
		lines = append(lines, [2]string{"scope key", text})
	}
	if h := o.OutOfOrder; h != nil {
		lines = append(lines, [2]string{"by command", fmt.Sprintf("%d: out of order since %s: %s", h.Command, localTime(h.Since), h.Message)})
	}
	return lines
}

func expiry(l api.ListStatus) string {
	if l.LeftS < 0 {
		return fmt.Sprintf("%s: EXPIRED %v ago / 期限切れ", localTime(l.NotAfter), age(-l.LeftS))
	}
	return fmt.Sprintf("%s, in %v", localTime(l.NotAfter), age(l.LeftS))
}

func revocation(l api.ListStatus) string {
	if l.RevocationAsOf == nil {
		return "the list knows none"
	}
	return fmt.Sprintf("as of %s, %v ago", localTime(*l.RevocationAsOf), age(*l.RevocationAgeS))
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

func age(seconds int64) time.Duration { return time.Duration(seconds) * time.Second }
