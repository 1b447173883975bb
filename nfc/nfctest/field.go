// Package nfctest is a field in process: slots that cards are put into and
// pulled out of, as package pcsc sees real ones. It serves tests and the
// simulator.
package nfctest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
)

// A Medium is what is put into a slot: a card that can be powered. A virtual
// card is one.
type Medium interface {
	nfc.Transmitter
	PowerOn()
	PowerOff()
}

// A Field is a lane of slots. It implements terminal.Reader. Its methods may
// be called from several goroutines.
type Field struct {
	mu      sync.Mutex
	slots   []*slot
	changed chan struct{} // closed at the next change
}

type slot struct {
	name  string
	stay  *stay // nil: empty
	taken bool  // Next has returned it
}

// NewField makes a field with empty slots.
func NewField(slots ...string) *Field {
	f := &Field{changed: make(chan struct{})}
	for _, name := range slots {
		f.slots = append(f.slots, &slot{name: name})
	}
	return f
}

// Insert puts a medium into a slot, in the place of what was there.
func (f *Field) Insert(name string, m Medium) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slot(name)
	f.empty(s)
	s.stay, s.taken = newStay(m), false
	f.wake()
}

// Remove empties a slot. A command in flight fails with nfc.ErrRemoved.
func (f *Field) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.empty(f.slot(name))
	f.wake()
}

// Taken reports whether Next has returned the card in the slot.
func (f *Field) Taken(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.slot(name).taken
}

func (f *Field) slot(name string) *slot {
	i := slices.IndexFunc(f.slots, func(s *slot) bool { return s.name == name })
	if i < 0 {
		panic(fmt.Sprintf("nfctest: no slot %q", name))
	}
	return f.slots[i]
}

func (f *Field) empty(s *slot) {
	if s.stay != nil {
		s.stay.end()
		s.stay = nil
	}
}

func (f *Field) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Next implements terminal.Reader.
func (f *Field) Next(ctx context.Context) (nfc.Card, error) {
	for {
		f.mu.Lock()
		for _, s := range f.slots {
			if s.stay != nil && !s.taken {
				s.taken = true
				c := &card{field: f, slot: s, stay: s.stay}
				f.mu.Unlock()
				c.powerOn()
				return c, nil
			}
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// A stay is one medium in a slot, from when it comes until it goes. The medium
// has one user at a time: power is cut behind a command in flight, not under it.
type stay struct {
	medium   Medium
	detected time.Time
	life     context.Context // ends when the medium goes
	cancel   context.CancelFunc

	mu   sync.Mutex
	busy bool // a command is in flight
	gone bool
}

func newStay(m Medium) *stay {
	s := &stay{medium: m, detected: time.Now()}
	s.life, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *stay) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.cancel()
	if !s.busy {
		s.medium.PowerOff()
	}
}

// powerOn powers the medium, unless it went meanwhile.
func (s *stay) powerOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.medium.PowerOn()
	}
}

// A card is what Next returns: a stay, seen from the lane.
type card struct {
	field *Field
	slot  *slot
	*stay
}

func (c *card) Slot() string        { return c.slot.name }
func (c *card) Detected() time.Time { return c.detected }

// Transmit hands the command to the medium, and fails with nfc.ErrRemoved
// when the medium has left before it answered.
func (c *card) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil, nfc.ErrRemoved
	}
	c.busy = true
	c.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	rapdu, err := c.medium.Transmit(ctx, capdu)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if c.gone {
		c.medium.PowerOff()
		return nil, nfc.ErrRemoved
	}
	return rapdu, err
}

func (c *card) Alone(context.Context) (bool, error) {
	c.field.mu.Lock()
	defer c.field.mu.Unlock()
	for _, s := range c.field.slots {
		if s != c.slot && s.stay != nil {
			return false, nil
		}
	}
	return true, nil
}

func (c *card) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nfc.ErrRemoved
	}
	c.medium.PowerOff()
	return nil
}
