package pcsc

import (
	"bytes"
	"testing"
)

func TestReaderThatCarriesShortCommandsOnlyIsRecognised(t *testing.T) {
	for _, tc := range []struct {
		name       string
		properties []byte
		want       bool
	}{
		{"short, as libccid says it", []byte{0x01, 2, 0x00, 0x00, 0x0A, 4, 0, 0, 0, 0}, true},
		{"short, 256 bytes", []byte{0x0A, 4, 0, 1, 0, 0}, true},
		{"extended", []byte{0x0A, 4, 0, 0, 1, 0}, false},
		{"nothing said", []byte{0x01, 2, 0, 0}, false},
		{"empty", nil, false},
		{"size of 2 bytes", []byte{0x0A, 2, 0, 0}, false},
		{"truncated", []byte{0x0A, 4, 0, 0, 0}, false},
	} {
		if got := saysShortOnly(tc.properties); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

// A value that is found stands in the list right behind its tag and length.
func FuzzTLV(f *testing.F) {
	f.Add([]byte{0x01, 2, 0x00, 0x00, 0x0A, 4, 0, 0, 1, 0}, byte(0x0A))
	f.Add([]byte{0x12, 4, 0x42, 0x33, 0x00, 0x12}, byte(0x12))
	f.Add([]byte{0x0A, 5, 0}, byte(0x0A))
	f.Fuzz(func(t *testing.T, list []byte, tag byte) {
		value, ok := tlv(list, tag)
		if ok && !bytes.Contains(list, append([]byte{tag, byte(len(value))}, value...)) {
			t.Errorf("% X is not in % X", value, list)
		}
	})
}
