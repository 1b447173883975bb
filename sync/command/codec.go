package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
	"github.com/gate-agent/gate-agent/sync/rescue"
)

// The wire form. A command is an array of its signatures; in a file it is within a
// byte string, which no delegation begins with.

const version = 1

type wire struct {
	Version   uint64 `cbor:"0,keyasint"`
	Scope     string `cbor:"1,keyasint"`
	Hierarchy string `cbor:"2,keyasint"`
	Terminal  string `cbor:"3,keyasint"`
	Number    uint64 `cbor:"4,keyasint"`
	IssuedAt  uint64 `cbor:"5,keyasint"`
	NotAfter  uint64 `cbor:"6,keyasint"`
	Action    string `cbor:"7,keyasint"`
	Message   string `cbor:"8,keyasint,omitempty"`
	NewScope  string `cbor:"9,keyasint,omitempty"`
	RescueKey string `cbor:"10,keyasint,omitempty"`
}

var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

func (c Command) encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return codec.Marshal(wire{
		version, c.Scope, c.Hierarchy, c.Terminal, c.Number, strictcbor.Seconds(c.IssuedAt), strictcbor.Seconds(c.NotAfter),
		string(c.Action), c.Message, c.NewScope, c.RescueKey,
	})
}

func decode(b []byte) (Command, error) {
	var w wire
	if err := codec.UnmarshalVersion(b, &w, version); err != nil {
		return Command{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	c := Command{
		w.Scope, w.Hierarchy, w.Terminal, w.Number, strictcbor.Time(w.IssuedAt), strictcbor.Time(w.NotAfter),
		Action(w.Action), w.Message, w.NewScope, w.RescueKey,
	}
	again, err := c.encode()
	if err != nil {
		return Command{}, err
	}
	if !bytes.Equal(again, b) {
		return Command{}, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return c, nil
}

func (c Command) check() error {
	malformed := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, a...))
	}
	for _, n := range []struct {
		what, text string
		least      int
		most       int
	}{
		{"scope", c.Scope, 1, maxName}, {"terminal", c.Terminal, 1, maxName}, {"message", c.Message, 0, MaxMessage}, {"new scope", c.NewScope, 0, maxName},
	} {
		if err := strictcbor.CheckText(n.text, n.least, n.most); err != nil {
			return malformed("the %s %w", n.what, err)
		}
	}
	for _, at := range []time.Time{c.IssuedAt, c.NotAfter} {
		if err := strictcbor.CheckTime(at); err != nil {
			return malformed("a time %w", err)
		}
	}
	switch {
	case c.Hierarchy != "production" && c.Hierarchy != "test":
		return malformed("hierarchy is neither %q nor %q", "production", "test")
	case c.Number == 0:
		return malformed("number 0, they begin with 1")
	case c.IssuedAt.Unix() >= c.NotAfter.Unix():
		return malformed("it ends before it begins")
	case c.Action != OutOfOrder && c.Action != InOrder && c.Action != ChangeScope && c.Action != Wipe:
		return malformed("unknown action %q", string(c.Action))
	case (c.NewScope != "") != (c.Action == ChangeScope):
		return malformed("%q and a new scope: they go together", string(ChangeScope))
	case c.Action == ChangeScope && c.NewScope == c.Scope:
		return malformed("the new scope is the old one")
	case (c.RescueKey != "") != (c.Action == Wipe):
		return malformed("%q and a rescue key: they go together", string(Wipe))
	}
	if c.Action == Wipe {
		if err := rescue.CheckRecipient(c.RescueKey); err != nil {
			return malformed("rescue key: %w", err)
		}
	}
	return nil
}

// signatures gives the messages of an item.
func signatures(item []byte) ([][]byte, error) {
	messages, err := sign1.SplitArray(item, maxSigners)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return messages, nil
}

// wrapped is an item as it is in a file.
func wrapped(item []byte) []byte {
	b, err := codec.Marshal(item)
	if err != nil {
		panic(err) // a byte string
	}
	return b
}

// split gives the items of a file behind its delegation.
func split(b []byte) (items [][]byte, err error) {
	for len(b) > 0 {
		raw, err := codec.First(b)
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("it ends within a command")
			}
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		var item []byte
		if err := codec.Unmarshal(raw, &item); err != nil || raw[0]>>5 != 2 || !bytes.Equal(wrapped(item), raw) {
			return nil, fmt.Errorf("%w: not a byte string in its shortest form", ErrMalformed)
		}
		if items = append(items, item); len(items) > MaxCommands {
			return nil, fmt.Errorf("%w: more than %d commands", ErrMalformed, MaxCommands)
		}
		b = b[len(raw):]
	}
	return items, nil
}
