package vcard

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// encode is the inverse of parseCommand (ISO/IEC 7816-3:2006 §12.1.3).
func (c command) encode() []byte {
	b := []byte{c.cla, c.ins, c.p1, c.p2}
	if !c.extended {
		if c.data != nil {
			b = append(append(b, byte(len(c.data))), c.data...)
		}
		if c.ne != 0 {
			b = append(b, byte(c.ne))
		}
		return b
	}
	b = append(b, 0)
	if c.data != nil {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(c.data))), c.data...)
	}
	if c.ne != 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(c.ne))
	}
	return b
}

func TestParseCommandKnowsTheFourCases(t *testing.T) {
	header := "\x00\xB0\x01\x02"
	for _, c := range []struct {
		name     string
		body     string
		data     string
		ne       int
		extended bool
	}{
		{"case 1", "", "", 0, false},
		{"case 2 short", "\x05", "", 5, false},
		{"case 2 short, most", "\x00", "", 256, false},
		{"case 3 short", "\x02ab", "ab", 0, false},
		{"case 4 short", "\x02ab\x00", "ab", 256, false},
		{"case 2 extended", "\x00\x01\x00", "", 256, true},
		{"case 2 extended, most", "\x00\x00\x00", "", 65536, true},
		{"case 3 extended", "\x00\x00\x02ab", "ab", 0, true},
		{"case 4 extended", "\x00\x00\x02ab\x01\x02", "ab", 0x102, true},
		{"case 4 extended, most", "\x00\x00\x02ab\x00\x00", "ab", 65536, true},
	} {
		got, err := parseCommand([]byte(header + c.body))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if string(got.data) != c.data || got.ne != c.ne || got.extended != c.extended || got.p2 != 2 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// FuzzParseCommand: what parses encodes to the same bytes.
func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"", "\x00\xB0\x00\x00", "\x00\xB0\x00\x00\x00", "\x00\xA4\x04\x0C\x02ab\x00",
		"\x00\xB0\x00\x00\x00\x00\x00", "\x00\x82\x00\x80\x00\x00\x02ab\x00\x00", "\x00\x82\x00\x80\x00\x00\x00ab"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCommand(b)
		if err != nil {
			return
		}
		if got := c.encode(); !bytes.Equal(got, b) {
			t.Errorf("%X became %X", b, got)
		}
	})
}
