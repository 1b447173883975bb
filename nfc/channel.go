package nfc

import (
	"context"
	"errors"
	"fmt"
)

// ErrMalformed says that a response breaks ISO/IEC 7816-4: more data than was
// asked for, or a chain of 61xx that does not progress.
var ErrMalformed = errors.New("malformed response")

// A Channel is one uninterrupted session with a powered card. It counts what
// it carries. It is for one goroutine.
//
//	         ┌────────── 6Cxx: once more, Le = xx
//	         ├────────── 6F00 to the first command: once more
//	Do ──▶ command ──▶ 9000 ─────────────────▶ data
//	         │         61xx ─▶ GET RESPONSE ─▶ data, until 9000
//	         └───────▶ anything else ────────▶ *StatusError
type Channel struct {
	t     Transmitter
	stats Stats
}

// Stats says what a channel has carried, GET RESPONSE and repeats included.
type Stats struct {
	Commands int // command APDUs sent
	Bytes    int // bytes of command and response APDUs
}

// NewChannel begins a session over t with a card that has just been powered.
func NewChannel(t Transmitter) *Channel { return &Channel{t: t} }

// Stats gives the counts so far.
func (c *Channel) Stats() Stats { return c.stats }

// claChain is the bit of the class byte that says that more of the command
// follows (ISO/IEC 7816-4:2020 §5.4.1).
const claChain = 0x10

// Do sends cmd and returns the response data of a 9000. Any other outcome is
// an error: *StatusError, ErrRemoved, ErrMalformed, or what the Transmitter
// said. The data is at most cmd.Ne bytes long, so a card that never stops
// answering 61xx cannot fill the memory.
func (c *Channel) Do(ctx context.Context, cmd Command) ([]byte, error) {
	for cmd.Chained && len(cmd.Data) > maxShortNc {
		part := Command{CLA: cmd.CLA | claChain, INS: cmd.INS, P1: cmd.P1, P2: cmd.P2, Data: cmd.Data[:maxShortNc]}
		if _, sw, err := c.exchange(ctx, part); err != nil {
			return nil, err
		} else if sw != SWSuccess {
			return nil, &StatusError{INS: cmd.INS, SW: sw}
		}
		cmd.Data = cmd.Data[maxShortNc:]
	}
	data, sw, err := c.exchange(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if sw == SWUnknown && c.stats.Commands == 1 {
		// Some cards answer the first command after power-up so, and have
		// not executed it.
		if data, sw, err = c.exchange(ctx, cmd); err != nil {
			return nil, err
		}
	}
	if sw&0xFF00 == 0x6C00 && cmd.Ne > 0 {
		// xx is the exact length available (ISO/IEC 7816-4:2020 §5.6); once is
		// enough for a card that keeps its word.
		again := cmd
		again.Ne = lengthOr(int(sw&0xFF), maxShortNe)
		again.Extended = cmd.IsExtended()
		if again.Ne > cmd.Ne {
			return nil, fmt.Errorf("%w: INS %02X: SW %04X offers more than Ne %d", ErrMalformed, cmd.INS, uint16(sw), cmd.Ne)
		}
		if data, sw, err = c.exchange(ctx, again); err != nil {
			return nil, err
		}
	}
	if sw&0xFF00 == 0x6100 && cmd.Ne > 0 {
		return c.getResponse(ctx, cmd, data, sw)
	}
	return finish(cmd, data, sw)
}

// getResponse collects the data that 61xx announces (ISO/IEC 7816-4:2020 §5.3.4).
// What came with the first 61xx is the beginning of it. Every round must bring
// at least one byte and all of it at most cmd.Ne, which bounds the rounds.
func (c *Channel) getResponse(ctx context.Context, cmd Command, data []byte, sw SW) ([]byte, error) {
	for sw&0xFF00 == 0x6100 {
		room := cmd.Ne - len(data)
		if room <= 0 {
			return nil, fmt.Errorf("%w: INS %02X: SW %04X after all %d bytes", ErrMalformed, cmd.INS, uint16(sw), cmd.Ne)
		}
		ne := min(lengthOr(int(sw&0xFF), maxShortNe), room)
		more, next, err := c.exchange(ctx, Command{CLA: cmd.CLA & 0x03, INS: 0xC0, Ne: ne})
		if err != nil {
			return nil, err
		}
		if len(more) == 0 && next&0xFF00 == 0x6100 {
			return nil, fmt.Errorf("%w: INS %02X: GET RESPONSE brings nothing and promises more", ErrMalformed, cmd.INS)
		}
		data, sw = append(data, more...), next
	}
	return finish(cmd, data, sw)
}

// finish turns a final status word into data or an error. To a command that
// asked for no data, 61xx is success too: there would be some.
func finish(cmd Command, data []byte, sw SW) ([]byte, error) {
	if sw != SWSuccess && (cmd.Ne > 0 || sw&0xFF00 != 0x6100) {
		return nil, &StatusError{INS: cmd.INS, SW: sw}
	}
	if len(data) > cmd.Ne {
		return nil, fmt.Errorf("%w: INS %02X: %d bytes, Ne was %d", ErrMalformed, cmd.INS, len(data), cmd.Ne)
	}
	return data, nil
}

// exchange carries one command-response pair.
func (c *Channel) exchange(ctx context.Context, cmd Command) ([]byte, SW, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, context.Cause(ctx)
	}
	capdu, err := cmd.Append(make([]byte, 0, 10+len(cmd.Data)))
	if err != nil {
		return nil, 0, err
	}
	rapdu, err := c.t.Transmit(ctx, capdu)
	c.stats.Commands++
	c.stats.Bytes += len(capdu) + len(rapdu)
	if err != nil {
		// Whoever has given up on the reader must leave it the command.
		return nil, 0, fmt.Errorf("INS %02X: %w", cmd.INS, err)
	}
	clear(capdu) // it may have been a PIN
	data, sw, err := ParseResponse(rapdu)
	if err != nil {
		return nil, 0, fmt.Errorf("INS %02X: %w", cmd.INS, err)
	}
	return data, sw, nil
}

// ParseResponse splits a response APDU into its data field and status word
// (ISO/IEC 7816-3:2006 §12.1.2). An empty response is ErrRemoved: readers report a
// card that left in the middle of a command so, and call it success.
func ParseResponse(rapdu []byte) (data []byte, sw SW, err error) {
	switch n := len(rapdu); {
	case n == 0:
		return nil, 0, ErrRemoved
	case n == 1:
		return nil, 0, fmt.Errorf("%w: 1 byte, a status word has 2", ErrMalformed)
	case n > maxExtendedNe+2:
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, n, maxExtendedNe+2)
	default:
		return rapdu[: n-2 : n-2], SW(rapdu[n-2])<<8 | SW(rapdu[n-1]), nil
	}
}
