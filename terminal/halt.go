package terminal

import (
	"context"
	"errors"
	"sync"
)

// A Halt keeps a lane from serving cards. Several may be on at once.
type Halt uint8

// Halts.
const (
	HaltAlarm   Halt = 1 << iota // fire alarm: the gate stands open
	HaltStaff                    // taken out of order by staff
	HaltSensor                   // the passage sensor cannot count
	HaltCommand                  // taken out of order by the operator, from afar
)

// What ends a tap that was going on.
var (
	errAlarm  = errors.New("fire alarm: the gate stands open")
	errHalted = errors.New("the lane is not in service")
)

// halts are those that are on.
//
//	calm ──halt──▶ halted     calm's context ends, and with it a tap
//	  ▲               │
//	  └──last resume──┘       a new context
type halts struct {
	mu   sync.Mutex
	on   Halt
	run  context.Context // of the lane, nil before it runs
	calm context.Context // ends when the lane is halted
	end  context.CancelCauseFunc
	free chan struct{} // closed when it is no longer
}

// begin makes a lane calm for as long as ctx lasts.
func (h *halts) begin(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run = ctx
	h.calm, h.end = context.WithCancelCause(ctx)
	h.free = make(chan struct{})
	if h.on != 0 {
		h.end(cause(h.on))
	}
}

func cause(on Halt) error {
	if on&HaltAlarm != 0 {
		return errAlarm
	}
	return errHalted
}

// set turns a halt on or off, and reports whether that changed it.
func (h *halts) set(which Halt, on bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.on
	if h.on &^= which; on {
		h.on |= which
	}
	switch {
	case h.run == nil:
	case was == 0 && h.on != 0:
		h.end(cause(h.on))
	case was != 0 && h.on == 0:
		close(h.free)
		h.calm, h.end = context.WithCancelCause(h.run)
		h.free = make(chan struct{})
	}
	return was != h.on
}

// staffed returns the context of the running lane, unless staff cannot open its
// gate now: that it is out of order by their own word is no reason.
func (h *halts) staffed() (context.Context, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on&^HaltStaff != 0 {
		return nil, cause(h.on)
	}
	if h.on != 0 {
		return h.run, h.run.Err()
	}
	return h.calm, h.calm.Err()
}

func (h *halts) get() Halt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on
}

// wait returns a context that ends when the lane is halted. It waits while it
// is, and fails when ctx ends.
func (h *halts) wait(ctx context.Context) (context.Context, error) {
	for {
		h.mu.Lock()
		on, calm, free := h.on, h.calm, h.free
		h.mu.Unlock()
		if on == 0 {
			return calm, ctx.Err()
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Halted names the halts of the lane that are on.
func (l *Lane) Halted() []string { return l.halts.get().names() }

func (h Halt) names() []string {
	names := []string{}
	for _, n := range [...]struct {
		halt Halt
		name string
	}{{HaltAlarm, "alarm"}, {HaltStaff, "staff"}, {HaltSensor, "sensor"}, {HaltCommand, "command"}} {
		if h&n.halt != 0 {
			names = append(names, n.name)
		}
	}
	return names
}
