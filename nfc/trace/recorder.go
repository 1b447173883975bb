package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/gate-agent/gate-agent/nfc"
)

// A Recorder carries commands to a card and writes the session down while it
// happens: a command before it is sent, so that a session that hangs is there
// up to where it hangs. It implements nfc.Transmitter, for one goroutine.
//
// A file that cannot be written to does not disturb the session; End tells.
type Recorder struct {
	t      nfc.Transmitter
	w      io.Writer
	secret Secret
	err    error // the first of writing

	commands, bytes int
}

// NewRecorder writes the header of a trace to w and records what goes through
// it to t. Each line is one Write. secret may be nil: PINs are never written.
func NewRecorder(t nfc.Transmitter, w io.Writer, h Header, secret Secret) *Recorder {
	r := &Recorder{t: t, w: w, secret: secret}
	r.write(h.text())
	r.write("\n# It holds a certificate, hence personal data: see docs/trace.md. 個人情報を含みます。取扱いに注意してください。\n\n")
	return r
}

// Card is c with its commands recorded; r must have been made over it.
func (r *Recorder) Card(c nfc.Card) nfc.Card { return recordedCard{c, r} }

type recordedCard struct {
	nfc.Card
	r *Recorder
}

// Transmit implements nfc.Transmitter.
func (c recordedCard) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	return c.r.Transmit(ctx, capdu)
}

// Transmit implements nfc.Transmitter.
func (r *Recorder) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	r.write("> " + Masked(capdu, r.secret) + "\n")
	start := time.Now()
	rapdu, err := r.t.Transmit(ctx, capdu)
	took := time.Since(start)
	r.commands++
	r.bytes += len(capdu)
	if err != nil {
		r.write("# error: " + errorText(ctx, err) + "\n")
	} else {
		r.bytes += len(rapdu)
		r.write(fmt.Sprintf("< %X\n", rapdu))
	}
	r.write(fmt.Sprintf("# %.1f ms\n", float64(took.Microseconds())/1000))
	return rapdu, err
}

// Unconnected records a card that could not even be connected to.
func (r *Recorder) Unconnected(ctx context.Context, err error) {
	r.write("# unconnected: " + errorText(ctx, err) + "\n")
}

// Know records what the terminal knew and the card did not say.
func (r *Recorder) Know(k Known) { r.write(k.text()) }

// BirthDate records what was wrong with the row's birth date.
func (r *Recorder) BirthDate(s BirthDateState) { r.write("# birth-date: " + string(s) + "\n") }

// End records how the session ended, and returns what failed in writing it
// all. reason is a name of docs/reasons.md, detail what there is to say.
func (r *Recorder) End(reason, detail string) error {
	o := Outcome{Reason: reason, Detail: oneLine(detail), Commands: r.commands, Bytes: r.bytes}
	r.write("\n# outcome: " + o.String() + "\n")
	return r.err
}

func (r *Recorder) write(text string) {
	if r.err != nil {
		return // what follows a gap would read as if there were none
	}
	if _, err := io.WriteString(r.w, text); err != nil {
		r.err = fmt.Errorf("writing the trace: %w", err)
	}
}

// oneLine keeps a text from being several lines, or none that can be read.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "?")))
}

// The sorts of errors that a Transmitter returns, by the names that a trace
// has for them. The first that fits is written.
var errorKinds = []struct {
	name string
	err  error
}{
	{"removed", nfc.ErrRemoved},
	{"extended-length", nfc.ErrExtendedLength},
	{"timeout", context.DeadlineExceeded},
	{"canceled", context.Canceled},
	{"failed", nil},
}

func errorText(ctx context.Context, err error) string {
	for _, k := range errorKinds {
		if k.err == nil || errors.Is(err, k.err) || errors.Is(ctx.Err(), k.err) {
			return k.name + ": " + oneLine(err.Error())
		}
	}
	panic("unreachable")
}

// A recordedError is an error that was written down.
type recordedError struct {
	text string
	kind error
}

func (e *recordedError) Error() string { return e.text }
func (e *recordedError) Unwrap() error { return e.kind }

func parseError(text string) (error, error) {
	name, rest, _ := strings.Cut(text, ":")
	for _, k := range errorKinds {
		if k.name == name {
			return &recordedError{strings.TrimSpace(rest), k.err}, nil
		}
	}
	return nil, fmt.Errorf("unknown sort of error %q", name)
}
