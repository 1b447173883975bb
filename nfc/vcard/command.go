package vcard

import (
	"encoding/binary"
	"errors"
)

// command is a parsed command APDU (ISO/IEC 7816-4:2020 §5.2).
type command struct {
	cla, ins, p1, p2 byte
	data             []byte // Nc bytes, nil in cases 1 and 2
	ne               int    // expected response bytes; 0: no Le field (cases 1 and 3)
	extended         bool   // Lc or Le came in extended form
}

var errLength = errors.New("command APDU: wrong length")

// parseCommand decodes the four cases in short and extended form
// (ISO/IEC 7816-3:2006 §12.1.3). Only the length can be wrong.
func parseCommand(b []byte) (command, error) {
	if len(b) < 4 {
		return command{}, errLength
	}
	c := command{cla: b[0], ins: b[1], p1: b[2], p2: b[3]}
	body := b[4:]
	switch {
	case len(body) == 0: // case 1
		return c, nil
	case len(body) == 1: // case 2, short
		c.ne = shortLe(body[0])
		return c, nil
	case body[0] != 0: // cases 3 and 4, short
		nc := int(body[0])
		rest := body[1:]
		if len(rest) == nc+1 {
			c.ne = shortLe(rest[nc])
		} else if len(rest) != nc {
			return command{}, errLength
		}
		c.data = rest[:nc]
		return c, nil
	}

	c.extended = true
	body = body[1:]
	if len(body) < 2 {
		return command{}, errLength
	}
	if len(body) == 2 { // case 2, extended
		c.ne = extendedLe(body)
		return c, nil
	}
	nc := int(binary.BigEndian.Uint16(body))
	rest := body[2:]
	if nc == 0 {
		return command{}, errLength
	}
	switch len(rest) {
	case nc: // case 3, extended
	case nc + 2: // case 4, extended
		c.ne = extendedLe(rest[nc:])
	default:
		return command{}, errLength
	}
	c.data = rest[:nc]
	return c, nil
}

func shortLe(b byte) int {
	if b == 0 {
		return 256
	}
	return int(b)
}

func extendedLe(b []byte) int {
	if n := int(binary.BigEndian.Uint16(b)); n != 0 {
		return n
	}
	return 65536
}
