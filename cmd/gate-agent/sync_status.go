package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// A syncState is how lists come to a terminal, for a program.
type syncState struct {
	Source string `json:"source"` // "" is none
	EveryS int64  `json:"every_s"`

	List        *lists.InForce `json:"list"` // null: none
	ListProblem string         `json:"list_problem,omitempty"`

	Rounds        *lists.Status `json:"rounds"` // null: none was made
	RoundsProblem string        `json:"rounds_problem,omitempty"`
}

func syncStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --config FILE [--json]",
		Short: "Tell when the source of lists was last reached, and what keeps lists from coming",
		Long: `Status tells what came of the rounds so far, those of a running agent and of sync now,
and which list is in force. It asks nobody. 名簿の更新状況を表示します。`,
		Example: "  gate-agent sync status --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		s := syncState{Source: c.sourceOf(), EveryS: int64(c.List.Every.Seconds())}
		s.List, err = c.listInForce()
		if _, refused := errors.AsType[cli.RefusedError](err); refused || errors.Is(err, errNoScopeKey) {
			s.ListProblem = err.Error()
		} else if err != nil {
			return err
		}
		switch rounds, err := lists.ReadStatus(c.path(c.State)); {
		case errors.Is(err, lists.ErrNoStatus):
			s.RoundsProblem = err.Error()
		case err != nil:
			return err
		default:
			s.Rounds = &rounds
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
		}
		return printLines(cmd.OutOrStdout(), s.lines(time.Now()))
	})
	return cmd
}

// listInForce opens the list store alone.
func (c *config) listInForce() (l *lists.InForce, err error) {
	store, err := c.openStore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return inForce(store)
}

// inForce is the list in force, nil when there is none.
func inForce(store *listdb.Store) (*lists.InForce, error) {
	m, err := manifestOf(store)
	if errors.Is(err, listdb.ErrNoList) {
		return nil, nil
	}
	if err != nil {
		return nil, cli.RefusedError{Err: err}
	}
	return lists.NewInForce(m), nil
}

func listLines(l *lists.InForce) [][2]string {
	if l == nil {
		return [][2]string{{"list", noList}}
	}
	text := fmt.Sprintf("epoch %d, seq %d, %d rows", l.Epoch, l.Seq, l.Rows)
	if l.SetSeq > 0 {
		text += fmt.Sprintf(", as of seq %d", l.SetSeq)
	}
	return [][2]string{{"list", text}, {"not after", localTime(l.NotAfter)}}
}

func (s syncState) lines(now time.Time) [][2]string {
	source := s.Source
	if source == "" {
		source = "none: lists come by gate-agent list import"
	}
	lines := append([][2]string{{"source", source}}, listLines(s.List)...)
	if s.ListProblem != "" {
		lines[1][1] = s.ListProblem
	}
	r := s.Rounds
	if r == nil {
		return append(lines, [2]string{"rounds", s.RoundsProblem})
	}
	ago := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return fmt.Sprintf("%s, %v ago", localTime(t), now.Sub(t).Truncate(time.Second))
	}
	lines = append(lines, [2]string{"last contact", ago(r.LastContact)}, [2]string{"last round", ago(r.LastRound)})
	if !r.Next.IsZero() {
		lines = append(lines, [2]string{"next round", localTime(r.Next) + ", by the running agent"})
	}
	if f := r.Failure; f != nil {
		name, when := "FAILS", fmt.Sprintf("since %s, %d times", localTime(f.Since), f.Times)
		if !f.Until.IsZero() {
			name, when = "failed", fmt.Sprintf("from %s until %s, %d times", localTime(f.Since), localTime(f.Until), f.Times)
		}
		if f.Refused {
			when += ", list refused"
		}
		lines = append(lines, [2]string{name, when + ": " + f.Error})
	}
	if a := r.Alarm; a != nil {
		lines = append(lines, [2]string{"ALARM", fmt.Sprintf("%s, epoch %d, seq %d: %s", localTime(a.At), a.Epoch, a.Seq, a.Error)})
	}
	if !r.RoleEnds.IsZero() {
		lines = append(lines, [2]string{"list key ends", localTime(r.RoleEnds)})
	}
	n := r.Counts
	return append(lines, [2]string{"so far", fmt.Sprintf("%d rounds, %d of them failed; %d lists by %d snapshots, %d deltas and %d files; %s; %d alarms",
		n.Rounds, n.Failures, n.Lists, n.Snapshots, n.Deltas, n.Files, size(n.Received), n.Alarms)})
}
