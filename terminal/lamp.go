package terminal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// lampEvery is how often a lane looks whether list and clock can be relied on, and
// tries again to write what it could not.
const lampEvery = 5 * time.Second

// A lamp is what a lane shows while nobody is served.
type lamp struct {
	mu    sync.Mutex
	lit   bool
	shows Signal
	why   []Reason

	lasting Signal // what the gate goes back to by itself

	looks, newest uint64      // begun, and the last of them that counts
	hung          atomic.Bool // a tap does not come back
}

// Idle is what the lamps show while nobody is served, and why it is not ready.
func (l *Lane) Idle() (Signal, []Reason) {
	l.lamp.mu.Lock()
	defer l.lamp.mu.Unlock()
	return l.lamp.shows, l.lamp.why
}

// look finds out what the lamps have to show while nobody is served, shows it
// when it has changed, and tells of conditions that begin and end.
func (l *Lane) look(ctx context.Context) {
	l.lamp.mu.Lock()
	l.lamp.looks++
	mine := l.lamp.looks
	l.lamp.mu.Unlock()
	shows, why, causes := l.condition()
	l.lamp.mu.Lock()
	if mine < l.lamp.newest { // what was found out since is newer
		l.lamp.mu.Unlock()
		return
	}
	l.lamp.newest = mine
	was := l.lamp.why
	changed := !l.lamp.lit || shows != l.lamp.shows
	l.lamp.lit, l.lamp.shows, l.lamp.why = true, shows, why
	l.lamp.mu.Unlock()
	for i, r := range why {
		if !slices.Contains(was, r) {
			l.Incidents(Incident{At: l.read().at, Gate: l.GateName, Direction: l.Direction, Reason: r, State: Begins, Cause: causes[i]})
		}
	}
	for _, r := range was {
		if !slices.Contains(why, r) {
			l.Incidents(Incident{At: l.read().at, Gate: l.GateName, Direction: l.Direction, Reason: r, State: Ends})
		}
	}
	if changed {
		l.light(shows)
	}
}

// light shows a signal. What lasts a moment only is to end in what the lamps show
// while nobody is served.
func (l *Lane) light(s Signal) {
	if s != ShowEmergency && l.halts.get()&HaltAlarm != 0 {
		return // nothing is more urgent
	}
	l.lamp.mu.Lock()
	defer l.lamp.mu.Unlock()
	switch s {
	case ShowAdmit, ShowDeny, ShowTailgate:
		if l.lamp.lasting != l.lamp.shows {
			l.lamp.lasting = l.lamp.shows
			l.Gate.Show(l.lamp.shows)
		}
	default:
		l.lamp.lasting = s
	}
	l.Gate.Show(s)
}

// condition is what the lamps have to show while nobody is served; why and
// causes say what keeps it from being ready.
func (l *Lane) condition() (shows Signal, why []Reason, causes []error) {
	switch on := l.halts.get(); {
	case on&HaltAlarm != 0:
		return ShowEmergency, nil, nil
	case on != 0, l.lamp.hung.Load():
		return ShowOutOfOrder, nil, nil
	}
	view, err := l.List.Current()
	if err != nil {
		return ShowOutOfOrder, []Reason{DataStale}, []error{err}
	}
	defer view.Release()
	list := view.Manifest()
	if _, err := l.place(list); err != nil {
		reason := DataStale
		if errors.Is(err, ErrUnknownGate) {
			reason = WrongGate
		}
		return ShowOutOfOrder, []Reason{reason}, []error{err}
	}
	now, floor := l.read(), l.Journal.Latest()
	if lost := l.keyLost(instantOf(now.at, floor, list)); lost != nil { // the key of the next tap
		why, causes = []Reason{OutOfOrder}, []error{lost}
		if shows = ShowCaution; len(l.Methods) == 1 {
			shows = ShowOutOfOrder // every card would be denied
		}
	}
	for _, c := range conditions(list, instantOf(now.at, floor, list), now.shown, floor, now.jumped) {
		if !slices.Contains(why, c.reason) {
			why = append(why, c.reason)
			causes = append(causes, fmt.Errorf("policy %v; clock %s, set while running: %t, list issued %s, valid to %s, revocation as of %s, newest record %s",
				c.action, written(now.shown), now.jumped, written(list.IssuedAt), written(list.NotAfter), written(list.RevocationAsOf), written(floor)))
		}
		switch {
		case c.action != whitelist.Warn && c.action != whitelist.Attend:
			shows = ShowOutOfOrder
		case shows == ShowReady:
			shows = ShowCaution
		}
	}
	return shows, why, causes
}

// keyLost is why the terminal's own key cannot sign now.
func (l *Lane) keyLost(at time.Time) error {
	if !slices.Contains(l.Methods, jpki.ExternalAuth) {
		return nil
	}
	return l.Dialogue.TerminalKeyLost(at)
}

func written(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// show shows what the lamps show while nobody is served.
func (l *Lane) show() {
	shows, _ := l.Idle()
	l.light(shows)
}
