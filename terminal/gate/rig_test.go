package gate_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/gpio/gpiotest"
	"periph.io/x/host/v3"

	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

// The drivers of the real board are looked for once, outside every bubble.
func TestMain(m *testing.M) {
	if _, err := host.Init(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A bench is a board with pins that write down what happens to them.
type bench struct {
	t     *testing.T
	began time.Time
	pins  map[string]*wire

	mu     sync.Mutex
	did    []string // in order: pin, level, time
	faults []error
}

// A wire is a pin of the bench.
type wire struct {
	*gpiotest.Pin
	bench *bench
	fail  func(level gpio.Level) error // of Out
}

func (w *wire) Out(l gpio.Level) error {
	if w.fail != nil {
		if err := w.fail(l); err != nil {
			return err
		}
	}
	w.bench.note(w.N, l.String())
	return w.Pin.Out(l)
}

func (w *wire) In(p gpio.Pull, e gpio.Edge) error {
	w.bench.note(w.N, "in")
	before := w.Read()
	err := w.Pin.In(p, e)
	w.Lock()
	defer w.Unlock()
	w.L = before // a wired contact is stronger than the pull
	return err
}

func (b *bench) note(pin, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did = append(b.did, fmt.Sprintf("%s %s %v", pin, what, time.Since(b.began)))
}

// of is what was done to a pin, without its name.
func (b *bench) of(pin string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, d := range b.did {
		if rest, ok := strings.CutPrefix(d, pin+" "); ok {
			all = append(all, rest)
		}
	}
	return strings.Join(all, ", ")
}

// newBench registers pins. Inputs are wired active low, with a pull-up.
func newBench(t *testing.T, names ...string) *bench {
	t.Helper()
	b := &bench{t: t, began: time.Now(), pins: map[string]*wire{}}
	for _, n := range names {
		w := &wire{Pin: &gpiotest.Pin{N: n, L: gpio.High, EdgesChan: make(chan gpio.Level, 64)}, bench: b}
		if err := gpioreg.Register(w); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := gpioreg.Unregister(n); err != nil {
				t.Error(err)
			}
		})
		b.pins[n] = w
	}
	return b
}

// open opens a gate as the agent would, from text.
func (b *bench) open(text string) (*gate.GPIO, error) {
	return gate.NewGPIO(parse(b.t, text), func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, err)
	})
}

// must opens a gate and closes it with the test.
func (b *bench) must(text string) *gate.GPIO {
	b.t.Helper()
	g, err := b.open(text)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return g
}

func parse(t *testing.T, text string) gate.Config {
	t.Helper()
	var c struct{ Gate gate.Config }
	if err := stricttoml.Decode([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c.Gate
}

// level puts a level on an input, and waits.
func (b *bench) level(pin string, l gpio.Level, d time.Duration) {
	b.pins[pin].EdgesChan <- l
	time.Sleep(d)
	synctest.Wait()
}

// press makes an input active for so long, and waits as long after.
func (b *bench) press(pin string, d time.Duration) {
	b.level(pin, gpio.Low, d)
	b.level(pin, gpio.High, d)
}

// seen empties the channel of the gate.
func seen(g terminal.Gate) (all []terminal.Sensed) {
	for {
		select {
		case s := <-g.Sensed():
			all = append(all, s)
		default:
			return all
		}
	}
}

func permitted() error { return nil }

// inBubble runs a test where time is its own.
func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// Relays.
const (
	hold = `
[gate.relay]
pin    = "K1"
active = "low"
motion = "hold"
`
	pulse = `
[gate.relay]
pin    = "K1"
active = "high"
motion = "pulse"
pulse  = "300ms"
gap    = "200ms"
`
	oneBeam = `
[gate.sensor]
pin    = "S1"
active = "low"
pull   = "up"
`
	twoBeams = `
[gate.sensor]
first  = "S1"
second = "S2"
active = "low"
pull   = "up"
`
	fire = `
[gate.alarm]
pin    = "F1"
active = "low"
pull   = "up"
`
	keys = `
[gate.confirm]
pin    = "C1"
active = "low"
pull   = "up"
[gate.refuse]
pin    = "C2"
active = "low"
pull   = "up"
`
	colours = `
[gate.lamps]
style  = "colours"
active = "high"
red    = "L1"
amber  = "L2"
green  = "L3"
[gate.buzzer]
pin    = "B1"
active = "high"
`
)
