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
	name     string
	medium   Medium // nil: empty
	detected time.Time
	taken    bool // Next has returned it
	gone     chan struct{}
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
	s.medium, s.detected, s.taken, s.gone = m, time.Now(), false, make(chan struct{})
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
	if s.medium != nil {
		close(s.gone)
		s.medium.PowerOff()
		s.medium = nil
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
			if s.medium != nil && !s.taken {
				s.taken = true
				s.medium.PowerOn()
				c := &card{field: f, slot: s, medium: s.medium, detected: s.detected, gone: s.gone}
				f.mu.Unlock()
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

// A card is one stay of a medium in a slot.
type card struct {
	field    *Field
	slot     *slot
	medium   Medium
	detected time.Time
	gone     chan struct{}
}

func (c *card) Slot() string        { return c.slot.name }
func (c *card) Detected() time.Time { return c.detected }

// Transmit hands the command to the medium, and fails with nfc.ErrRemoved
// when the medium has left before it answered.
func (c *card) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	select {
	case <-c.gone:
		return nil, nfc.ErrRemoved
	default:
	}
	rapdu, err := c.medium.Transmit(ctx, capdu)
	select {
	case <-c.gone:
		return nil, nfc.ErrRemoved
	default:
		return rapdu, err
	}
}

func (c *card) Alone(context.Context) (bool, error) {
	c.field.mu.Lock()
	defer c.field.mu.Unlock()
	for _, s := range c.field.slots {
		if s != c.slot && s.medium != nil {
			return false, nil
		}
	}
	return true, nil
}

func (c *card) Release() error {
	select {
	case <-c.gone:
		return nfc.ErrRemoved
	default:
		c.medium.PowerOff()
		return nil
	}
}
