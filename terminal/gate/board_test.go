package gate_test

import (
	"maps"
	"strings"
	"testing"

	"periph.io/x/conn/v3/gpio/gpioreg"

	"github.com/gate-agent/gate-agent/terminal/gate"
)

// Two gates on one board: a pin that the first one has is not moved by the second,
// whatever name it goes by there.
func TestPinIsOfOneGate(t *testing.T) {
	b := newBench(t, "K1", "K2")
	if err := gpioreg.RegisterAlias("HEADER_7", "K1"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := gpioreg.Unregister("HEADER_7"); err != nil {
			t.Error(err)
		}
	}()
	board, err := gate.OpenBoard()
	if err != nil {
		t.Fatal(err)
	}
	relay := func(pin string) gate.Config {
		return parse(t, "[gate.relay]\npin='"+pin+"'\nactive='high'\nmotion='pulse'\n")
	}
	first, err := board.NewGPIO("", relay("K1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	done := b.of("K1")
	_, err = board.NewGPIO("lanes[1].", relay("HEADER_7"), nil)
	if want := `gate.relay.pin and lanes[1].gate.relay.pin: pin "HEADER_7" is used twice`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if b.of("K1") != done {
		t.Errorf("K1: %s", b.of("K1"))
	}
	second, err := board.NewGPIO("lanes[1].", relay("K2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if pins := maps.Collect(relay("K2").Pins()); len(pins) != 1 || pins["gate.relay.pin"] != "K2" {
		t.Errorf("pins %q", pins)
	}
}
