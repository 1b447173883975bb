package pcsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebfe/scard"

	"github.com/gate-agent/gate-agent/nfc"
)

// A card is an exclusive connection. It implements nfc.Card and, like every
// card, is for one goroutine.
type card struct {
	lane    *Lane
	session *session // its own
	slot    string
	at      time.Time

	released bool
}

// connect powers up the card in s, which was observed at that instant. It
// returns neither card nor error when the card that it reached is another.
func (l *Lane) connect(ctx context.Context, s *slot, at time.Time) (*card, error) {
	counter := s.counter
	session, err := l.power(ctx, s)
	switch {
	case ctx.Err() != nil:
		// The card stays to be reported by the next call of Next.
		return nil, errors.Join(context.Cause(ctx), l.release(session))
	case errors.Is(err, nfc.ErrRemoved), errors.Is(err, ErrUnresponsive), errors.Is(err, ErrBusy):
		s.reported(counter)
		return nil, &nfc.CardError{Slot: s.name, Detected: at, Err: err}
	case err != nil:
		return nil, err
	}
	// A card can leave and another come while power is tried for. Only when
	// none did is the one reached the one that the counter stands for.
	bound, cancel := timeoutCause(ctx, l.opt.Connect, ErrStuck)
	defer cancel()
	states, err := session.status(bound, []string{s.name})
	if err != nil || uint16(states[0].EventState>>16) != counter {
		return nil, errors.Join(err, l.release(session))
	}
	s.reported(counter)
	return &card{lane: l, session: session, slot: s.name, at: at}, nil
}

// power connects to the card in s. A card at the edge of the field may need
// several tries, and one that another program looks at some patience.
func (l *Lane) power(ctx context.Context, s *slot) (*session, error) {
	bound, cancel := timeoutCause(ctx, l.opt.Connect, ErrNoService)
	defer cancel()
	session, err := establish(bound, &l.calls)
	if err != nil {
		return nil, err
	}
	ctx, cancel = timeoutCause(ctx, l.opt.Connect, ErrUnresponsive)
	defer cancel()
	for fresh := s.stale; ; {
		err := session.connect(ctx, s.name, fresh)
		switch {
		case err == nil:
			return session, nil
		case errors.Is(err, ErrBusy):
			fresh = true
		case !errors.Is(err, ErrUnresponsive):
			return nil, errors.Join(err, l.release(session))
		}
		select {
		case <-time.After(connectEvery):
		case <-ctx.Done():
			return nil, errors.Join(err, l.release(session))
		}
	}
}

// release ends a session of the lane, which may be nil.
func (l *Lane) release(s *session) error {
	if s == nil {
		return nil
	}
	ctx, cancel := timeoutCause(context.Background(), l.opt.Release, ErrStuck)
	defer cancel()
	return s.release(ctx)
}

func (c *card) Slot() string        { return c.slot }
func (c *card) Detected() time.Time { return c.at }

// Transmit implements nfc.Transmitter. When ctx or the lane's own bound ends,
// it returns the cause at once; the command may still be executed, and the
// card is then good for nothing but Release.
func (c *card) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	if len(capdu) < 4 {
		return nil, fmt.Errorf("%w: %d bytes, a header has 4", nfc.ErrMalformedCommand, len(capdu))
	}
	if c.session.gone {
		return nil, fmt.Errorf("card in %q was let go: %w", c.slot, nfc.ErrRemoved)
	}
	ctx, cancel := timeoutCause(ctx, c.lane.opt.Transmit, ErrUnresponsive)
	defer cancel()
	rapdu, err := c.session.transmit(ctx, capdu)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, scard.ErrNotTransacted) && isExtended(capdu) && c.session.shortOnly(ctx):
		return nil, fmt.Errorf("%w: %w", nfc.ErrExtendedLength, err)
	case err != nil:
		return nil, transmitError(err, capdu)
	case len(rapdu) == 0:
		// What vpcd and some drivers make of a card that left in the middle
		// of a command.
		return nil, fmt.Errorf("%w: empty response", nfc.ErrRemoved)
	}
	// The binding's buffer has room for the longest response there is: keep
	// the bytes, not the 64 KiB.
	return bytes.Clone(rapdu), nil
}

// Alone implements nfc.Card.
func (c *card) Alone(ctx context.Context) (bool, error) {
	if c.session.gone {
		return false, fmt.Errorf("card in %q was let go: %w", c.slot, nfc.ErrRemoved)
	}
	ctx, cancel := timeoutCause(ctx, c.lane.opt.Transmit, ErrStuck)
	defer cancel()
	states, err := c.lane.states(ctx, c.session)
	if err != nil {
		return false, fmt.Errorf("looking into the other slots: %w", err)
	}
	for _, st := range states {
		if st.Reader != c.slot && st.EventState&scard.StatePresent != 0 {
			return false, nil
		}
	}
	return true, nil
}

// Release implements nfc.Card. After the first time it does nothing. The
// error is ErrStuck when the reader has not come back from the last command:
// power is then cut when it does.
func (c *card) Release() error {
	if c.released {
		return nil
	}
	c.released = true
	if err := c.lane.release(c.session); err != nil {
		return fmt.Errorf("releasing the card in %q: %w", c.slot, err)
	}
	return nil
}
