package adversary

import (
	"bytes"
	"encoding/binary"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// command is a command APDU as an adversary reads it (ISO/IEC 7816-4:2020 §5.2).
// What it cannot read it takes for a command without data.
type command struct {
	raw              []byte
	n                int // in the session, from 1
	cla, ins, p1, p2 byte
	data             []byte
	ne               int // response bytes asked for
}

func parse(raw []byte, n int) command {
	c := command{raw: raw, n: n}
	if len(raw) < 4 {
		return c
	}
	c.cla, c.ins, c.p1, c.p2 = raw[0], raw[1], raw[2], raw[3]
	body := raw[4:]
	size := 1 // of Lc and Le
	if len(body) > 2 && body[0] == 0 {
		body, size = body[1:], 2
	}
	number := func(b []byte) int {
		if size == 1 {
			return int(b[0])
		}
		return int(binary.BigEndian.Uint16(b))
	}
	if len(body) > size {
		if nc := number(body); len(body) >= size+nc {
			c.data, body = body[size:size+nc], body[size+nc:]
		}
	}
	if len(body) == size {
		if c.ne = number(body); c.ne == 0 {
			c.ne = 1 << (8 * size)
		}
	}
	return c
}

// when chooses commands.
type when func(command) bool

func always(command) bool { return true }

// instruction is every command with that CLA and INS.
func instruction(cla, ins byte) when {
	return func(c command) bool { return c.cla == cla && c.ins == ins }
}

func both(a, b when) when { return func(c command) bool { return a(c) && b(c) } }

// The steps of the dialogues (docs/protocol.md), as they are seen on the wire.
var (
	selecting  = instruction(0x00, 0xA4)
	reading    = instruction(0x00, 0xB0)
	presenting = instruction(0x80, 0xA2)

	selectJPKI       = both(selecting, func(c command) bool { return bytes.Equal(c.data, vcard.AIDJPKI()) })
	selectSurface    = both(selecting, func(c command) bool { return bytes.Equal(c.data, vcard.AIDSurface()) })
	selectTerminalCA = both(selecting, func(c command) bool { return c.p1 == 0x02 })
	readHead         = readFirst(0x0A)
	readRest         = both(reading, func(c command) bool { return c.p1&0x80 == 0 })
	readRecord       = readFirst(0x01)
	readSigner       = readFirst(0x04)
	putBody          = both(presenting, func(c command) bool { return c.p1 == 0x06 })
	putSignature     = both(presenting, func(c command) bool { return c.p1 == 0x00 })
	getChallenge     = instruction(0x00, 0x84)
	getResponse      = instruction(0x00, 0xC0)
	authenticate     = instruction(0x00, 0x82)
	verifying        = instruction(0x00, 0x20)
	askTries         = both(verifying, func(c command) bool { return c.data == nil })
	verify           = both(verifying, func(c command) bool { return c.data != nil })
	sign             = instruction(0x80, 0x2A)
)

// readFirst is READ BINARY that names the EF by its short identifier.
func readFirst(sfi byte) when {
	return both(reading, func(c command) bool { return c.p1 == 0x80|sfi })
}

// once is the first command that w chooses, and no later one.
func once(w when) when {
	done := false
	return func(c command) bool {
		if done || !w(c) {
			return false
		}
		done = true
		return true
	}
}

// since is every command from the first one on that w chooses.
func since(w when) when {
	begun := false
	return func(c command) bool { begun = begun || w(c); return begun }
}

// after is every command behind the first one that w chooses.
func after(w when) when {
	begun := false
	return func(c command) bool {
		if begun {
			return true
		}
		begun = w(c)
		return false
	}
}
