// Package trace is a recorded session with a card, as text: it can be read
// by a person, replayed to the reader side in the place of a card, and sent
// to a card to compare its answers.
//
//	# a comment, or a blank line
//	> 00A4040C0AD392F000260100000001
//	< 9000
package trace

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Pair is a command APDU and its response APDU.
type Pair struct {
	Command, Response []byte
	Line              int // where the command stands, from 1
}

// Parse reads a trace. A command without a response, or anything that is not
// hexadecimal, is an error that names its line.
func Parse(r io.Reader) ([]Pair, error) {
	var pairs []Pair
	open := false
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for line := 1; s.Scan(); line++ {
		text := strings.TrimSpace(s.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(strings.TrimSpace(text[1:]))
		if err != nil {
			return nil, fmt.Errorf("trace line %d: %w", line, err)
		}
		switch {
		case text[0] == '>' && !open:
			pairs = append(pairs, Pair{Command: b, Line: line})
		case text[0] == '<' && open:
			pairs[len(pairs)-1].Response = b
		default:
			return nil, fmt.Errorf("trace line %d: want > command and < response in turn", line)
		}
		open = !open
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if open {
		return nil, errors.New("trace ends with a command that has no response")
	}
	return pairs, nil
}

// A Replay answers with the recorded responses, and fails at the first
// command that was not recorded at its place. It implements nfc.Transmitter.
type Replay struct {
	Pairs []Pair
	next  int
}

// Transmit implements nfc.Transmitter.
func (r *Replay) Transmit(_ context.Context, capdu []byte) ([]byte, error) {
	if r.next == len(r.Pairs) {
		return nil, fmt.Errorf("trace: %X after the last of %d commands", capdu, len(r.Pairs))
	}
	p := r.Pairs[r.next]
	if !bytes.Equal(capdu, p.Command) {
		return nil, fmt.Errorf("trace line %d: command %X, recorded was %X", p.Line, capdu, p.Command)
	}
	r.next++
	return p.Response, nil
}

// Done reports whether every recorded command was sent.
func (r *Replay) Done() bool { return r.next == len(r.Pairs) }
