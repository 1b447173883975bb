// Package gate moves a gate and its lamps. Now there is a simulated one, for
// a machine without a relay.
package gate

import (
	"context"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Simulator is a gate without hardware. It implements terminal.Gate and, by
// a staff key, terminal.HolderChecker.
type Simulator struct {
	notify func(string)
	staff  chan bool

	mu     sync.Mutex
	opened int
	signal terminal.Signal
	shown  int         // signals so far: which one a timer belongs to
	ready  *time.Timer // goes back to ready, nil when nothing is to go back
}

// hold is how long the simulator shows green or red.
const hold = 1500 * time.Millisecond

// NewSimulator makes a closed gate. notify, when not nil, is told what a
// person at the gate would see; it must not call the simulator.
func NewSimulator(notify func(string)) *Simulator {
	if notify == nil {
		notify = func(string) {}
	}
	return &Simulator{notify: notify, staff: make(chan bool)}
}

// Open implements terminal.Gate.
func (s *Simulator) Open(_ context.Context, p *terminal.Permit, _ uint32) error {
	if err := p.Spend(); err != nil {
		return err
	}
	s.mu.Lock()
	s.opened++
	s.mu.Unlock()
	s.notify("relay: gate opens")
	return nil
}

// Show implements terminal.Gate.
func (s *Simulator) Show(sig terminal.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil {
		s.ready.Stop()
		s.ready = nil
	}
	s.shown++
	if sig == terminal.ShowAdmit || sig == terminal.ShowDeny {
		after := s.shown
		s.ready = time.AfterFunc(hold, func() { s.showReady(after) })
	}
	s.set(sig)
}

// showReady goes back to ready, unless another signal came meanwhile.
func (s *Simulator) showReady(after int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown == after {
		s.ready = nil
		s.set(terminal.ShowReady)
	}
}

func (s *Simulator) set(sig terminal.Signal) {
	if s.signal != sig {
		s.signal = sig
		s.notify("lamp: " + sig.String())
	}
}

// Opened is how often the relay has moved.
func (s *Simulator) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// Signal is what the lamps show.
func (s *Simulator) Signal() terminal.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signal
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

func (s *Simulator) Shut() error                    { return nil }
func (s *Simulator) Counts() bool                   { return false }
func (s *Simulator) Sensed() <-chan terminal.Sensed { return nil }
