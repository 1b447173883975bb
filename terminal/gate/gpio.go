package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A GPIO is a gate on the pins of a board. It implements terminal.Gate and, by
// staff keys, terminal.HolderChecker.
type GPIO struct {
	relay  *relay
	panel  *panel
	feed   *feed
	fault  func(error)
	counts bool
	keys   bool
	staff  chan bool

	stop  context.CancelFunc
	wg    sync.WaitGroup
	close func() error
}

// NewGPIO brings the relay to rest, before anything else, and takes the other
// pins into use. When one is missing it says so and leaves the relay at rest.
// fault, when not nil, is told of what goes wrong where nobody waits for an
// answer; it must not call the gate.
func NewGPIO(c Config, fault func(error)) (*GPIO, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	b, err := OpenBoard()
	if err != nil {
		return nil, err
	}
	return b.NewGPIO("", c, fault)
}

// NewGPIO is NewGPIO for one of several gates on a board. What its keys begin
// with in the configuration is under.
func (b *Board) NewGPIO(under string, c Config, fault func(error)) (*GPIO, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if fault == nil {
		fault = func(error) {}
	}
	b.under = under
	pin, err := b.relay(c.Relay)
	if err != nil {
		return nil, err
	}
	g := &GPIO{feed: newFeed(), fault: fault, keys: c.Confirm.Pin != "", staff: make(chan bool)}
	watched, err := g.inputs(b, c)
	if err != nil {
		return nil, err
	}
	g.relay = &relay{
		pin: pin, active: c.Relay.Active.level(), pulsed: c.Relay.Motion == Pulse,
		longest: c.Relay.Longest.or(DefaultLongest), counts: g.counts, fault: fault, wake: make(chan struct{}, 1),
	}
	if g.relay.pulsed {
		g.relay.pulse, g.relay.gap = c.Relay.Pulse.or(DefaultPulse), c.Relay.Gap.or(DefaultGap)
	}
	if g.panel, err = newPanel(b, c, fault); err != nil {
		return nil, err
	}

	ctx, stop := context.WithCancel(context.Background())
	g.stop, g.close = stop, sync.OnceValue(g.closeOnce)
	for _, w := range watched {
		if w.begin != nil {
			w.begin()
		}
		g.wg.Go(func() { w.run(ctx, w.active) })
	}
	g.wg.Go(func() { g.relay.run(ctx) })
	g.wg.Go(func() { g.panel.run(ctx) })
	return g, nil
}

// A watch is an input and how it was found.
type watch struct {
	*input
	active bool
	begin  func() // before run, when not nil
}

// inputs takes the sensor, the alarm and the keys into use, as far as they are
// configured.
func (g *GPIO) inputs(b *Board, c Config) (all []watch, err error) {
	add := func(p namedPin, in InputConfig, debounce time.Duration, wire func(w *watch)) {
		if p.name == "" || err != nil {
			return
		}
		in.Debounce.Duration = in.Debounce.or(debounce)
		var w watch
		if w.input, w.active, err = b.input(p, in); err == nil {
			wire(&w)
			all = append(all, w)
		}
	}
	s := &sensor{saw: g.saw}
	for _, p := range []namedPin{{"gate.sensor.pin", c.Sensor.Pin}, {"gate.sensor.first", c.Sensor.First}, {"gate.sensor.second", c.Sensor.Second}} {
		add(p, c.Sensor.InputConfig, DefaultSensorDebounce, func(w *watch) {
			g.counts = true
			i := len(s.beams)
			s.beams = append(s.beams, beam{broken: w.active})
			w.changed = func(broken bool) { s.changed(i, broken) }
			w.stuck = func(stuck bool) { s.setStuck(i, stuck) }
			w.stuckAfter = c.Sensor.StuckAfter.or(DefaultStuckAfter)
		})
	}
	add(namedPin{"gate.alarm.pin", c.Alarm.Pin}, c.Alarm, DefaultAlarmDebounce, func(w *watch) {
		w.changed = g.alarm
		if w.active {
			w.begin = func() { g.alarm(true) }
		}
	})
	add(namedPin{"gate.confirm.pin", c.Confirm.Pin}, c.Confirm, DefaultKeyDebounce, func(w *watch) { w.changed = g.key(true) })
	add(namedPin{"gate.refuse.pin", c.Refuse.Pin}, c.Refuse, DefaultKeyDebounce, func(w *watch) { w.changed = g.key(false) })
	return all, err
}

// newPanel takes lamps and buzzer into use, as far as they are configured.
func newPanel(b *Board, c Config, fault func(error)) (*panel, error) {
	p := &panel{row: c.Lamps.Style == EMV4, buzzer: c.Buzzer.Pin != "", fault: fault, wake: make(chan struct{}, 1), began: time.Now()}
	p.shown.show(terminal.ShowOutOfOrder, p.began)
	var names []namedPin
	if c.Lamps.Style == Colours {
		names = []namedPin{red: {"gate.lamps.red", c.Lamps.Red}, amber: {"gate.lamps.amber", c.Lamps.Amber}, green: {"gate.lamps.green", c.Lamps.Green}}
	}
	for i, pin := range c.Lamps.Row {
		names = append(names, namedPin{fmt.Sprintf("gate.lamps.row[%d]", i), pin})
	}
	for _, n := range names {
		o, err := b.output(n, c.Lamps.Active)
		if err != nil {
			return nil, err
		}
		p.outputs = append(p.outputs, o)
	}
	if p.buzzer {
		o, err := b.output(namedPin{"gate.buzzer.pin", c.Buzzer.Pin}, c.Buzzer.Active)
		if err != nil {
			return nil, err
		}
		p.outputs = append(p.outputs, o)
	}
	return p, nil
}

// Close brings the relay to rest, first and whatever else happens, turns lamps
// and buzzer off and waits for everything that the gate has running.
func (g *GPIO) Close() error { return g.close() }

func (g *GPIO) closeOnce() error {
	err := g.relay.close()
	g.stop()
	g.wg.Wait()
	return errors.Join(err, g.panel.dark())
}

// Open implements terminal.Gate. With pulses it gives the first one; each
// further person's comes when the sensor saw the one before go through or, with
// no sensor, one after the other. Opened again before it is shut, the gate is
// open for those of the last time.
func (g *GPIO) Open(ctx context.Context, p *terminal.Permit, people uint32) error {
	return g.relay.openFor(ctx, p.Spend, people)
}

// Shut implements terminal.Gate. During a fire alarm a relay that holds the
// gate open goes on until the alarm is over.
func (g *GPIO) Shut() error { return g.relay.shut() }

// Counts implements terminal.Gate.
func (g *GPIO) Counts() bool { return g.counts }

// Sensed implements terminal.Gate. When the lane has not read for 256 of them,
// they are replaced by SensedStuck and how things are now: people went
// uncounted.
func (g *GPIO) Sensed() <-chan terminal.Sensed { return g.feed.c }

// Show implements terminal.Gate.
func (g *GPIO) Show(s terminal.Signal) { g.panel.show(s) }

// Check waits for a staff key. A key that was down before does not count.
func (g *GPIO) Check(ctx context.Context, _ terminal.Decision) (bool, error) {
	if !g.keys {
		return false, errNoKeys
	}
	select {
	case confirmed := <-g.staff:
		return confirmed, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// key is what a staff key does when it goes down: it answers whoever waits.
func (g *GPIO) key(confirm bool) func(down bool) {
	return func(down bool) {
		if down {
			select {
			case g.staff <- confirm:
			default:
			}
		}
	}
}

func (g *GPIO) alarm(on bool) {
	g.relay.setAlarm(on)
	if on {
		g.saw(terminal.SensedAlarm)
	} else {
		g.saw(terminal.SensedAllClear)
	}
}

func (g *GPIO) saw(s terminal.Sensed) {
	if !g.feed.put(s) {
		g.fault(errors.New("nobody reads what the sensor sees: people went uncounted"))
	}
	if s == terminal.SensedPassage {
		g.relay.sawPassage()
	}
}
