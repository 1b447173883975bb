package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/command"
)

func commandCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "command", Short: "What the operator has commanded this terminal from afar"},
		commandStatusCommand(), commandReviveCommand())
}

func commandStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status --config FILE [--json]",
		Short:   "Show what commands have made of this terminal",
		Example: "  gate-agent command status --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		s := c.memory.State()
		r := commandReport{Terminal: c.Terminal, Scope: c.Scope, Number: s.Of(c.Scope).Number}
		if s.Halted.Number > 0 {
			r.OutOfOrder = &ordered{s.Halted.Number, s.Halted.Message, written(s.Halted.Since)}
		}
		if w := s.Wiped; w.Number > 0 {
			r.Wiped = &wipedReport{w.Number, written(w.Since), w.Done, c.rescuePath(), append([]string{}, w.Left...)}
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		}
		return printLines(cmd.OutOrStdout(), r.lines(c))
	})
	return cmd
}

// What command status prints. docs/cli.md lists its members.
type (
	commandReport struct {
		Terminal   string       `json:"terminal"`
		Scope      string       `json:"scope"`
		Number     uint64       `json:"number"` // of the last command in this scope, 0 when there was none
		OutOfOrder *ordered     `json:"out_of_order"`
		Wiped      *wipedReport `json:"wiped"`
	}
	ordered struct {
		Number  uint64 `json:"number"`
		Message string `json:"message"`
		Since   string `json:"since"`
	}
	wipedReport struct {
		Number uint64   `json:"number"`
		Since  string   `json:"since"`
		Done   bool     `json:"done"`
		Rescue string   `json:"rescue_file"`
		Left   []string `json:"left"` // what could not be destroyed
	}
)

func (r commandReport) lines(c *config) [][2]string {
	scope := r.Scope
	if c.Scope != c.home {
		scope += fmt.Sprintf(", by a command; the configuration names %s", c.home)
	}
	lines := [][2]string{{"terminal", r.Terminal}, {"scope", scope}, {"last command", fmt.Sprint(r.Number)}}
	if o := r.OutOfOrder; o != nil {
		lines = append(lines, [2]string{"out of order", fmt.Sprintf("by command %d since %s: %s", o.Number, o.Since, o.Message)})
	}
	if w := r.Wiped; w != nil {
		lines = append(lines, [2]string{"wiped", wipedText(*w)})
		for _, l := range w.Left {
			lines = append(lines, [2]string{"NOT destroyed", l})
		}
	}
	return lines
}

func wipedText(w wipedReport) string {
	if !w.Done {
		return fmt.Sprintf("by command %d of %s, NOT YET COMPLETE: start the agent / 消去の途中です", w.Number, w.Since)
	}
	return fmt.Sprintf("by command %d of %s; the journal is saved in %s / 消去済みです", w.Number, w.Since, w.Rescue)
}

func commandReviveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revive --config FILE",
		Short: "Take a terminal that was wiped into use again",
		Long: `Revive takes a terminal that was wiped into use again, once it was set up anew: new
keys, a new delivery key, a new registration at the hub. Commands from before the wipe
stay carried out: none of them comes back. The rescue file is left where it is: bring
it to the operator, then remove it.
消去した端末を再び使えるようにします。`,
		Example: "  gate-agent command revive --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		switch w := c.memory.State().Wiped; {
		case w.Number == 0:
			return errors.New("this terminal is not wiped")
		case !w.Done:
			return errors.New("the wipe is not complete: start the agent, which completes it")
		}
		if err := c.memory.Update(func(s *command.State) { s.Wiped = command.Wiping{} }); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "not wiped any more / 使用できる状態に戻しました")
		return err
	})
	return cmd
}
