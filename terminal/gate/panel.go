package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"

	"github.com/gate-agent/gate-agent/terminal"
)

// A panel is the lamps and the buzzer. Until the first signal it is out of
// order, without a sound.
type panel struct {
	outputs []*output // lamps by place, then the buzzer if there is one
	row     bool      // style emv4
	buzzer  bool
	fault   func(error)
	wake    chan struct{}

	mu    sync.Mutex
	shown display
	began time.Time // the signal
	beeps rhythm
	beep  time.Time // they began
}

// An output is a pin that is only driven when something changes.
type output struct {
	key    string
	pin    gpio.PinOut
	active gpio.Level
	lit    bool
	failed bool
}

func (o *output) set(lit bool) error {
	if err := o.pin.Out(gpio.Level(lit) == o.active); err != nil {
		return fmt.Errorf("%s: %w", o.key, err)
	}
	o.lit = lit
	return nil
}

// show begins a signal. A lasting one that is shown already does not beep
// again: it comes back after every tap.
func (p *panel) show(s terminal.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	before := p.shown
	p.shown.show(s, now)
	if p.shown.now != before.now || !p.shown.until.IsZero() {
		p.began = now
	}
	if p.shown.lasting != before.lasting || !p.shown.until.IsZero() {
		p.beeps, p.beep = signals[p.shown.now].beeps, now
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// play brings lamps and buzzer to how they are to be, and returns how long
// that lasts: 0 is until the next signal.
func (p *panel) play(now time.Time) (next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := p.shown.until; p.shown.back(now) {
		p.began = until
	}
	sooner := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	if !p.shown.until.IsZero() {
		sooner(p.shown.until.Sub(now))
	}
	lights := signals[p.shown.now].colours
	if p.row {
		lights = signals[p.shown.now].row
	}
	for i, o := range p.outputs {
		r, began := p.beeps, p.beep
		if !p.buzzer || i < len(p.outputs)-1 {
			r, began = lights[i], p.began
		}
		lit, lasts := r.at(now.Sub(began))
		sooner(lasts)
		if lit == o.lit {
			continue
		}
		err := o.set(lit)
		if err != nil && !o.failed {
			p.fault(err)
		}
		o.failed = err != nil
	}
	return next
}

// run plays until ctx ends.
func (p *panel) run(ctx context.Context) {
	for {
		var due <-chan time.Time
		if next := p.play(time.Now()); next > 0 {
			due = time.After(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-due:
		}
	}
}

// dark turns everything off.
func (p *panel) dark() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, o := range p.outputs {
		errs = append(errs, o.set(false))
	}
	return errors.Join(errs...)
}
