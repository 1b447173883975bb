package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
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

// openGate opens the gate. Staff keys of a simulated one are read from keys.
func (c *config) openGate(log *slog.Logger, keys io.Reader) (d door, closing func() error, err error) {
	if c.Gate.Driver == driverGPIO {
		g, err := gate.NewGPIO(c.Gate.Config, func(err error) { log.Error("gate hardware", "error", err) })
		if err != nil {
			return nil, nil, configError{err}
		}
		return g, g.Close, nil
	}
	g := gate.NewSimulator(func(what string) { log.Info(what) })
	if c.Gate.Driver == driverCounting {
		g.WithSensor()
	}
	// A read of standard input cannot be cancelled, and holds nothing.
	go pressKeys(keys, g)
	return g, func() error { return nil }, nil
}

// pressKeys does to a simulated gate what is written to it, a letter on a line.
// docs/configuration.md has them.
func pressKeys(r io.Reader, g *gate.Simulator) {
	for s := bufio.NewScanner(r); s.Scan(); {
		switch s.Text() {
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
		Long: `Rest brings the relay of the gate to rest and ends. It is for whoever supervises
the agent, to be run when the agent has ended in whatever way: ExecStopPost= of a
systemd unit. While the agent runs it shuts an open gate.`,
		Example: "  gate-agent gate rest --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		if c.Gate.Driver != driverGPIO {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "gate.driver is %q: there is no relay\n", c.Gate.Driver)
			return err
		}
		if err := gate.Rest(c.Gate.Config); err != nil {
			return configError{err}
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the relay is at rest")
		return err
	})
	return cmd
}
