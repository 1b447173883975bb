package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What staff asks of the agent that is running.

// A verb is a command that asks the agent as a member of the staff.
type verb struct {
	*cobra.Command
	staff, reason, file string
	needsReason, asJSON bool

	api.Where // of a verb that atLane made one of a lane
	hasLane   bool
}

// laneUsage tells of the flag that names a lane.
const laneUsage = "label of the lane, such as gate-1/exit; needed where the agent has several"

// atLane makes it a verb of one lane.
func (v *verb) atLane() *verb {
	v.hasLane = true
	v.Flags().StringVar(&v.Lane, "lane", "", laneUsage)
	return v
}

// checkLane finds out whether the agent has the lane.
func (v *verb) checkLane(s api.Status) error {
	if !v.hasLane || v.Lane == "" && len(s.Lanes) == 1 {
		return nil
	}
	var labels []string
	for _, l := range s.Lanes {
		labels = append(labels, l.Lane)
	}
	if slices.Contains(labels, v.Lane) {
		return nil
	}
	return wrongLane(v.Lane, labels)
}

func newVerb(cmd *cobra.Command, reason bool) *verb {
	v := &verb{Command: cmd, needsReason: reason}
	cmd.Flags().StringVar(&v.staff, "staff", "", "your name, as the roster has it")
	if reason {
		cmd.Flags().StringVar(&v.reason, "reason", "", "why, for the journal")
	}
	cmd.Flags().StringVar(&v.file, passcodeFlag, "", passcodeUsage)
	cmd.Flags().BoolVar(&v.asJSON, "json", false, "print one JSON object")
	return v
}

// does gives the verb its work: check looks at the command line, ask asks the
// agent, and returns its answer and the lines that people read of it.
func (v *verb) does(check func(args []string) error, ask func(ctx context.Context, agent *api.Client, why api.Why) (answer any, lines [][2]string, err error)) *cobra.Command {
	v.RunE = func(cmd *cobra.Command, args []string) error {
		if v.staff == "" {
			return cli.UsageError("--staff is missing: give your name, as the roster has it")
		}
		if v.needsReason && strings.TrimSpace(v.reason) == "" {
			return cli.UsageError("--reason is missing: say why, for the journal")
		}
		if err := check(args); err != nil {
			return err
		}
		return withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
			if c.Staff.File == "" {
				return cli.ConfigError{Err: errors.New("no staff is configured: name the roster in staff.file (docs/staff.md), and restart the agent")}
			}
			agent := c.client()
			status, err := agent.Status(cmd.Context())
			if err = errors.Join(err, v.checkLane(status)); err != nil { // before anybody types
				return err
			}
			passcode, err := readPasscode(cmd.Context(), v.file, cmd.InOrStdin(), fmt.Sprintf("%s の係員パスコード (表示されません) / Passcode of %[1]s (not shown): ", shown(v.staff)))
			if err != nil {
				return err
			}
			answer, lines, err := ask(cmd.Context(), agent, api.Why{Reason: v.reason, Who: api.Who{Staff: v.staff, Passcode: api.Passcode(passcode)}})
			if answer != nil {
				err = errors.Join(v.print(cmd.OutOrStdout(), answer, lines), err)
			}
			return problemError(err)
		})(cmd, args)
	}
	return v.Command
}

// problemError gives what the agent refuses its exit code.
func problemError(err error) error {
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Refused() {
		return cli.RefusedError{Err: err}
	}
	return err
}

func (v *verb) print(w io.Writer, answer any, lines [][2]string) error {
	if v.asJSON {
		return json.NewEncoder(w).Encode(answer)
	}
	return printLines(w, lines)
}

func printLines(w io.Writer, lines [][2]string) error {
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-12s %s\n", l[0], shown(l[1])); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) client() *api.Client { return api.NewClient(c.socketPath()) }

func annulCommand() *cobra.Command {
	var reservation uint64
	var passed uint32
	v := newVerb(&cobra.Command{
		Use:   "annul RESERVATION [--passed N] --config FILE --staff NAME --reason TEXT [--passcode-file FILE] [--json]",
		Short: "Take an entry back for which nobody passed, or settle one in doubt",
		Long: `Annul takes an entry back for which nobody passed: it counts no more. RESERVATION
is its number, as the journal and "override" and "admit" tell. With --passed it
settles an entry in doubt: so many people did pass. It takes a steward.
入場が行われなかったとき、その記録を取り消します。人数を確認できたときは --passed で確定します。`,
		Example: `  gate-agent annul 1204 --config /etc/gate-agent/config.toml --staff kei --reason "went back to the cloakroom"`,
		Args:    cli.Args(cobra.ExactArgs(1)),
	}, true)
	v.Flags().Uint32Var(&passed, "passed", 0, "how many people did pass of an entry in doubt")
	return v.does(func(args []string) (err error) {
		if reservation, err = strconv.ParseUint(args[0], 10, 63); err != nil || reservation == 0 {
			return cli.UsageError(fmt.Sprintf("reservation %q: want its number", args[0]))
		}
		return nil
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		done, err := agent.Annul(ctx, api.Annulment{Reservation: reservation, Passed: passed, Why: why})
		if err != nil {
			return nil, nil, err
		}
		if done.Passed > 0 {
			return done, [][2]string{{"settled", fmt.Sprintf("%d, %d passed / %[2]d人で確定しました", done.Reservation, done.Passed)}}, nil
		}
		return done, [][2]string{{"annulled", fmt.Sprintf("%d / 取り消しました", done.Reservation)}}, nil
	})
}

func overrideCommand() *cobra.Command {
	var people uint32
	v := newVerb(&cobra.Command{
		Use:   "override --people N [--lane LABEL] --config FILE --staff NAME --reason TEXT [--passcode-file FILE] [--json]",
		Short: "Let people in without a card and without a ticket",
		Long: `Override opens the gate for people without a card and without a ticket. It takes a
supervisor. カードもチケットもない人を責任者の判断で通します。`,
		Example: `  gate-agent override --people 2 --config /etc/gate-agent/config.toml --staff mori --reason "fire brigade"`,
		Args:    cli.Args(cobra.NoArgs),
	}, true).atLane()
	v.Flags().Uint32Var(&people, "people", 0, fmt.Sprintf("how many, 1 to %d", terminal.MaxAdmitted))
	return v.does(func([]string) error {
		if people < 1 || people > terminal.MaxAdmitted {
			return cli.UsageError(fmt.Sprintf("--people %d: want 1 to %d", people, terminal.MaxAdmitted))
		}
		return nil
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		return decided(agent.Override(ctx, api.Override{People: people, Where: v.Where, Why: why}))
	})
}

func admitCommand() *cobra.Command {
	var order string
	var looked bool
	v := newVerb(&cobra.Command{
		Use:   "admit --order NUMBER [--looked] [--lane LABEL] --config FILE --staff NAME --reason TEXT [--passcode-file FILE] [--json]",
		Short: "Let somebody in by the number of their order",
		Long: `Admit lets somebody in whose card is forgotten, lost or broken, by the number of
their order. The list decides as for a card, and the entry counts as one. Find out
first who they are. Where the ticket wants you to look, the answer says at what and
the gate stays shut: say it again with --looked. It takes a supervisor.
カードを忘れた人などを、注文番号で通します。本人確認をしてから使ってください。`,
		Example: `  gate-agent admit --order ABC12 --config /etc/gate-agent/config.toml --staff mori --reason "card broken, driving licence seen"`,
		Args:    cli.Args(cobra.NoArgs),
	}, true).atLane()
	v.Flags().StringVar(&order, "order", "", "number of the order")
	v.Flags().BoolVar(&looked, "looked", false, "you have looked at what the answer named")
	return v.does(func([]string) error {
		if _, err := whitelist.OrderHead(order); err != nil {
			return cli.UsageError("--order: " + err.Error())
		}
		return nil
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		return decided(agent.Admit(ctx, api.Admission{Order: order, Looked: looked, Where: v.Where, Why: why}))
	})
}

// decided is what people read of a decision. One that denies is refused, and
// told all the same.
func decided(d api.Decision, err error) (any, [][2]string, error) {
	if err != nil {
		return nil, nil, err
	}
	said := words.Reason(d.Reason)
	lines := [][2]string{{"verdict", d.Verdict.String()}, {"reason", fmt.Sprintf("%s: %s %s", d.Reason, said.EN, said.JA)}}
	if d.Verdict == terminal.Admit {
		lines = append(lines, [2]string{"people", fmt.Sprint(d.People)}, [2]string{"reservation", fmt.Sprint(d.Reservation)})
	}
	for _, o := range d.Others {
		lines = append(lines, [2]string{"other", o.Entitlement + ": " + string(o.Reason)})
	}
	for _, w := range d.Warnings {
		lines = append(lines, [2]string{"warning", string(w)})
	}
	if d.Message != "" {
		lines = append(lines, [2]string{"message", d.Message})
	}
	if d.Verdict != terminal.Admit {
		err = cli.RefusedError{Err: fmt.Errorf("the gate stays shut: %s", d.Reason)}
	}
	return d, lines, err
}

func outOfOrderCommand() *cobra.Command {
	var on bool
	v := newVerb(&cobra.Command{
		Use:   "out-of-order on|off [--lane LABEL] --config FILE --staff NAME --reason TEXT [--passcode-file FILE] [--json]",
		Short: "Take a lane out of order, or back into it",
		Long: `Out-of-order takes a lane out of order, and no other one: it reads no cards, and says so. It takes a
steward. ゲートを止めます。off で再開します。`,
		Example:   `  gate-agent out-of-order on --config /etc/gate-agent/config.toml --staff kei --reason "glass on the floor"`,
		ValidArgs: []string{"on", "off"},
		Args:      cli.Args(cobra.ExactArgs(1)),
	}, true).atLane()
	return v.does(func(args []string) error {
		on = args[0] == "on"
		return oneOf(args[0], "on", "off")
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		now, err := agent.SetMode(ctx, api.Mode{OutOfOrder: on, Where: v.Where, Why: why})
		if err != nil {
			return nil, nil, err
		}
		text := "in service, unless something else keeps it (gate-agent status) / 稼働中"
		if now.OutOfOrder {
			text = "out of order / 停止中"
		}
		return now, [][2]string{{"gate", text}}, nil
	})
}

func clockCommand() *cobra.Command {
	v := newVerb(&cobra.Command{
		Use:   "accept --config FILE --staff NAME --reason TEXT [--passcode-file FILE] [--json]",
		Short: "Say that the terminal's clock is right as it is",
		Long: `Accept says that the clock of this terminal is right, although it was set while
the agent ran or stands behind what is recorded: look at the time that status shows
first. It takes a supervisor. 端末の時計が正しいことを確認して記録します。`,
		Example: `  gate-agent clock accept --config /etc/gate-agent/config.toml --staff mori --reason "compared with the station clock"`,
		Args:    cli.Args(cobra.NoArgs),
	}, true)
	return cli.Group(&cobra.Command{Use: "clock", Short: "Judge the clock of this terminal"}, v.does(func([]string) error { return nil },
		func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
			accepted, err := agent.AcceptClock(ctx, api.Clock{Why: why})
			if err != nil {
				return nil, nil, err
			}
			return accepted, [][2]string{{"clock", accepted.Now.Local().Format("2006-01-02 15:04:05 MST") + " accepted / 確認済み"}}, nil
		}))
}

func shiftCommand() *cobra.Command {
	var begin bool
	v := newVerb(&cobra.Command{
		Use:   "shift begin|end --config FILE --staff NAME [--passcode-file FILE] [--json]",
		Short: "Begin or end your shift at this terminal",
		Long: `Shift says who answers for this terminal. Begin takes over from whoever was on
duty. A restart of the agent ends every shift. 勤務の開始・終了を記録します。`,
		Example:   "  gate-agent shift begin --config /etc/gate-agent/config.toml --staff kei",
		ValidArgs: []string{"begin", "end"},
		Args:      cli.Args(cobra.ExactArgs(1)),
	}, false)
	return v.does(func(args []string) error {
		begin = args[0] == "begin"
		return oneOf(args[0], "begin", "end")
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		now, err := agent.ChangeShift(ctx, api.ShiftChange{Begin: begin, Who: why.Who})
		if err != nil {
			return nil, nil, err
		}
		return now, [][2]string{{"on duty", describePerson(now.OnDuty)}}, nil
	})
}

func oneOf(got string, want ...string) error {
	if !slices.Contains(want, got) {
		return cli.UsageError(fmt.Sprintf("%q: want %s", got, strings.Join(want, " or ")))
	}
	return nil
}

func describePerson(p *api.Person) string {
	if p == nil {
		return "nobody / なし"
	}
	return fmt.Sprintf("%s (%s)", p.Name, p.Role)
}
