package pcsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebfe/scard"
)

const (
	// pnp is the pseudo reader whose state changes when readers come or go.
	pnp = `\\?PnP?\Notification`

	// waitTimeout ends a wait for status changes, so that the readers are
	// listed anew: pcsc-lite does not notify of one that comes between
	// listing and waiting.
	waitTimeout = 10 * time.Second

	// SCardCancel has no effect on a wait that is about to begin, and says
	// nothing of it, so it is repeated until the wait has returned.
	cancelEvery = 5 * time.Millisecond
	cancelGrace = 500 * time.Millisecond

	// maxStates is how many readers one call can watch (pcsc-lite:
	// PCSCLITE_MAX_READERS_CONTEXTS, which is also how many there can be).
	maxStates = 16
)

// A session is one PC/SC context. The client library lets one call at a time
// into a context, so the wait for cards and each connected card have their
// own. A session whose call was abandoned releases itself when that call
// returns, and is of no use before.
//
// It is for one goroutine.
type session struct {
	pcsc  *scard.Context
	calls *calls

	// tag sets apart the reader names given to SCardGetStatusChange. The
	// binding keeps the C string alive in a map under the Go string, where a
	// concurrent call with the same name replaces it: the first call would
	// read freed memory. The tag follows a NUL that ends the C string, so
	// only the map sees it. Tags are used again, or the map would grow.
	tag int

	card *scard.Card // nil: the session has no connection
	gone bool        // released, or left to a call that was abandoned
}

// establish begins a session.
func establish(ctx context.Context, c *calls) (*session, error) {
	if n := c.blocked(); n >= maxOrphans {
		return nil, fmt.Errorf("%w: %d calls", ErrStuck, n)
	}
	pcsc, err := do(ctx, c, scard.EstablishContext, func(pcsc *scard.Context, err error) {
		if err == nil {
			_ = pcsc.Release() // nobody is left to tell
		}
	})
	if err != nil {
		return nil, serviceError(err)
	}
	return &session{pcsc: pcsc, calls: c, tag: c.takeTag()}, nil
}

// in makes a call in the session. A call that is abandoned takes the session
// with it, and undo then gets what a late success brought.
func in[T any](ctx context.Context, s *session, f func() (T, error), undo func(T)) (T, error) {
	value, err := do(ctx, s.calls, f, func(value T, err error) {
		if err == nil {
			undo(value)
		}
		_ = s.finish() // nobody is left to tell
	})
	if gone := (abandoned{}); errors.As(err, &gone) {
		s.gone = true
		err = gone.cause
	}
	return value, err
}

func nothing[T any](T) {}

// release cuts the power of the session's card and ends the session, unless
// that has been left to an abandoned call.
func (s *session) release(ctx context.Context) error {
	if s.gone {
		return fmt.Errorf("%w: left to the call that is blocked", ErrStuck)
	}
	s.gone = true
	_, err := do(ctx, s.calls, func() (struct{}, error) {
		return struct{}{}, s.finish()
	}, func(struct{}, error) {})
	return err
}

func (s *session) finish() error {
	defer s.calls.returnTag(s.tag)
	var err error
	if s.card != nil {
		// Before the context: pcscd would only reset the cards of a context
		// that ends, which leaves them their security status.
		err = s.card.Disconnect(scard.UnpowerCard)
	}
	return errors.Join(err, s.pcsc.Release())
}

// connect connects to the card in the slot, with power that nobody used
// before when fresh is set.
func (s *session) connect(ctx context.Context, slot string, fresh bool) error {
	const protocols = scard.ProtocolT0 | scard.ProtocolT1
	card, err := in(ctx, s, func() (*scard.Card, error) {
		card, err := s.pcsc.Connect(slot, scard.ShareExclusive, protocols)
		if err != nil {
			return nil, err
		}
		if fresh {
			err = card.Reconnect(scard.ShareExclusive, protocols, scard.UnpowerCard)
		}
		if err == nil && card.ActiveProtocol()&protocols == 0 {
			err = scard.ErrProtoMismatch
		}
		if err != nil {
			return nil, errors.Join(err, card.Disconnect(scard.UnpowerCard))
		}
		return card, nil
	}, func(card *scard.Card) { _ = card.Disconnect(scard.UnpowerCard) })
	if err != nil {
		return connectError(err)
	}
	s.card = card
	return nil
}

// transmit sends a command APDU to the session's card.
func (s *session) transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	capdu = bytes.Clone(capdu) // an abandoned call still reads it
	return in(ctx, s, func() ([]byte, error) { return s.card.Transmit(capdu) }, nothing)
}

// control asks the reader of the session's card.
func (s *session) control(ctx context.Context, code uint32) ([]byte, error) {
	return in(ctx, s, func() ([]byte, error) { return s.card.Control(code, nil) }, nothing)
}

// readers lists the names of all slots.
func (s *session) readers(ctx context.Context) ([]string, error) {
	names, err := in(ctx, s, s.pcsc.ListReaders, nothing)
	if errors.Is(err, scard.ErrNoReadersAvailable) {
		return nil, nil
	}
	return names, serviceError(err)
}

// status tells the state of the named slots as it is now.
func (s *session) status(ctx context.Context, names []string) ([]scard.ReaderState, error) {
	states := make([]scard.ReaderState, len(names))
	for i, name := range names {
		states[i] = scard.ReaderState{Reader: name, CurrentState: scard.StateUnaware}
	}
	return s.statusChange(ctx, states, 0)
}

// statusChange calls SCardGetStatusChange on a copy of states and gives the
// copy back.
func (s *session) statusChange(ctx context.Context, states []scard.ReaderState, timeout time.Duration) ([]scard.ReaderState, error) {
	if len(states) == 0 {
		return nil, nil
	}
	tagged := make([]scard.ReaderState, len(states))
	for i, st := range states {
		st.Reader = fmt.Sprintf("%s\x00%p/%d", st.Reader, s.calls, s.tag)
		tagged[i] = st
	}
	changed, err := in(ctx, s, func() ([]scard.ReaderState, error) {
		return tagged, s.pcsc.GetStatusChange(tagged, timeout)
	}, nothing)
	if err != nil {
		return nil, serviceError(err)
	}
	for i := range changed {
		changed[i].Reader = states[i].Reader
	}
	return changed, nil
}

// wait waits until a slot differs from states, a reader comes or goes, or
// waitTimeout has passed. It returns the new states, or that they are no longer
// those of the same slots: then the readers have to be listed anew.
func (s *session) wait(ctx context.Context, states []scard.ReaderState) (_ []scard.ReaderState, same bool, _ error) {
	watched := make([]scard.ReaderState, 0, len(states)+1)
	for _, st := range states {
		watched = append(watched, scard.ReaderState{Reader: st.Reader, CurrentState: st.EventState &^ scard.StateChanged})
	}
	if len(watched) < maxStates { // else no further reader can come
		watched = append(watched, scard.ReaderState{Reader: pnp})
	}

	// The call outlives ctx by the time that SCardCancel needs.
	grace, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		s.cancel(grace, abandon)
	})
	changed, err := s.statusChange(grace, watched, waitTimeout)
	abandon(nil)
	if !stop() {
		<-cancelled
	}

	switch {
	case ctx.Err() != nil:
		return nil, false, context.Cause(ctx)
	case errors.Is(err, scard.ErrTimeout), errors.Is(err, scard.ErrUnknownReader), errors.Is(err, scard.ErrCancelled):
		// A wait that nobody cancelled can be hit by a SCardCancel that was
		// given up before.
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	for _, st := range changed {
		if st.Reader == pnp && st.EventState&scard.StateChanged != 0 || st.EventState&scard.StateUnknown != 0 {
			return nil, false, nil
		}
	}
	return changed[:len(states)], true, nil
}

// cancel makes the wait return, and gives it up when that takes too long. The
// wait has returned when grace ends.
func (s *session) cancel(grace context.Context, abandon context.CancelCauseFunc) {
	defer abandon(nil)
	// SCardCancel talks to pcscd, so it can block like everything else. It
	// is let come back even when the wait already has: the next wait of this
	// context would be hit by it.
	bound, stop := context.WithTimeout(context.Background(), cancelGrace)
	defer stop()
	for grace.Err() == nil && bound.Err() == nil {
		_, _ = do(bound, s.calls, func() (struct{}, error) {
			return struct{}{}, s.pcsc.Cancel()
		}, func(struct{}, error) {}) // an error is as good as no effect
		select {
		case <-grace.Done():
		case <-bound.Done():
		case <-time.After(cancelEvery):
		}
	}
}
