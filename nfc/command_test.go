package nfc_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
)

// The cases of ISO/IEC 7816-3:2006 §12.1.3, short (S) and extended (E).
var commandCases = []struct {
	name string
	cmd  nfc.Command
	want string
}{
	{"1", nfc.Command{INS: 0x84}, "00840000"},
	{"2S", nfc.Command{INS: 0x84, Ne: 32}, "0084000020"},
	{"2S greatest", nfc.Command{INS: 0xB0, P1: 0x8A, Ne: 256}, "00B08A0000"},
	{"2E", nfc.Command{INS: 0xB0, P1: 1, Ne: 1327}, "00B0010000052F"},
	{"2E asked for", nfc.Command{INS: 0xB0, Ne: 32, Extended: true}, "00B00000000020"},
	{"2E greatest", nfc.Command{INS: 0xB0, Ne: 65536}, "00B00000000000"},
	{"3S", nfc.Command{INS: 0xA4, P1: 2, P2: 0x0C, Data: []byte{0, 0x0A}}, "00A4020C02000A"},
	{"3E", nfc.Command{CLA: 0x80, INS: 0xA2, P1: 6, P2: 0xC1, Data: make([]byte, 307)}, "80A206C1000133" + strings.Repeat("00", 307)},
	{"4S", nfc.Command{CLA: 0x80, INS: 0x2A, Data: []byte{1, 2}, Ne: 256}, "802A000002010200"},
	{"4E", nfc.Command{INS: 0x2A, Data: []byte{1}, Ne: 65536}, "002A000000000101" + "0000"},
	{"4E by Ne", nfc.Command{INS: 0x2A, Data: []byte{1}, Ne: 512}, "002A000000000101" + "0200"},
}

func TestCommandsOfEveryCase(t *testing.T) {
	for _, c := range commandCases {
		t.Run(c.name, func(t *testing.T) {
			b, err := c.cmd.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ToUpper(hex.EncodeToString(b)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			back, err := nfc.ParseCommand(b)
			if err != nil {
				t.Fatal(err)
			}
			if back.INS != c.cmd.INS || back.Ne != c.cmd.Ne || !bytes.Equal(back.Data, c.cmd.Data) {
				t.Errorf("parsed back as %+v", back)
			}
		})
	}
}

func TestCommandFieldsOutOfRangeAreRefused(t *testing.T) {
	for _, c := range []nfc.Command{
		{Data: make([]byte, 65536)},
		{Ne: 65537},
		{Ne: -1},
	} {
		if b, err := c.Append(nil); err == nil {
			t.Errorf("%d bytes of data and Ne %d gave %d bytes", len(c.Data), c.Ne, len(b))
		}
	}
}

func TestMalformedCommandsAreRefused(t *testing.T) {
	for _, h := range []string{"", "00A404", "00A4000002FF", "00A40000000002FF", "00B000000000", "00A40000000000FF"} {
		b, _ := hex.DecodeString(h)
		if c, err := nfc.ParseCommand(b); !errors.Is(err, nfc.ErrMalformedCommand) {
			t.Errorf("%s: parsed as %+v, error %v", h, c, err)
		}
	}
}

// FuzzParseCommand: what parses encodes to the same bytes.
func FuzzParseCommand(f *testing.F) {
	for _, c := range commandCases {
		b, err := c.cmd.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := nfc.ParseCommand(b)
		if err != nil {
			return
		}
		back, err := c.Append(nil)
		if err != nil {
			t.Fatalf("%X parses as %+v, which does not encode: %v", b, c, err)
		}
		if !bytes.Equal(b, back) {
			t.Fatalf("%X parses and encodes to %X", b, back)
		}
	})
}
