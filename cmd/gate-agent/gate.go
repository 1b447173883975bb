package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

// What drives a gate.
const (
	driverSimulator = "simulator"             // no hardware, and everybody passes
	driverCounting  = "simulator-with-sensor" // no hardware, and people pass when they are told to
	driverGPIO      = "gpio"
)

// uptime counts from now on a clock that nobody sets: the monotonic one.
func uptime() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// A door is what a lane needs of a gate.
type door interface {
	terminal.Gate
	terminal.HolderChecker
}

// openGates opens the gates, one for each lane. Staff keys of simulated ones are read
// from keys.
func openGates(lanes []laneConfig, log *slog.Logger, keys io.Reader) (doors []door, closing func() error, err error) {
	var shut []func() error
	closing = func() error {
		var err error
		for _, f := range shut {
			err = errors.Join(err, f())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closing())
		}
	}()
	// Every relay comes to rest, also where the pins of another gate are wrong.
	if err := restGates(lanes); err != nil {
		return nil, nil, cli.ConfigError{Err: err}
	}
	var board *gate.Board
	simulators := make([]*gate.Simulator, len(lanes))
	for i, l := range lanes {
		log := log.With("lane", l.label())
		if l.Gate.Driver == driverGPIO {
			if board == nil {
				if board, err = gate.OpenBoard(); err != nil {
					return nil, nil, cli.ConfigError{Err: err}
				}
			}
			g, err := board.NewGPIO(l.key, l.Gate.Config, func(err error) { log.Error("gate hardware", "error", err) })
			if err != nil {
				return nil, nil, cli.ConfigError{Err: err}
			}
			doors, shut = append(doors, g), append(shut, g.Close)
			continue
		}
		g := gate.NewSimulator(func(what string) { log.Info(what) })
		if l.Gate.Driver == driverCounting {
			g.WithSensor()
		}
		doors, simulators[i] = append(doors, g), g
	}
	// A read of standard input cannot be cancelled, and holds nothing.
	go pressKeys(keys, simulators)
	return doors, closing, nil
}

// restGates brings the relays of all lanes to rest.
func restGates(lanes []laneConfig) error {
	var failed error
	for _, l := range lanes {
		if l.Gate.Driver != driverGPIO {
			continue
		}
		if err := gate.Rest(l.Gate.Config); err != nil {
			failed = errors.Join(failed, l.under(err))
		}
	}
	return failed
}

// pressKeys does to simulated gates what is written to them, a letter on a line:
// "p" to that of the first lane, "2 p" to that of the second. docs/configuration.md
// has them. A lane without a simulator is nil.
func pressKeys(r io.Reader, gates []*gate.Simulator) {
	for s := bufio.NewScanner(r); s.Scan(); {
		key, lane := s.Text(), 1
		if number, rest, ok := strings.Cut(key, " "); ok {
			lane, _ = strconv.Atoi(number) // 0 is nobody's
			key = rest
		}
		if lane < 1 || lane > len(gates) || gates[lane-1] == nil {
			continue
		}
		g := gates[lane-1]
		switch key {
		case "c":
			g.Press(true)
		case "r":
			g.Press(false)
		case "p":
			g.Pass(1)
		case "b":
			g.PassBack()
		case "s":
			g.Stick(true)
		case "S":
			g.Stick(false)
		case "f":
			g.Alarm(true)
		case "F":
			g.Alarm(false)
		}
	}
}

func gateCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "gate", Short: "Work on the hardware of the gate"}, gateRestCommand())
}

func gateRestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rest --config FILE",
		Short: "Bring the relay to rest, and do nothing else",
		Long: `Rest brings the relay of the gate, of every lane, to rest and ends. It is for whoever supervises
the agent, to be run when the agent has ended in whatever way: ExecStopPost= of a
systemd unit. While the agent runs it shuts an open gate.`,
		Example: "  gate-agent gate rest --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		lanes := c.lanes()
		if !slices.ContainsFunc(lanes, func(l laneConfig) bool { return l.Gate.Driver == driverGPIO }) {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "gate.driver is %q: there is no relay\n", c.Gate.Driver)
			return err
		}
		if err := restGates(lanes); err != nil {
			return cli.ConfigError{Err: err}
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the relay is at rest")
		return err
	})
	return cmd
}
