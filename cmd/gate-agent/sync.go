package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/lists"
)

func syncCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "sync", Short: "Bring the list that the source has, or see how that goes"}, syncNowCommand(), syncStatusCommand())
}

// A synced is what came of a round, for a program.
type synced struct {
	Came       string         `json:"came"` // "manifest", "deltas", "snapshot", "file", or "": nothing newer
	List       *lists.InForce `json:"list"`
	Deltas     int            `json:"deltas"`
	Received   int64          `json:"received"`
	DurationMS int64          `json:"duration_ms"`
	Alarm      string         `json:"alarm,omitempty"`
	Detour     string         `json:"detour,omitempty"`
}

func syncNowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "now --config FILE [--json]",
		Short: "Look at the source of lists now, and put in force what is newer",
		Long: `Now makes one round: it looks at the source of lists, and puts in force what is newer.
It works beside a running agent, which uses a new list from its next tap on, and waits
while that makes a round itself. A terminal that has no lease of its scope key in force
fetches that first, unless an agent runs, which does. Commands are carried out by a
running agent alone. 名簿を今すぐ更新します。`,
		Example: "  gate-agent sync now --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		source, err := c.openSource()
		if err != nil {
			return err
		}
		if source == nil {
			return errNoSource()
		}
		defer source.Close()
		if err := c.leaseNow(cmd.Context(), source); err != nil {
			return err
		}
		store, err := c.openStore()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		u, err := c.openUpdater(source, store, time.Now, tellProgress(cmd.ErrOrStderr()), nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, u.Close()) }()
		begun := time.Now()
		r := u.Round(cmd.Context())
		if r.Alarm != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "ALARM: files of the source lead to other rows than are signed: %v\n", r.Alarm)
		}
		if r.Err != nil {
			return importError(r.Err)
		}
		s := synced{
			Came: string(r.Came), Deltas: r.Deltas, Received: r.Received, DurationMS: time.Since(begun).Milliseconds(),
			Alarm: text(r.Alarm), Detour: text(r.Detour),
		}
		if s.List, err = inForce(store); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
		}
		return printLines(cmd.OutOrStdout(), s.lines())
	})
	return cmd
}

func errNoSource() error {
	return cli.ConfigError{Err: errors.New("list.source is missing: lists come by gate-agent list import")}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (s synced) lines() [][2]string {
	said := "nothing newer / 新しい名簿はありません"
	switch lists.Way(s.Came) {
	case lists.ByHead:
		said = "a new manifest; rows are the same"
	case lists.ByDeltas:
		said = fmt.Sprintf("a new list, by %d deltas", s.Deltas)
	case lists.BySnapshot:
		said = fmt.Sprintf("a new list, by a snapshot and %d deltas", s.Deltas)
	case lists.ByFile:
		said = "a new list, as a file"
	}
	lines := [][2]string{{"came", said}, {"received", size(s.Received)}}
	if s.Detour != "" {
		lines = append(lines, [2]string{"not by deltas", s.Detour})
	}
	return append(lines, listLines(s.List)...)
}

// tellProgress tells a waiting person how far a round is, every second.
func tellProgress(w io.Writer) func(lists.Progress) {
	next := time.Now().Add(time.Second)
	return func(p lists.Progress) {
		now := time.Now()
		if p.Doing != lists.Waiting && now.Before(next) {
			return
		}
		next = now.Add(time.Second)
		switch p.Doing {
		case lists.Waiting:
			fmt.Fprintln(w, "waiting for the agent's own round …")
		case lists.Fetching:
			fmt.Fprintf(w, "%.30s… %s of %s\n", p.File, size(p.Done), size(p.Total))
		case lists.Applying:
			fmt.Fprintf(w, "%d rows …\n", p.Rows)
		}
	}
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
