package gate

import (
	"context"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Simulator is a gate without hardware. It implements terminal.Gate and, by
// Press, terminal.HolderChecker. What a person or the building does to a gate
// are methods. It behaves as a GPIO whose relay holds, for as long as nobody
// shuts it.
type Simulator struct {
	notify func(string)
	staff  chan bool
	feed   *feed
	sensor bool

	mu     sync.Mutex
	opened int
	people uint32
	open   bool
	alarm  bool
	shown  display
	back   *time.Timer // ends a signal, nil when nothing is to end
}

// NewSimulator makes a closed gate without a sensor. notify, when not nil, is
// told what a person at the gate would see; it must not call the simulator.
func NewSimulator(notify func(string)) *Simulator {
	if notify == nil {
		notify = func(string) {}
	}
	return &Simulator{notify: notify, staff: make(chan bool), feed: newFeed()}
}

// WithSensor gives the gate a sensor, before it is used.
func (s *Simulator) WithSensor() *Simulator {
	s.sensor = true
	return s
}

// Open implements terminal.Gate.
func (s *Simulator) Open(ctx context.Context, p *terminal.Permit, people uint32) error {
	return s.openFor(ctx, p.Spend, people)
}

func (s *Simulator) openFor(ctx context.Context, spend func() error, people uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case people == 0:
		return errNobody
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.alarm:
		return ErrAlarm
	}
	if err := spend(); err != nil {
		return err
	}
	s.opened++
	s.people, s.open = people, true
	s.notify("relay: gate opens")
	return nil
}

// Shut implements terminal.Gate.
func (s *Simulator) Shut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alarm {
		s.rest()
	}
	return nil
}

func (s *Simulator) rest() {
	if s.open {
		s.open = false
		s.notify("relay: gate shuts")
	}
}

// Counts implements terminal.Gate.
func (s *Simulator) Counts() bool { return s.sensor }

// Sensed implements terminal.Gate.
func (s *Simulator) Sensed() <-chan terminal.Sensed { return s.feed.c }

// Pass is so many people who go through, one after the other.
func (s *Simulator) Pass(people int) {
	for range people {
		s.see(terminal.SensedPassage)
	}
}

// PassBack is one person who goes through against the lane.
func (s *Simulator) PassBack() { s.see(terminal.SensedWrongWay) }

// Stick blocks the sensor, or frees it.
func (s *Simulator) Stick(stuck bool) {
	if stuck {
		s.see(terminal.SensedStuck)
	} else {
		s.see(terminal.SensedFree)
	}
}

// see is nothing without a sensor.
func (s *Simulator) see(what terminal.Sensed) {
	if s.sensor {
		s.feed.put(what)
	}
}

// Alarm is the fire alarm, or its end.
func (s *Simulator) Alarm(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alarm = on; on {
		s.feed.put(terminal.SensedAlarm)
		return
	}
	s.rest()
	s.feed.put(terminal.SensedAllClear)
}

// Show implements terminal.Gate.
func (s *Simulator) Show(sig terminal.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back != nil {
		s.back.Stop()
		s.back = nil
	}
	before := s.shown.now
	s.shown.show(sig, time.Now())
	s.tell(before)
	if !s.shown.until.IsZero() {
		s.back = time.AfterFunc(time.Until(s.shown.until), s.showLasting)
	}
}

// showLasting goes back to the last lasting signal, unless another came
// meanwhile.
func (s *Simulator) showLasting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.shown.now; s.shown.back(time.Now()) {
		s.back = nil
		s.tell(before)
	}
}

func (s *Simulator) tell(before terminal.Signal) {
	if s.shown.now != before {
		s.notify("lamp: " + s.shown.now.String())
	}
}

// Opened is how often the gate was opened.
func (s *Simulator) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// People is for how many it was opened the last time.
func (s *Simulator) People() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.people
}

// IsOpen reports whether the relay holds the gate open.
func (s *Simulator) IsOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Signal is what the lamps show.
func (s *Simulator) Signal() terminal.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.now
}

// Check waits for Press.
func (s *Simulator) Check(ctx context.Context, _ terminal.Decision) (bool, error) {
	select {
	case confirmed := <-s.staff:
		return confirmed, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// Press is a staff key: confirm or refuse. It reports whether a person was
// waiting for it.
func (s *Simulator) Press(confirm bool) bool {
	select {
	case s.staff <- confirm:
		return true
	default:
		return false
	}
}
