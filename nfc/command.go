package nfc

import (
	"errors"
	"fmt"
)

// Sizes of ISO/IEC 7816-3:2006 §12.1.3, in bytes.
const (
	maxShortNc    = 255
	maxShortNe    = 256
	maxExtendedNc = 65535
	maxExtendedNe = 65536
)

// A Command is a command APDU.
type Command struct {
	CLA, INS, P1, P2 byte

	// Data is the command data field, 0 to 65535 bytes.
	Data []byte

	// Ne is the greatest number of response bytes expected, 0 to 65536.
	// Zero means that no response data is expected (no Le field).
	Ne int

	// Extended asks for extended length fields where short ones would do.
	// Longer data or a greater Ne is sent extended anyway, unless it is Chained.
	Extended bool

	// Chained keeps to short length fields: a Channel sends longer data in a
	// chain of commands, and gets a longer answer by 61xx and GET RESPONSE
	// (ISO/IEC 7816-4:2020 §5.3.3, §5.3.4). It goes before Extended.
	Chained bool
}

// IsExtended reports whether the command is sent with extended length fields.
// A command without data and without Ne has no length field to extend.
func (c Command) IsExtended() bool {
	if c.Chained || len(c.Data) == 0 && c.Ne == 0 {
		return false
	}
	return c.Extended || len(c.Data) > maxShortNc || c.Ne > maxShortNe
}

// Append appends the command's bytes to dst: case 1 (header alone), 2 (Le),
// 3 (data) or 4 (both), short or extended (ISO/IEC 7816-3:2006 §12.1.3). It fails
// when a field is out of range.
func (c Command) Append(dst []byte) ([]byte, error) {
	nc := len(c.Data)
	if nc > maxExtendedNc {
		return nil, fmt.Errorf("command INS %02X: data of %d bytes, at most %d", c.INS, nc, maxExtendedNc)
	}
	if c.Ne < 0 || c.Ne > maxExtendedNe {
		return nil, fmt.Errorf("command INS %02X: Ne of %d, at most %d", c.INS, c.Ne, maxExtendedNe)
	}
	if c.Chained && nc > maxShortNc {
		return nil, fmt.Errorf("command INS %02X: data of %d bytes for one command of a chain, at most %d", c.INS, nc, maxShortNc)
	}
	dst = append(dst, c.CLA, c.INS, c.P1, c.P2)
	if !c.IsExtended() {
		if nc > 0 {
			dst = append(dst, byte(nc))
			dst = append(dst, c.Data...)
		}
		if c.Ne > 0 {
			dst = append(dst, byte(min(c.Ne, maxShortNe))) // 256 is written 00
		}
		return dst, nil
	}
	dst = append(dst, 0)
	if nc > 0 {
		dst = append(dst, byte(nc>>8), byte(nc))
		dst = append(dst, c.Data...)
	}
	if c.Ne > 0 {
		dst = append(dst, byte(c.Ne>>8), byte(c.Ne)) // 65536 is written 00 00
	}
	return dst, nil
}

// ErrMalformedCommand says that bytes are not a command APDU.
var ErrMalformedCommand = errors.New("malformed command APDU")

// ParseCommand reads the bytes of one command APDU. It is the inverse of
// Append; recorded sessions are read with it.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes, a header has 4", ErrMalformedCommand, len(b))
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	body := b[4:]
	switch {
	case len(body) == 0: // case 1
		return c, nil
	case len(body) == 1: // case 2 short
		c.Ne = lengthOr(int(body[0]), maxShortNe)
		return c, nil
	case body[0] != 0: // case 3 or 4 short
		return c.parseTail(body[1:], int(body[0]), 1)
	case len(body) == 3: // case 2 extended
		c.Extended = true
		c.Ne = lengthOr(int(body[1])<<8|int(body[2]), maxExtendedNe)
		return c, nil
	case len(body) > 3: // case 3 or 4 extended
		c.Extended = true
		return c.parseTail(body[3:], int(body[1])<<8|int(body[2]), 2)
	}
	return Command{}, fmt.Errorf("%w: incomplete length field", ErrMalformedCommand)
}

// parseTail reads nc bytes of data and a Le field of leSize bytes, if any.
func (c Command) parseTail(tail []byte, nc, leSize int) (Command, error) {
	if nc == 0 || len(tail) != nc && len(tail) != nc+leSize {
		return Command{}, fmt.Errorf("%w: Lc %d before %d bytes", ErrMalformedCommand, nc, len(tail))
	}
	c.Data = tail[:nc:nc]
	switch le := tail[nc:]; len(le) {
	case 1:
		c.Ne = lengthOr(int(le[0]), maxShortNe)
	case 2:
		c.Ne = lengthOr(int(le[0])<<8|int(le[1]), maxExtendedNe)
	}
	return c, nil
}

// lengthOr gives n, or the greatest length where the field is written zero.
func lengthOr(n, greatest int) int {
	if n == 0 {
		return greatest
	}
	return n
}
