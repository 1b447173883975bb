// Package pcsc finds cards in the PC/SC readers of one lane.
//
// It promises that a card is reported once for each time that it comes, that
// no two programs talk to it, that a card which is let go has lost its power
// and with it its security status, and that no call outlasts its deadline,
// whatever a reader, its driver or pcscd do. Readers may come and go and
// pcscd may restart meanwhile.
//
// Specification: PC/SC part 5 (the resource manager), as pcsc-lite implements
// it. Where its behaviour goes beyond its documentation, the code names the
// source file.
package pcsc

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/ebfe/scard"

	"github.com/gate-agent/gate-agent/nfc"
)

// Options say which slots make up a lane. The zero value of a duration stands
// for its default.
type Options struct {
	// Readers names the slots, by their PC/SC names or by patterns in the
	// syntax of path.Match; a name that contains a bracket needs no escape
	// when it is written in full. Empty means every slot.
	Readers []string

	// Present also reports a card that already lies in a slot when the lane
	// first sees it. A command that reads one card wants that; a gate does
	// not, for a restart must not read a forgotten card again.
	Present bool

	// Settle is how long after a slot came into sight a card that shows up
	// counts as one that lay there before; default 1 s. It does not apply
	// with Present to slots never seen before.
	Settle time.Duration

	// Connect bounds the powering-up of a card, the wait for another program
	// to let go of it included; default 2 s.
	Connect time.Duration

	// Transmit bounds one command, so that it ends even when its context
	// does not; default 10 s, four times the longest frame waiting time seen
	// on cards.
	Transmit time.Duration

	// Release bounds the powering-down of a card, and Close; default 1 s.
	Release time.Duration
}

// Times between two tries: to reach pcscd, and to power up a card.
const (
	retryMin     = 50 * time.Millisecond
	retryMax     = 2 * time.Second
	connectEvery = 25 * time.Millisecond
)

// A Lane waits for cards in a set of slots. Next is for one goroutine at a
// time; Status and Close may be called from any.
type Lane struct {
	opt   Options
	calls calls

	life context.Context // ends with Close
	end  context.CancelCauseFunc

	turn  sync.Mutex // held by Next; guards what follows
	watch *session   // nil before it is needed and after pcscd was lost
	slots map[string]*slot
}

// Open makes a lane. It does not need pcscd: Next waits for that too. The
// error is a malformed pattern.
func Open(opt Options) (*Lane, error) {
	for _, pattern := range opt.Readers {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("reader %q: %w", pattern, err)
		}
	}
	for d, preset := range map[*time.Duration]time.Duration{
		&opt.Settle:   time.Second,
		&opt.Connect:  2 * time.Second,
		&opt.Transmit: 10 * time.Second,
		&opt.Release:  time.Second,
	} {
		if *d == 0 {
			*d = preset
		}
	}
	l := &Lane{opt: opt, slots: make(map[string]*slot)}
	l.life, l.end = context.WithCancelCause(context.Background())
	return l, nil
}

// Next waits for a card and connects to it. It returns the cause of ctx's end,
// ErrClosed, or a *nfc.CardError for a card that could not be connected to, after
// which it is called again. It outlasts readers and pcscd: what they lack is
// told by Status.
func (l *Lane) Next(ctx context.Context) (nfc.Card, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.life, func() { cancel(ErrClosed) })()

	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		began := time.Now()
		c, err := l.next(ctx)
		if err == nil {
			return c, nil
		}
		if l.watch != nil && l.watch.gone {
			l.watch = nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if cardErr := (*nfc.CardError)(nil); errors.As(err, &cardErr) {
			return nil, cardErr
		}
		// pcscd is not there, or not any more.
		l.lose()
		if time.Since(began) > retryMax {
			pause = retryMin
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lose forgets what was known from pcscd, save which cards were reported.
func (l *Lane) lose() {
	if l.watch != nil {
		_ = l.release(l.watch) // it is lost either way
		l.watch = nil
	}
	for _, s := range l.slots {
		s.lost()
	}
}

// next is one life of a session with pcscd. An error that is neither a
// *nfc.CardError nor the end of ctx ends that life.
func (l *Lane) next(ctx context.Context) (*card, error) {
	if l.watch == nil {
		w, err := establish(ctx, &l.calls)
		if err != nil {
			return nil, err
		}
		l.watch = w
	}
	for {
		states, err := l.states(ctx, l.watch)
		if err != nil {
			return nil, err
		}
		l.sight(states)
		for same := true; same; {
			at := time.Now()
			if s := l.observe(states, at); s != nil {
				c, err := l.connect(ctx, s, at)
				if c != nil || err != nil {
					return c, err
				}
				break // another card came meanwhile: look again
			}
			if states, same, err = l.watch.wait(ctx, states); err != nil {
				return nil, err
			}
		}
	}
}

// sight takes in which slots there are.
func (l *Lane) sight(states []scard.ReaderState) {
	for name, s := range l.slots {
		if !slices.ContainsFunc(states, func(st scard.ReaderState) bool { return st.Reader == name }) {
			s.lost()
		}
	}
	for _, st := range states {
		if l.slots[st.Reader] == nil {
			l.slots[st.Reader] = &slot{name: st.Reader}
		}
	}
}

// observe takes in what the slots hold, and gives one whose card is to be
// reported, nil when there is none.
func (l *Lane) observe(states []scard.ReaderState, at time.Time) *slot {
	var due *slot
	for _, st := range states {
		s := l.slots[st.Reader]
		s.observe(st, at, l.opt.Settle, l.opt.Present)
		if s.due && due == nil {
			due = s
		}
	}
	return due
}

// readers lists the slots of the lane.
func (l *Lane) readers(ctx context.Context, s *session) ([]string, error) {
	names, err := s.readers(ctx)
	if err != nil {
		return nil, err
	}
	if len(l.opt.Readers) > 0 {
		names = slices.DeleteFunc(names, func(name string) bool {
			return !slices.ContainsFunc(l.opt.Readers, func(pattern string) bool {
				matched, _ := path.Match(pattern, name) // Open has checked the pattern
				return matched || pattern == name
			})
		})
	}
	return names, nil
}

// A Status says what a lane has to work with.
type Status struct {
	Slots   []Slot // those of the lane that are there, as pcscd orders them
	Blocked int    // calls that do not come back; see ErrStuck
}

// A Slot is the state of one slot.
type Slot struct {
	Name  string // as PC/SC names the reader
	Card  bool   // holds a card
	Mute  bool   // holds a card that does not answer to power-up
	InUse bool   // this or another program is connected to the card
}

// Status asks pcscd for the slots of the lane. The error is ErrNoService when
// nobody answers; Blocked is told all the same.
func (l *Lane) Status(ctx context.Context) (Status, error) {
	status := Status{Blocked: l.calls.blocked()}
	s, err := establish(ctx, &l.calls)
	if err != nil {
		return status, fmt.Errorf("asking for the readers: %w", err)
	}
	defer l.release(s)
	states, err := l.states(ctx, s)
	if err != nil {
		return status, fmt.Errorf("asking for the readers: %w", err)
	}
	for _, st := range states {
		status.Slots = append(status.Slots, Slot{
			Name:  st.Reader,
			Card:  st.EventState&scard.StatePresent != 0,
			Mute:  st.EventState&scard.StateMute != 0,
			InUse: st.EventState&(scard.StateInuse|scard.StateExclusive) != 0,
		})
	}
	return status, nil
}

// states tells what the slots of the lane hold now.
func (l *Lane) states(ctx context.Context, s *session) ([]scard.ReaderState, error) {
	for {
		names, err := l.readers(ctx, s)
		if err != nil {
			return nil, err
		}
		states, err := s.status(ctx, names)
		if !errors.Is(err, scard.ErrUnknownReader) { // it went since it was listed
			return states, err
		}
	}
}

// Close ends the lane: Next returns ErrClosed, and Close waits for what is
// under way in the PC/SC service. The error is ErrStuck when something stays
// blocked there; it clears up after itself should it ever come back. Cards
// that Next has given out stay usable, and are released by who has them.
func (l *Lane) Close() error {
	l.end(ErrClosed)
	l.turn.Lock()
	defer l.turn.Unlock()
	l.lose()
	ctx, cancel := context.WithTimeout(context.Background(), l.opt.Release)
	defer cancel()
	if err := l.calls.wait(ctx); err != nil {
		return fmt.Errorf("closing the lane: %w", err)
	}
	return nil
}
