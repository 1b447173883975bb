package strictcbor_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

type wire struct {
	Version uint64  `cbor:"0,keyasint"`
	Name    string  `cbor:"1,keyasint,omitempty"`
	List    []uint8 `cbor:"2,keyasint,omitempty"`
}

var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

func TestOneFormIsRead(t *testing.T) {
	good, err := codec.Marshal(wire{Version: 1, Name: "a"})
	if err != nil || !bytes.Equal(good, []byte{0xA2, 0x00, 0x01, 0x01, 0x61, 'a'}) {
		t.Fatalf("%X, %v", good, err)
	}
	var w wire
	if err := codec.UnmarshalVersion(good, &w, 1); err != nil || w.Name != "a" {
		t.Fatal(w, err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":            {nil, "EOF"},
		"a byte behind it":   {append(bytes.Clone(good), 0), "extraneous"},
		"a key twice":        {[]byte{0xA2, 0x00, 0x01, 0x00, 0x01}, "duplicate"},
		"an unknown key":     {[]byte{0xA2, 0x00, 0x01, 0x07, 0x01}, "unknown field"},
		"indefinite length":  {[]byte{0xBF, 0x00, 0x01, 0xFF}, "indefinite"},
		"a tag":              {append([]byte{0xC1}, good...), "tag"},
		"too many elements":  {append([]byte{0xA2, 0x00, 0x01, 0x02, 0x91}, make([]byte, 17)...), "16"},
		"nested too deep":    {bytes.Repeat([]byte{0xA1, 0x00}, 9), "nested"},
		"an older version":   {[]byte{0xA1, 0x00, 0x00}, "version 0, this program reads 1"},
		"no version":         {[]byte{0xA1, 0x01, 0x61, 'a'}, "version 0, this program reads 1"},
		"a newer version":    {[]byte{0xA2, 0x00, 0x02, 0x18, 0x63, 0x01}, "version 2, this program reads 1: update it"},
		"a version of words": {[]byte{0xA1, 0x00, 0x61, 'a'}, "cannot unmarshal"},
	} {
		if err := codec.UnmarshalVersion(c.b, new(wire), 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestFirstItemMayBeTagged(t *testing.T) {
	item, err := codec.First([]byte{0xD2, 0x07, 0x08})
	if err != nil || !bytes.Equal(item, []byte{0xD2, 0x07}) {
		t.Errorf("%X, %v", item, err)
	}
	if _, err := codec.First([]byte{0xD2, 0x42, 0x08}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: %v", err)
	}
}

func TestTextIsWhatPeopleCanCompare(t *testing.T) {
	for _, c := range []struct {
		text, want string // "": good
	}{
		{"gate-1 left", ""}, {"山田 太郎", ""},
		{"", "has 0 bytes"}, {"123456789012345678901", "has 21 bytes"},
		{"a\xff", "is not UTF-8"}, {"a\nb", "cannot be printed"}, {"a\u202eb", "cannot be printed"},
	} {
		err := strictcbor.CheckText(c.text, 1, 20)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}
