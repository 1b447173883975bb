package gate

import (
	"sync"

	"github.com/gate-agent/gate-agent/terminal"
)

// A feed carries what inputs see to the lane. Who puts never waits: an input
// that did would miss the next person.
type feed struct {
	mu    sync.Mutex
	c     chan terminal.Sensed
	stuck bool
}

// feedLength is far more than happens at a gate between two looks of a lane.
const feedLength = 256

func newFeed() *feed { return &feed{c: make(chan terminal.Sensed, feedLength)} }

// put appends s. When nobody has read for so long that the feed is full, what
// waits in it is replaced by what is true of all of it: people went uncounted,
// which is SensedStuck, and how things are now. put then returns false.
func (f *feed) put(s terminal.Sensed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	var alarm terminal.Sensed
	note := func(s terminal.Sensed) {
		switch s {
		case terminal.SensedStuck, terminal.SensedFree:
			f.stuck = s == terminal.SensedStuck
		case terminal.SensedAlarm, terminal.SensedAllClear:
			alarm = s
		}
	}
	select {
	case f.c <- s:
		note(s)
		return true
	default:
	}
	for {
		select {
		case old := <-f.c:
			if old == terminal.SensedAlarm || old == terminal.SensedAllClear {
				note(old)
			}
			continue
		default:
		}
		break
	}
	note(s)
	f.c <- terminal.SensedStuck
	if !f.stuck {
		f.c <- terminal.SensedFree
	}
	if alarm != terminal.SensedNothing {
		f.c <- alarm
	}
	return false
}
