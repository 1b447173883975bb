package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

// A laneConfig is one reader and one gate of the agent.
type laneConfig struct {
	Gate   gateConfig   `toml:"gate"`
	Reader readerConfig `toml:"reader"`

	key string // what its keys begin with: "", or "lanes[1]."
}

type gateConfig struct {
	Name      string             `toml:"name"`
	Driver    string             `toml:"driver"`
	Mode      terminal.Mode      `toml:"mode"`
	Direction terminal.Direction `toml:"direction"`
	PassTime  duration           `toml:"pass_time"`

	gate.Config // with driver "gpio"
}

type readerConfig struct {
	Slots []string `toml:"slots"`
}

// preset fills in what a gate does not say. A table of an array cannot be filled in
// before it is read.
func (g *gateConfig) preset() {
	if g.Driver == "" {
		g.Driver = driverSimulator
	}
	if g.Mode == "" {
		g.Mode = terminal.Venue
	}
	if g.PassTime.Duration == 0 {
		g.PassTime.Duration = terminal.DefaultPassTime
	}
}

// lanes are all of them: that of [gate] and [reader], and those of [[lanes]],
// which are counted from 1.
func (c *config) lanes() []laneConfig {
	all := []laneConfig{{Gate: c.Gate, Reader: c.Reader}}
	for i, l := range c.Lanes {
		l.key = fmt.Sprintf("lanes[%d].", i+1)
		all = append(all, l)
	}
	return all
}

func (l laneConfig) label() string { return api.Label(l.Gate.Name, l.Gate.Direction) }

// laneOf is the lane of that label; "" is the only one.
func (c *config) laneOf(label string) (laneConfig, error) {
	all := c.lanes()
	labels := make([]string, len(all))
	for i, l := range all {
		if labels[i] = l.label(); labels[i] == label || label == "" && len(all) == 1 {
			return l, nil
		}
	}
	return laneConfig{}, wrongLane(label, labels)
}

func wrongLane(label string, labels []string) error {
	if label == "" {
		return cli.UsageError(fmt.Sprintf("--lane is missing: name one of %q", labels))
	}
	return cli.UsageError(fmt.Sprintf("--lane %q: want one of %q", label, labels))
}

// checkLanes checks each lane, and that they do not get into each other's way.
func (c *config) checkLanes() error {
	all := c.lanes()
	for _, l := range all {
		if err := l.check(); err != nil {
			return l.under(err)
		}
	}
	if len(all) == 1 {
		return nil
	}
	pins := make(map[string]string) // by which key
	for i, l := range all {
		if len(l.Reader.Slots) == 0 {
			return fmt.Errorf("%sreader.slots is missing: with several lanes each names its own", l.key)
		}
		for _, other := range all[:i] {
			if err := l.apart(other); err != nil {
				return err
			}
		}
		for key, pin := range l.Gate.Pins() {
			if before, twice := pins[pin]; twice {
				return fmt.Errorf("%s and %s%s: pin %q is used twice", before, l.key, key, pin)
			}
			pins[pin] = l.key + key
		}
	}
	return nil
}

// under puts what the lane's keys begin with before each line of an error.
func (l laneConfig) under(err error) error {
	return errors.New(l.key + strings.ReplaceAll(err.Error(), "\n", "\n"+l.key))
}

// check checks the lane by itself.
func (l laneConfig) check() error {
	g := l.Gate
	if g.Name == "" {
		return errors.New("gate.name is missing")
	}
	switch drivers := []string{driverSimulator, driverCounting, driverGPIO}; {
	case !slices.Contains(drivers, g.Driver):
		return fmt.Errorf("gate.driver is %q, want one of %q", g.Driver, drivers)
	case g.Driver == driverGPIO:
		if err := g.Config.Check(); err != nil {
			return err
		}
		if g.Relay.Motion == gate.Hold && g.Sensor == (gate.SensorConfig{}) {
			return errors.New(`gate.relay.motion: "hold" needs gate.sensor: without one nobody knows when to shut, so take "pulse"`)
		}
	case !g.Config.IsZero():
		return fmt.Errorf("gate has pins, and gate.driver is %q: pins go with %q", g.Driver, driverGPIO)
	}
	if modes := []terminal.Mode{terminal.Venue, terminal.Counter, terminal.Muster}; !slices.Contains(modes, g.Mode) {
		return fmt.Errorf("gate.mode is %q, want one of %q", g.Mode, modes)
	}
	if g.Mode == terminal.Muster && g.Direction == terminal.Exit {
		return fmt.Errorf("gate.mode is %q: it counts both ways, leave gate.direction out", terminal.Muster)
	}
	if d := g.PassTime.Duration; d < time.Second || d > time.Minute {
		return fmt.Errorf("gate.pass_time is %v, want 1s to 60s", d)
	}
	return nil
}

// apart checks that two lanes can be told from each other.
func (l laneConfig) apart(other laneConfig) error {
	if l.label() == other.label() {
		return fmt.Errorf("%sgate.name and %sgate.name are %q, and both lanes are its %s: one of them needs another gate.direction or gate.name",
			other.key, l.key, l.Gate.Name, l.Gate.Direction)
	}
	// A shelter counts whoever entered anything as inside.
	if (l.Gate.Mode == terminal.Muster) != (other.Gate.Mode == terminal.Muster) {
		return fmt.Errorf("%sgate.mode is %q and %sgate.mode is %q: a shelter has a journal, and so an agent, of its own",
			other.key, other.Gate.Mode, l.key, l.Gate.Mode)
	}
	for _, mine := range l.Reader.Slots {
		for _, theirs := range other.Reader.Slots {
			if meet(mine, theirs) || meet(theirs, mine) {
				return fmt.Errorf("%sreader.slots has %q and %sreader.slots has %q: a slot is of one lane", other.key, theirs, l.key, mine)
			}
		}
	}
	return nil
}

// meet reports whether a pattern takes a name. Of two patterns it does not tell
// every pair that takes the same name.
func meet(pattern, name string) bool {
	taken, _ := path.Match(pattern, name) // openReader tells what is malformed
	return taken || pattern == name
}

func (l laneConfig) openReader() (*pcsc.Lane, error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: l.Reader.Slots})
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%sreader.slots: %w", l.key, err)}
	}
	return lane, nil
}
