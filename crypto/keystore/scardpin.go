package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/nfc"
)

// A cardPIN is a reference value that VERIFY takes (ISO/IEC 7816-4:2020 §11.6.6).
type cardPIN struct {
	ref         byte // P2 of VERIFY
	least, most int  // characters
	padded      int  // bytes that are sent, with FF behind the PIN; 0: as it is

	// full is how many tries there are after a right PIN: with fewer left,
	// somebody has been wrong.
	full int

	// shows says that VERIFY without data answers 9000 once it is verified. A
	// JPKI card always tells the tries.
	shows bool
}

// value is what VERIFY carries. A PIN that cannot be one is not sent: the card
// would count it.
func (p cardPIN) value(pin []byte) ([]byte, error) {
	if len(pin) < p.least || len(pin) > p.most {
		want := fmt.Sprintf("%d", p.least)
		if p.least != p.most {
			want = fmt.Sprintf("%d to %d", p.least, p.most)
		}
		return nil, fmt.Errorf("%w: what it holds is no PIN of this card: want %s characters; it was not sent", ErrKeySource, want)
	}
	value := make([]byte, max(len(pin), p.padded))
	for i := copy(value, pin); i < len(value); i++ {
		value[i] = 0xFF
	}
	return value, nil
}

// A pinState is what a card says of a PIN that is not locked.
type pinState struct {
	verified bool
	left     int  // tries
	known    bool // that number: not when verified, nor without a limit
}

// pinState asks for it, and spends nothing. The error is a *PINError when the PIN
// is locked, ErrNoKey when the card has no such PIN.
func (c *cardSession) pinState(ctx context.Context) (pinState, error) {
	_, err := c.ch.Do(ctx, nfc.Command{INS: 0x20, P2: c.key.pin.ref})
	if err == nil {
		return pinState{verified: true}, nil
	}
	status, answered := errors.AsType[*nfc.StatusError](err)
	switch {
	case !answered:
		return pinState{}, gone(fmt.Errorf("asking for the tries of the PIN: %w", err))
	case errors.Is(err, nfc.ErrBlocked):
		return pinState{}, &PINError{Medium: c.name, Locked: true}
	case status.SW == 0x6300: // no limit (card-facts §3)
		return pinState{}, nil
	case missing(err):
		return pinState{}, fmt.Errorf("%w: key %02X has no PIN here: %w", ErrNoKey, c.key.ref, err)
	}
	left, known := status.TriesLeft()
	if !known {
		return pinState{}, fmt.Errorf("asking for the tries of the PIN: %w", err)
	}
	return pinState{left: left, known: true}, nil
}

// unlock verifies the PIN of the key, where it needs one. A PIN is sent when no
// try is missing, or when a person has said so (Store.RetryPIN).
func (c *cardSession) unlock(ctx context.Context) error {
	if c.key.free {
		return nil
	}
	state, err := c.pinState(ctx)
	if err != nil {
		return err
	}
	if state.verified && !c.key.each {
		return nil
	}
	notSent := &PINError{Medium: c.name, NotSent: true, Left: state.left, Known: state.known}
	spent := state.known && state.left < c.key.pin.full
	if spent && !c.pins.mayTry(state.left, true) {
		return notSent
	}
	pin, err := c.pins.read(c.name)
	if _, wrong := errors.AsType[*PINError](err); wrong {
		return notSent
	}
	if err != nil {
		return err
	}
	defer clear(pin)
	value, err := c.key.pin.value(pin)
	if err != nil {
		return err
	}
	defer clear(value)

	_, err = c.ch.Do(ctx, nfc.Command{INS: 0x20, P2: c.key.pin.ref, Data: value})
	if err == nil {
		return nil
	}
	status, answered := errors.AsType[*nfc.StatusError](err)
	if answered || spent {
		// Without an answer nobody knows what the card has counted. Then it is
		// asked before the next time; but a person has allowed one try.
		c.pins.called(pin)
	}
	if !answered {
		return gone(fmt.Errorf("verifying the PIN: %w", err))
	}
	refused := &PINError{Medium: c.name, Locked: errors.Is(err, nfc.ErrBlocked)}
	switch refused.Left, refused.Known = status.TriesLeft(); {
	case refused.Known, refused.Locked, status.SW == 0x6300:
		return refused
	}
	return fmt.Errorf("verifying the PIN: %w", err)
}
