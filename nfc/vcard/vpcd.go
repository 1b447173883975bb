package vcard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The control codes of vpcd, each a message of one byte.
const (
	vpcdOff   = 0
	vpcdOn    = 1
	vpcdReset = 2
	vpcdATR   = 4
)

// A Device is what lies on a virtual reader: a Card, or whatever else a test
// wants there. Transmit answers a command APDU; [ErrUnpowered] says that there
// is no power to do it with, and any other error ends the session without an
// answer.
type Device interface {
	PowerOn()
	PowerOff()
	Reset()
	ATR() []byte
	Transmit(ctx context.Context, capdu []byte) ([]byte, error)
}

// Serve lets the card speak the protocol of vpcd: see the function of that name.
func (c *Card) Serve(ctx context.Context, rw io.ReadWriter) error { return Serve(ctx, rw, c) }

// Serve lets a device speak the protocol of vpcd, the virtual reader of
// vsmartcard, in which the card is the client: messages of a 2-byte big-endian
// length and a payload that is a control code or a command APDU. It returns nil
// when the other side ends between two messages, and the error of ctx when that
// ends; a rw with SetReadDeadline (every net.Conn) is then woken from its Read.
//
// The caller dials, and closes. vpcd writes length and payload apart, so on
// Linux the caller should set TCP_QUICKACK before each Read or lose some 40 ms
// with every command.
func Serve(ctx context.Context, rw io.ReadWriter, device Device) error {
	if d, ok := rw.(interface{ SetReadDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	var length [2]byte
	buf := make([]byte, 1<<16)
	for {
		_, err := io.ReadFull(rw, length[:])
		if err == io.EOF {
			return nil
		}
		message := buf[:binary.BigEndian.Uint16(length[:])]
		if err == nil {
			_, err = io.ReadFull(rw, message)
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // a length without its payload
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("reading from vpcd: %w", err)
		}
		reply, err := answer(ctx, device, message)
		if err != nil {
			return err
		}
		if reply == nil {
			continue
		}
		reply = append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)
		if _, err := rw.Write(reply); err != nil {
			return fmt.Errorf("writing to vpcd: %w", err)
		}
	}
}

// answer acts on one message and returns the reply, nil where vpcd expects none.
func answer(ctx context.Context, device Device, m []byte) ([]byte, error) {
	if len(m) == 1 {
		switch m[0] {
		case vpcdOff:
			device.PowerOff()
			return nil, nil
		case vpcdOn:
			device.PowerOn()
			return nil, nil
		case vpcdReset:
			device.Reset()
			return nil, nil
		case vpcdATR:
			return device.ATR(), nil
		}
	}
	rapdu, err := device.Transmit(ctx, m)
	if errors.Is(err, ErrUnpowered) {
		// vpcd waits for an answer whatever it asked.
		return only(swUnknown).bytes(), nil
	}
	return rapdu, err
}
