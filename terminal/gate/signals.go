package gate

import (
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A rhythm is how one lamp or buzzer goes on and off: on, off, on and so on for
// so long each, and then what comes after. The zero rhythm is dark, or silent.
type rhythm struct {
	name  string
	steps []time.Duration
	then  ending
}

// An ending is what comes after the steps of a rhythm.
type ending uint8

const (
	off ending = iota
	on
	again
)

// at says whether the lamp is on at some time of the rhythm, and how long that
// lasts: 0 is for ever.
func (r rhythm) at(t time.Duration) (lit bool, lasts time.Duration) {
	if r.then == again {
		var period time.Duration
		for _, s := range r.steps {
			period += s
		}
		t %= period
	}
	for i, s := range r.steps {
		if t < s {
			return i%2 == 0, s - t
		}
		t -= s
	}
	return r.then == on, 0
}

const ms = time.Millisecond

// Rhythms of lamps. They are told apart by form, not by speed alone, and none
// flashes more than three times in a second, for those whom that makes ill.
var (
	steady     = rhythm{"steady", nil, on}
	slow       = rhythm{"slow blink", []time.Duration{800 * ms, 800 * ms}, again}
	fast       = rhythm{"fast blink", []time.Duration{200 * ms, 200 * ms}, again}
	double     = rhythm{"double flash", []time.Duration{150 * ms, 150 * ms, 150 * ms, 750 * ms}, again}
	triple     = rhythm{"triple flash", []time.Duration{150 * ms, 200 * ms, 150 * ms, 200 * ms, 150 * ms, 850 * ms}, again}
	wink       = rhythm{"on with a gap", []time.Duration{1600 * ms, 200 * ms}, again}
	doubleWink = rhythm{"on with two gaps", []time.Duration{1200 * ms, 150 * ms, 150 * ms, 150 * ms}, again}
	longShort  = rhythm{"long, short", []time.Duration{600 * ms, 200 * ms, 200 * ms, 400 * ms}, again}
	second     = rhythm{"one after another", []time.Duration{0, 120 * ms}, on}
	third      = rhythm{"one after another", []time.Duration{0, 240 * ms}, on}
	fourth     = rhythm{"one after another", []time.Duration{0, 360 * ms}, on}
)

// Rhythms of the buzzer.
var (
	silence    = rhythm{}
	oneShort   = rhythm{"one short", []time.Duration{150 * ms}, off}
	twoBeeps   = rhythm{"two", []time.Duration{250 * ms, 200 * ms, 250 * ms}, off}
	threeShort = rhythm{"three short", []time.Duration{100 * ms, 100 * ms, 100 * ms, 100 * ms, 100 * ms}, off}
	oneLong    = rhythm{"one long", []time.Duration{1000 * ms}, off}
	shortLong  = rhythm{"short, long", []time.Duration{100 * ms, 100 * ms, 500 * ms}, off}
	ten        = rhythm{"ten", []time.Duration{
		200 * ms, 150 * ms, 200 * ms, 150 * ms, 200 * ms, 150 * ms, 200 * ms, 150 * ms, 200 * ms, 150 * ms,
		200 * ms, 150 * ms, 200 * ms, 150 * ms, 200 * ms, 150 * ms, 200 * ms, 150 * ms, 200 * ms,
	}, off}
	threeLong = rhythm{"three long", []time.Duration{800 * ms, 300 * ms, 800 * ms, 300 * ms, 800 * ms}, off}
)

// lamps are the rhythms of the lamps of a style, by place.
type lamps [4]rhythm

// Places of lamps with style colours; those of emv4 count from the left.
const (
	red = iota
	amber
	green
)

// signals is the table of what a gate shows. docs/gate-hardware.md has it too.
// The four in a row follow the readers of EMV contactless cards where these have
// a word for it: the first one waits for a card, all of them are success.
var signals = [...]struct {
	name    string
	colours lamps
	row     lamps
	beeps   rhythm        // once, when the signal begins
	lasts   time.Duration // 0: until the next
	meaning string
}{
	terminal.ShowReady: {
		"Ready", lamps{green: steady}, lamps{steady}, silence, 0,
		"present your card",
	},
	terminal.ShowAdmit: {
		"Admit", lamps{green: fast}, lamps{steady, second, third, fourth}, oneShort, 1500 * ms,
		"go",
	},
	terminal.ShowDeny: {
		"Deny", lamps{red: double}, lamps{double, double, double, double}, twoBeeps, 1500 * ms,
		"stop",
	},
	terminal.ShowAttend: {
		"Attend", lamps{amber: slow}, lamps{1: slow, 2: slow}, threeShort, 0,
		"wait for staff",
	},
	terminal.ShowOutOfOrder: {
		"OutOfOrder", lamps{red: triple}, lamps{0: triple, 3: triple}, oneLong, 0,
		"use another gate",
	},
	terminal.ShowCaution: {
		"Caution", lamps{amber: wink, green: wink}, lamps{wink, wink}, shortLong, 0,
		"present your card; for staff: list or clock is out of date",
	},
	terminal.ShowTailgate: {
		"Tailgate", lamps{red: longShort, amber: longShort}, lamps{longShort, longShort, longShort, longShort}, ten, 5 * time.Second,
		"for staff: somebody went through who was not admitted",
	},
	terminal.ShowEmergency: {
		"Emergency", lamps{green: doubleWink}, lamps{doubleWink, doubleWink, doubleWink, doubleWink}, threeLong, 0,
		"the gate stands open: leave",
	},
}

// A display knows which signal is shown, and which one comes back after it.
type display struct {
	now, lasting terminal.Signal
	until        time.Time // zero: until the next
}

// show begins a signal. A number that is no signal is out of order.
func (d *display) show(s terminal.Signal, at time.Time) {
	if int(s) >= len(signals) {
		s = terminal.ShowOutOfOrder
	}
	d.now, d.until = s, time.Time{}
	if lasts := signals[s].lasts; lasts > 0 {
		d.until = at.Add(lasts)
	} else {
		d.lasting = s
	}
}

// back returns to the lasting signal when it is time, and reports whether it is.
func (d *display) back(at time.Time) bool {
	if d.until.IsZero() || at.Before(d.until) {
		return false
	}
	d.now, d.until = d.lasting, time.Time{}
	return true
}
