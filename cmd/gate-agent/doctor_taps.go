package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// How long decisions took, by the journal.

const (
	tapLimit = 3 * time.Second        // of the rule
	tapAim   = 500 * time.Millisecond // of the aim

	tapsWanted   = 20     // fewer say nothing of one in a hundred, and little of the median
	tapsMeasured = 1000   // the last ones
	eventsLooked = 20_000 // at most, for them
)

func (s *site) deadline() finding {
	if d := s.c.Deadline.Duration; d > tapLimit {
		return bad(`set deadline = "3s"`, "deadline is %v, at most %v", d, tapLimit)
	}
	return fine("deadline is %v", s.c.Deadline.Duration)
}

func (s *site) tapLimit() finding {
	taps, err := s.taps()
	if err != nil {
		return unknown(err, "let people tap")
	}
	if p99 := quantile(taps, 99); p99 > tapLimit {
		return bad("look for a slow reader, card or disk (gate-agent card trace)", "%s: more than %v", describeTaps(taps), tapLimit)
	}
	return fine("%s", describeTaps(taps))
}

func (s *site) tapAim() finding {
	taps, err := s.taps()
	if err != nil {
		return unknown(err, "let people tap")
	}
	if quantile(taps, 50) >= tapAim {
		return warn("a faster reader, or method tap-use with registered keys (docs/performance.md)", "%s: the median misses the aim of %v", describeTaps(taps), tapAim)
	}
	return fine("%s", describeTaps(taps))
}

func describeTaps(taps []time.Duration) string {
	return fmt.Sprintf("last %d taps: p50 %v, p99 %v", len(taps), quantile(taps, 50), quantile(taps, 99))
}

// quantile is the least of sorted times that percent of 100 do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

// taps are the times from detection to decision of the last cards, sorted. Those that
// waited for a person to compare or to confirm say nothing of the terminal.
func (s *site) taps() (times []time.Duration, err error) {
	err = s.read(func(r *journal.Reader) error {
		last, err := r.CheckTail(s.ctx)
		if err != nil {
			return err
		}
		f := journal.Filter{After: last - min(last, eventsLooked), Kinds: []journal.Kind{journal.KindDecision, journal.KindReserve}}
		for e, err := range r.List(s.ctx, f) {
			if err != nil {
				return err
			}
			byStaff := e.Staff != "" || e.Method == string(terminal.ByOrder) || e.Method == string(terminal.ByToken)
			if e.HolderCheck == "" && !byStaff && e.ElapsedMS > 0 {
				times = append(times, time.Duration(e.ElapsedMS)*time.Millisecond)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	times = times[max(0, len(times)-tapsMeasured):]
	if len(times) < tapsWanted {
		return nil, fmt.Errorf("the journal has %d taps that were measured, want %d", len(times), tapsWanted)
	}
	slices.Sort(times)
	return times, nil
}
