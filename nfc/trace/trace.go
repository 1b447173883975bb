// Package trace is a recorded session with a card, as text: it can be read
// by a person, replayed to the reader side in the place of a card, and sent
// to a card to compare its answers.
//
//	# a comment, or a blank line
//	> 00A4040C0AD392F000260100000001
//	< 9000
//	> 00200080 04 XXXXXXXX
//	< 63C2
//
// XX is a byte that was not written down, because it is a secret; it stands in
// commands only. What a Recorder writes has a header and an end beside that
// (File); docs/trace.md describes it.
package trace

import (
	"bufio"
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

	// Masked marks the bytes of Command that are not known, and zero there.
	// Nil is none.
	Masked []bool

	// Err is what came in the place of a response, ErrBrokenOff when nothing
	// did.
	Err error
}

// ErrBrokenOff is what a command that was never answered is answered with: the
// program was ended while it waited.
var ErrBrokenOff = errors.New("the trace breaks off here")

// Text is the command in hexadecimal, as it stands in the trace.
func (p Pair) Text() string { return maskedHex(p.Command, p.Masked) }

// matches reports whether capdu is the command, as far as it is known.
func (p Pair) matches(capdu []byte) bool {
	if len(capdu) != len(p.Command) {
		return false
	}
	for i, b := range p.Command {
		if b != capdu[i] && (p.Masked == nil || !p.Masked[i]) {
			return false
		}
	}
	return true
}

// Parse reads the pairs of a trace, and takes everything else for comments. A
// command without a response, or anything that is not hexadecimal, is an error
// that names its line.
func Parse(r io.Reader) ([]Pair, error) {
	var p pairs
	s := scanner(r)
	for line := 1; s.Scan(); line++ {
		text := strings.TrimSpace(s.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		if err := p.add(line, text); err != nil {
			return nil, fmt.Errorf("trace line %d: %w", line, err)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if p.open {
		return nil, errors.New("trace ends with a command that has no response")
	}
	return p.all, nil
}

// scanner reads lines, of at most 1 MiB.
func scanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	return s
}

// pairs puts commands and responses together.
type pairs struct {
	all  []Pair
	open bool // the last command has no response yet
}

// add takes a line that is no comment.
func (p *pairs) add(line int, text string) error {
	b, masked, err := parseHex(text[1:])
	switch {
	case err != nil:
		return err
	case text[0] == '>' && !p.open:
		p.all = append(p.all, Pair{Command: b, Masked: masked, Line: line})
	case text[0] == '<' && p.open && masked == nil:
		p.all[len(p.all)-1].Response = b
	case text[0] == '<' && p.open:
		return errors.New("XX stands in commands only")
	default:
		return errors.New("want > command and < response in turn")
	}
	p.open = !p.open
	return nil
}

// parseHex reads hexadecimal in which XX is an unknown byte. Spaces between
// bytes are allowed.
func parseHex(text string) (b []byte, masked []bool, err error) {
	text = strings.ReplaceAll(text, " ", "")
	plain := []byte(text)
	for i := 0; i+1 < len(text); i += 2 {
		if text[i:i+2] != "XX" {
			continue
		}
		if masked == nil {
			masked = make([]bool, len(text)/2)
		}
		masked[i/2] = true
		plain[i], plain[i+1] = '0', '0'
	}
	b, err = hex.DecodeString(string(plain))
	return b, masked, err
}

func maskedHex(b []byte, masked []bool) string {
	var s strings.Builder
	for i, v := range b {
		if masked != nil && masked[i] {
			s.WriteString("XX")
		} else {
			fmt.Fprintf(&s, "%02X", v)
		}
	}
	return s.String()
}

// A Replay answers with the recorded responses, and fails at the first
// command that was not recorded at its place. It implements nfc.Transmitter.
type Replay struct {
	Pairs []Pair

	// Secret says what beside PINs an error does not show of a command. It
	// may be nil.
	Secret Secret

	next int
	diff *DifferenceError
}

// Transmit implements nfc.Transmitter.
func (r *Replay) Transmit(_ context.Context, capdu []byte) ([]byte, error) {
	switch {
	case r.diff != nil:
	case r.next == len(r.Pairs):
		r.diff = &DifferenceError{Sent: Masked(capdu, r.Secret), commands: len(r.Pairs)}
	case !r.Pairs[r.next].matches(capdu):
		p := r.Pairs[r.next]
		r.diff = &DifferenceError{Line: p.Line, Sent: Masked(capdu, r.Secret), Recorded: p.Text()}
	default:
		p := r.Pairs[r.next]
		r.next++
		return p.Response, p.Err
	}
	return nil, r.diff
}

// Done reports whether every recorded command was sent.
func (r *Replay) Done() bool { return r.next == len(r.Pairs) }

// Difference says where the commands that were sent leave the recorded ones,
// once no more are sent. It is nil where they do not.
func (r *Replay) Difference() *DifferenceError {
	if r.diff != nil || r.Done() {
		return r.diff
	}
	p := r.Pairs[r.next]
	return &DifferenceError{Line: p.Line, Recorded: p.Text()}
}

// A DifferenceError is a command that is not the recorded one. Commands are
// hexadecimal, with XX for the secrets in them.
type DifferenceError struct {
	Line     int    // of the recorded command, 0 behind the last
	Sent     string // "" when nothing more was sent
	Recorded string // "" when nothing more was recorded

	commands int // that were recorded
}

func (e *DifferenceError) Error() string {
	switch {
	case e.Recorded == "":
		return fmt.Sprintf("trace: %s after the last of %d commands", e.Sent, e.commands)
	case e.Sent == "":
		return fmt.Sprintf("trace line %d: no command, recorded was %s", e.Line, e.Recorded)
	}
	return fmt.Sprintf("trace line %d: command %s, recorded was %s", e.Line, e.Sent, e.Recorded)
}
