package gate

import (
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A sensor turns what beams see into people.
//
// One beam: a person has passed when the beam is free again. Two beams: when
// the second one is broken after the first, and against the lane when it is the
// other way round. Every break of a beam is used for one person, so that
// somebody close behind, who breaks the first beam while the one before is still
// in the second, is a person too.
type sensor struct {
	saw func(terminal.Sensed)

	mu    sync.Mutex
	beams []beam
}

type beam struct {
	broken bool
	fresh  bool // this break is not used for a person yet
	free   time.Time
	stuck  bool
}

// between is how long a person takes from one beam to the other, once the
// first one is free.
const between = 2 * time.Second

func (s *sensor) changed(i int, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, now := &s.beams[i], time.Now()
	b.broken = broken
	if !broken {
		b.free = now
		if len(s.beams) == 1 && b.fresh && !b.stuck {
			s.saw(terminal.SensedPassage)
		}
		return
	}
	b.fresh = true
	if len(s.beams) == 1 {
		return
	}
	other := &s.beams[1-i]
	if other.fresh && (other.broken || now.Sub(other.free) <= between) && !s.stuck() {
		b.fresh, other.fresh = false, false
		s.saw([]terminal.Sensed{terminal.SensedWrongWay, terminal.SensedPassage}[i])
	}
}

func (s *sensor) stuck() bool {
	for _, b := range s.beams {
		if b.stuck {
			return true
		}
	}
	return false
}

// setStuck tells of the first beam that sticks, and of the last one that no
// longer does. Who is still in a beam then came while nobody could be counted.
func (s *sensor) setStuck(i int, stuck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.stuck()
	s.beams[i].stuck = stuck
	if now := s.stuck(); now == before {
		return
	} else if now {
		s.saw(terminal.SensedStuck)
	} else {
		for i := range s.beams {
			if s.beams[i].broken {
				s.beams[i].fresh = false
			}
		}
		s.saw(terminal.SensedFree)
	}
}
