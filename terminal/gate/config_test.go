package gate_test

import (
	"os"
	"strings"
	"testing"

	"periph.io/x/conn/v3/gpio/gpioreg"

	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

func TestConfigurationNamesTheKey(t *testing.T) {
	for text, want := range map[string]string{
		"": "gate.relay.pin: missing",
		strings.Replace(hold, `active = "low"`, "", 1):                           "gate.relay.active: missing",
		strings.Replace(hold, `motion = "hold"`, "", 1):                          "gate.relay.motion: missing",
		hold + `pulse = "1s"`:                                                    `pulse and gap go with motion = "pulse"`,
		hold + `longest = "1h"`:                                                  "gate.relay.longest: 1h0m0s, want 1s to 10m0s",
		strings.Replace(pulse, "300ms", "1ms", 1):                                "gate.relay.pulse: 1ms",
		hold + strings.Replace(oneBeam, `pull   = "up"`, "", 1):                  "gate.sensor.pull: missing",
		hold + strings.Replace(oneBeam, `pin    = "S1"`, "", 1):                  "gate.sensor.pin: missing",
		hold + oneBeam + `first = "S2"`:                                          "either pin, or first and second",
		hold + strings.Replace(twoBeams, `second = "S2"`, "", 1):                 "gate.sensor.second: missing",
		hold + oneBeam + `stuck_after = "1ms"`:                                   "gate.sensor.stuck_after: 1ms",
		hold + oneBeam + `debounce = "2s"`:                                       "gate.sensor.debounce: 2s",
		hold + strings.Replace(fire, `pin    = "F1"`, "", 1):                     "gate.alarm.pin: missing",
		hold + strings.Replace(fire, `active = "low"`, "", 1):                    "gate.alarm.active: missing",
		hold + "[gate.refuse]\npin='C2'\nactive='low'\npull='up'":                "gate.confirm.pin: missing",
		hold + "[gate.buzzer]\nactive='low'":                                     "gate.buzzer.pin: missing",
		hold + "[gate.lamps]\nred='L1'":                                          "gate.lamps.style: missing",
		hold + strings.Replace(colours, `amber  = "L2"`, "", 1):                  "gate.lamps.amber: missing",
		hold + "[gate.lamps]\nstyle='emv4'\nactive='low'\nrow=['a']":             "gate.lamps.row: 1 pins, want 4",
		hold + "[gate.lamps]\nstyle='emv4'\nrow=['a','b','c','']":                "gate.lamps.row: missing",
		hold + "[gate.lamps]\nstyle='emv4'\nred='a'\nrow=['b','c','d']":          "red, amber and green go with",
		hold + "[gate.lamps]\nstyle='colours'\nrow=['b','c','d','e']":            `gate.lamps.row: goes with style = "emv4"`,
		hold + strings.Replace(oneBeam, "S1", "K1", 1):                           `gate.relay.pin and gate.sensor.pin: pin "K1" is used twice`,
		hold + "[gate.lamps]\nstyle='emv4'\nactive='low'\nrow=['a','b','c','a']": `gate.lamps.row[0] and gate.lamps.row[3]: pin "a" is used twice`,
	} {
		c := parse(t, text)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", text, err, want)
		}
		if _, err := gate.NewGPIO(c, nil); err == nil {
			t.Errorf("%s: and it starts", text)
		}
	}
}

func TestWordsThatMeanNothingAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(hold, `"low"`, `"on"`, 1):       `gate.relay.active: "on", want one of ["high" "low"]`,
		strings.Replace(hold, `"hold"`, `"toggle"`, 1):  `gate.relay.motion: "toggle"`,
		hold + strings.Replace(fire, `"up"`, `"Up"`, 1): `gate.alarm.pull: "Up"`,
		hold + strings.Replace(colours, `high`, `1`, 1): `gate.lamps.active: "1"`,
		hold + "[gate.lamps]\nstyle = 'rgb'":            `gate.lamps.style: "rgb"`,
		"[gate.relay]\npulse = '0s'":                    "line 2: ",
		"[gate.relay]\npulse = '-1s'":                   "line 2: ",
		"[gate.relay]\npulse = 500":                     "line 2: ",
		"[gate.relay]\npins = 'K1'":                     `unknown key "gate.relay.pins"`,
		"[gate.siren]\npin = 'B1'":                      `unknown key "gate.siren`,
	} {
		var c struct{ Gate gate.Config }
		err := stricttoml.Decode([]byte(text), &c)
		if err == nil {
			err = c.Gate.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

func TestMissingPinIsNamedWithThoseThereAre(t *testing.T) {
	b := newBench(t, "K1", "K2", "K3")
	for text, want := range map[string]string{
		strings.Replace(hold, "K1", "GPIO99", 1): `gate.relay.pin: no pin "GPIO99": this board has `,
		hold + oneBeam:                           `gate.sensor.pin: no pin "S1": this board has `,
		hold + fire:                              `gate.alarm.pin: no pin "F1": `,
		hold + colours:                           `gate.lamps.red: no pin "L1": `,
	} {
		if _, err := b.open(text); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "K2") {
			t.Errorf("error %v, want %q and K2 in it", err, want)
		}
	}
}

func TestBoardWithoutPinsIsRefused(t *testing.T) {
	if n := len(gpioreg.All()); n > 0 {
		t.Skipf("this machine has %d pins", n)
	}
	if _, err := gate.NewGPIO(parse(t, hold), nil); err == nil || !strings.Contains(err.Error(), "this board has none") {
		t.Errorf("error %v", err)
	}
}

// P1_3 and GPIO2 are one pin on a Raspberry Pi.
func TestPinOfTwoNamesIsStillOne(t *testing.T) {
	b := newBench(t, "K1")
	if err := gpioreg.RegisterAlias("P1_3", "K1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gpioreg.Unregister("P1_3"); err != nil {
			t.Error(err)
		}
	})
	_, err := b.open(hold + strings.Replace(oneBeam, "S1", "P1_3", 1))
	if err == nil || !strings.HasPrefix(err.Error(), "gate.relay.pin and gate.sensor.pin: ") {
		t.Errorf("error %v", err)
	}
}

// The example of the page is complete, and starts.
func TestExampleOfThePageWorks(t *testing.T) {
	page, err := os.ReadFile("../../docs/gate-hardware.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(page), "```toml\n")
	example, _, closed := strings.Cut(example, "```")
	if !found || !closed {
		t.Fatal("no example")
	}
	inBubble(t, func(t *testing.T) {
		b := newBench(t, "GPIO17", "GPIO5", "GPIO6", "GPIO13", "GPIO19", "GPIO20", "GPIO21", "GPIO16", "GPIO23", "GPIO24")
		var c struct {
			Gate struct {
				Name        string `toml:"name"`
				Driver      string `toml:"driver"`
				gate.Config        // as the agent has it
			} `toml:"gate"`
		}
		if err := stricttoml.Decode([]byte(example), &c); err != nil {
			t.Fatal(err)
		}
		g, err := gate.NewGPIO(c.Gate.Config, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		for name := range b.pins {
			if b.of(name) == "" {
				t.Errorf("%s is not in the example", name)
			}
		}
	})
}
