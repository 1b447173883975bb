package sign1

import (
	"bytes"
	"fmt"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// Several keys sign one payload as an array of messages, each by another key. COSE_Sign
// (RFC 9052 §4.1) would say the same with fewer bytes; but then there were two forms of
// signature to verify, and signers who are apart could not each hand in a whole message.

// maxArray is the most messages an array can have: its head is one byte.
const maxArray = 16

var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: maxArray, Map: 16})

// BeginsArray reports whether b begins as an array of 1 to most messages does, most
// being 16 at most.
func BeginsArray(b []byte, most int) bool {
	return len(b) > 0 && b[0] >= arrayOf(1) && b[0] <= arrayOf(most)
}

// arrayOf is the head of a CBOR array of n items, fewer than 24.
func arrayOf(n int) byte { return 0x80 | byte(n) }

// SplitArray returns the messages of an array of 1 to most, and nothing behind it. It
// verifies nothing. The error is ErrMalformed.
func SplitArray(b []byte, most int) (messages [][]byte, err error) {
	if !BeginsArray(b, most) {
		return nil, fmt.Errorf("%w: not an array of 1 to %d signed messages", ErrMalformed, most)
	}
	n, rest := int(b[0]&^arrayOf(0)), b[1:]
	for range n {
		m, err := codec.First(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		messages, rest = append(messages, m), rest[len(m):]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: bytes behind the signed messages", ErrMalformed)
	}
	return messages, nil
}

// JoinArrays makes one array of the messages of several, in their order. A message that
// is there twice stays once. It verifies nothing. The error is ErrMalformed, also when
// there are more than most.
func JoinArrays(arrays [][]byte, most int) ([]byte, error) {
	var all [][]byte
	for _, a := range arrays {
		messages, err := SplitArray(a, most)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if !contains(all, m) {
				all = append(all, m)
			}
		}
	}
	if n := len(all); n == 0 || n > most {
		return nil, fmt.Errorf("%w: %d signatures, 1 to %d are allowed", ErrMalformed, n, most)
	}
	return append([]byte{arrayOf(len(all))}, bytes.Join(all, nil)...), nil
}

// ArrayOf is the array of one message, which JoinArrays takes.
func ArrayOf(message []byte) []byte { return append([]byte{arrayOf(1)}, message...) }

func contains(all [][]byte, m []byte) bool {
	for _, a := range all {
		if bytes.Equal(a, m) {
			return true
		}
	}
	return false
}
