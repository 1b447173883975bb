package gate

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// Config says how a gate is wired: the table [gate] of a configuration with
// driver = "gpio". Polarity and pull have no default: both ways are common, and
// a wrong guess opens a gate when the power comes on.
type Config struct {
	Relay   RelayConfig  `toml:"relay"`
	Lamps   LampsConfig  `toml:"lamps"`
	Buzzer  OutputConfig `toml:"buzzer"`
	Sensor  SensorConfig `toml:"sensor"`
	Alarm   InputConfig  `toml:"alarm"`
	Confirm InputConfig  `toml:"confirm"` // staff: this is the holder
	Refuse  InputConfig  `toml:"refuse"`  // staff: this is not
}

// IsZero reports whether nothing is wired.
func (c Config) IsZero() bool { return reflect.ValueOf(c).IsZero() }

// RelayConfig is the contact that opens the gate.
type RelayConfig struct {
	OutputConfig
	Motion  Motion   `toml:"motion"`
	Pulse   Duration `toml:"pulse"`   // length of a pulse
	Gap     Duration `toml:"gap"`     // at least so long at rest between two pulses
	Longest Duration `toml:"longest"` // open for one person, though nobody shuts it
}

// OutputConfig is one pin that drives something.
type OutputConfig struct {
	Pin    string `toml:"pin"`
	Active Active `toml:"active"`
}

// LampsConfig is either three lamps of different colours, or four alike, in a
// row, as on a contactless payment reader.
type LampsConfig struct {
	Style  Style    `toml:"style"`
	Active Active   `toml:"active"`
	Red    string   `toml:"red"`
	Amber  string   `toml:"amber"`
	Green  string   `toml:"green"`
	Row    []string `toml:"row"` // the four, from the left
}

// InputConfig is one pin that watches a contact.
type InputConfig struct {
	Pin      string   `toml:"pin"`
	Active   Active   `toml:"active"`
	Pull     Pull     `toml:"pull"`
	Debounce Duration `toml:"debounce"`
}

// SensorConfig is one beam or contact (Pin), or two in the direction of the
// lane (First, Second), wired alike.
type SensorConfig struct {
	InputConfig
	First      string   `toml:"first"`
	Second     string   `toml:"second"`
	StuckAfter Duration `toml:"stuck_after"` // active for longer is no person
}

// Defaults of Config.
const (
	DefaultPulse          = 500 * time.Millisecond
	DefaultGap            = 500 * time.Millisecond
	DefaultLongest        = 30 * time.Second
	DefaultKeyDebounce    = 20 * time.Millisecond
	DefaultAlarmDebounce  = 50 * time.Millisecond
	DefaultSensorDebounce = 10 * time.Millisecond
	DefaultStuckAfter     = 10 * time.Second
)

// A Motion is what the relay does to let people through.
type Motion string

// Motions.
const (
	Hold  Motion = "hold"  // closed until the gate is shut
	Pulse Motion = "pulse" // closed for a moment, once for each person
)

// An Active is the level at which something is on.
type Active string

// Levels.
const (
	High Active = "high"
	Low  Active = "low"
)

func (a Active) level() gpio.Level { return a == High }

// A Pull is the resistor that the board puts on an input.
type Pull string

// Pulls.
const (
	PullUp   Pull = "up"
	PullDown Pull = "down"
	PullNone Pull = "none" // the wiring has its own
)

func (p Pull) pull() gpio.Pull {
	return map[Pull]gpio.Pull{PullUp: gpio.PullUp, PullDown: gpio.PullDown}[p]
}

// A Style is how lamps are arranged.
type Style string

// Styles.
const (
	Colours Style = "colours" // red, amber, green
	EMV4    Style = "emv4"    // four in a row
)

// A Duration is written as Go writes it: "3s", "250ms". Zero is the default.
type Duration struct{ time.Duration }

// UnmarshalText refuses durations that are not positive.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	if d.Duration, err = time.ParseDuration(string(b)); err != nil || d.Duration <= 0 {
		return fmt.Errorf(`%s is no duration: write "3s" or "250ms", with the quotes`, b)
	}
	return nil
}

func (d Duration) or(otherwise time.Duration) time.Duration {
	if d.Duration == 0 {
		return otherwise
	}
	return d.Duration
}

// Check names every key that is missing, too much, or not possible. Whether
// the board has the pins is seen by NewGPIO.
func (c Config) Check() error {
	errs := []error{c.Relay.check(), c.Lamps.check(), c.Sensor.check()}
	if c.Buzzer != (OutputConfig{}) {
		errs = append(errs, c.Buzzer.check("gate.buzzer"))
	}
	for _, in := range []struct {
		key string
		InputConfig
	}{{"gate.alarm", c.Alarm}, {"gate.confirm", c.Confirm}, {"gate.refuse", c.Refuse}} {
		if in.InputConfig != (InputConfig{}) {
			errs = append(errs, need(in.Pin, in.key+".pin"), in.check(in.key))
		}
	}
	if c.Refuse.Pin != "" && c.Confirm.Pin == "" {
		errs = append(errs, errors.New("gate.confirm.pin: missing, and gate.refuse is no use without it"))
	}
	used := map[string]string{}
	for _, p := range c.pins() {
		if before, twice := used[p.name]; twice && p.name != "" {
			errs = append(errs, errTwice(before, p.key, p.name))
		}
		used[p.name] = p.key
	}
	return errors.Join(errs...)
}

func errTwice(one, other, pin string) error {
	return fmt.Errorf("%s and %s: pin %q is used twice", one, other, pin)
}

func (r RelayConfig) check() error {
	errs := []error{
		r.OutputConfig.check("gate.relay"),
		oneOf(r.Motion, "gate.relay.motion", Hold, Pulse),
		within(r.Pulse, "gate.relay.pulse", 20*time.Millisecond, 10*time.Second),
		within(r.Gap, "gate.relay.gap", 20*time.Millisecond, 10*time.Second),
		within(r.Longest, "gate.relay.longest", time.Second, 10*time.Minute),
	}
	if r.Motion == Hold && (r.Pulse.Duration != 0 || r.Gap.Duration != 0) {
		errs = append(errs, errors.New(`gate.relay: pulse and gap go with motion = "pulse"`))
	}
	return errors.Join(errs...)
}

func (o OutputConfig) check(key string) error {
	return errors.Join(need(o.Pin, key+".pin"), o.Active.check(key))
}

func (l LampsConfig) check() error {
	colours := l.Red != "" || l.Amber != "" || l.Green != ""
	switch {
	case l.Style == "" && l.Active == "" && !colours && l.Row == nil:
		return nil
	case l.Style == Colours && l.Row != nil:
		return errors.New(`gate.lamps.row: goes with style = "emv4"`)
	case l.Style == Colours:
		return errors.Join(l.Active.check("gate.lamps"),
			need(l.Red, "gate.lamps.red"), need(l.Amber, "gate.lamps.amber"), need(l.Green, "gate.lamps.green"))
	case l.Style == EMV4 && colours:
		return errors.New(`gate.lamps: red, amber and green go with style = "colours"`)
	case l.Style == EMV4 && len(l.Row) != 4:
		return fmt.Errorf("gate.lamps.row: %d pins, want 4", len(l.Row))
	case l.Style == EMV4:
		errs := []error{l.Active.check("gate.lamps")}
		for _, pin := range l.Row {
			errs = append(errs, need(pin, "gate.lamps.row"))
		}
		return errors.Join(errs...)
	}
	return oneOf(l.Style, "gate.lamps.style", Colours, EMV4)
}

func (in InputConfig) check(key string) error {
	return errors.Join(in.Active.check(key), oneOf(in.Pull, key+".pull", PullUp, PullDown, PullNone),
		within(in.Debounce, key+".debounce", time.Millisecond, time.Second))
}

func (s SensorConfig) check() error {
	if s == (SensorConfig{}) {
		return nil
	}
	errs := []error{s.InputConfig.check("gate.sensor"), within(s.StuckAfter, "gate.sensor.stuck_after", time.Second, 10*time.Minute)}
	switch {
	case s.Pin != "" && (s.First != "" || s.Second != ""):
		errs = append(errs, errors.New("gate.sensor: either pin, or first and second"))
	case s.Pin == "" && s.First == "" && s.Second == "":
		errs = append(errs, need("", "gate.sensor.pin"))
	case s.Pin == "":
		errs = append(errs, need(s.First, "gate.sensor.first"), need(s.Second, "gate.sensor.second"))
	}
	return errors.Join(errs...)
}

func need[T ~string](value T, key string) error {
	if value == "" {
		return fmt.Errorf("%s: missing", key)
	}
	return nil
}

// oneOf is need for words. That they are known is checked here and not where
// they are decoded: the TOML decoder sets a string type without asking it.
func oneOf[T ~string](value T, key string, names ...T) error {
	if value == "" || slices.Contains(names, value) {
		return need(value, key)
	}
	return fmt.Errorf("%s: %q, want one of %q", key, value, names)
}

func (a Active) check(key string) error { return oneOf(a, key+".active", High, Low) }

func within(d Duration, key string, least, most time.Duration) error {
	if d.Duration != 0 && (d.Duration < least || d.Duration > most) {
		return fmt.Errorf("%s: %v, want %v to %v", key, d, least, most)
	}
	return nil
}

// A namedPin is a pin and the key that names it.
type namedPin struct{ key, name string }

// Pins yields the pins that are named, each with its key.
func (c Config) Pins() iter.Seq2[string, string] {
	return func(yield func(key, pin string) bool) {
		for _, p := range c.pins() {
			if p.name != "" && !yield(p.key, p.name) {
				return
			}
		}
	}
}

// pins are all keys for pins, the relay's first, with or without a name.
func (c Config) pins() []namedPin {
	all := []namedPin{
		{"gate.relay.pin", c.Relay.Pin},
		{"gate.lamps.red", c.Lamps.Red}, {"gate.lamps.amber", c.Lamps.Amber}, {"gate.lamps.green", c.Lamps.Green},
		{"gate.buzzer.pin", c.Buzzer.Pin},
		{"gate.sensor.pin", c.Sensor.Pin}, {"gate.sensor.first", c.Sensor.First}, {"gate.sensor.second", c.Sensor.Second},
		{"gate.alarm.pin", c.Alarm.Pin}, {"gate.confirm.pin", c.Confirm.Pin}, {"gate.refuse.pin", c.Refuse.Pin},
	}
	for i, pin := range c.Lamps.Row {
		all = append(all, namedPin{fmt.Sprintf("gate.lamps.row[%d]", i), pin})
	}
	return all
}
