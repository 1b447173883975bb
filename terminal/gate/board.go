package gate

import (
	"fmt"
	"strings"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/host/v3"
)

// A Board gives out pins, each once, to all gates that are on it.
type Board struct {
	given map[gpio.PinIO]string // by which key
	under string                // what the keys of the gate that takes pins begin with
}

// OpenBoard finds the pins of this machine.
func OpenBoard() (*Board, error) {
	if _, err := host.Init(); err != nil {
		return nil, fmt.Errorf("looking for the pins of this board: %w", err)
	}
	return &Board{given: map[gpio.PinIO]string{}}, nil
}

// pin finds a pin. One that goes by several names is still one.
func (b *Board) pin(p namedPin) (gpio.PinIO, error) {
	p.key = b.under + p.key
	found := gpioreg.ByName(p.name)
	if found == nil { // and no error, not even on a board without pins
		return nil, fmt.Errorf("%s: no pin %q: %s", p.key, p.name, names())
	}
	if alias, ok := found.(gpio.RealPin); ok {
		found = alias.Real()
	}
	if before, twice := b.given[found]; twice {
		return nil, errTwice(before, p.key, p.name)
	}
	b.given[found] = p.key
	return found, nil
}

// names says which pins there are, the first few of them.
func names() string {
	const few = 8
	all := gpioreg.All()
	if len(all) == 0 {
		return "this board has none, or the program may not use them (/dev/gpiochip*)"
	}
	var first []string
	for _, p := range all[:min(few, len(all))] {
		first = append(first, p.Name())
	}
	more := ""
	if n := len(all) - len(first); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return "this board has " + strings.Join(first, ", ") + more
}

// Rest brings the relay to rest and does nothing else. It is for whoever comes
// after a program that was killed: then nobody drives the pin any more, and some
// chips keep its last level.
func Rest(c Config) error {
	if err := c.Relay.check(); err != nil {
		return err
	}
	b, err := OpenBoard()
	if err != nil {
		return err
	}
	_, err = b.relay(c.Relay)
	return err
}

// relay finds the relay's pin and brings it to rest in one call, so that a
// driver which can give an output its level beforehand does. That of Raspberry
// Pis can; periph's gpioioctl makes the pin an output at low level first.
func (b *Board) relay(c RelayConfig) (gpio.PinOut, error) {
	pin, err := b.pin(namedPin{"gate.relay.pin", c.Pin})
	if err != nil {
		return nil, err
	}
	if err := pin.Out(!c.Active.level()); err != nil {
		return nil, fmt.Errorf("%sgate.relay.pin: bringing the relay to rest: %w", b.under, err)
	}
	return pin, nil
}

// output finds a pin and turns off what it drives.
func (b *Board) output(p namedPin, a Active) (*output, error) {
	pin, err := b.pin(p)
	if err != nil {
		return nil, err
	}
	o := &output{key: p.key, pin: pin, active: a.level()}
	return o, o.set(false)
}

// input finds a pin and begins to watch it.
func (b *Board) input(p namedPin, c InputConfig) (in *input, active bool, err error) {
	pin, err := b.pin(p)
	if err != nil {
		return nil, false, err
	}
	in = &input{pin: pin, active: c.Active.level(), pull: c.Pull.pull(), debounce: c.Debounce.Duration}
	if active, err = in.start(); err != nil {
		return nil, false, fmt.Errorf("%s%s: %w", b.under, p.key, err)
	}
	return in, active, nil
}
