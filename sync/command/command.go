// Package command is what the operator of a fleet tells one terminal: go out of
// order, come back, take another scope, wipe yourself.
//
// Commands are a static, public file that a terminal fetches as it fetches its list:
// whoever carries it can withhold it, and nothing else. Each command is signed by a
// key of role "command"; a wipe by two different ones, so that nobody alone destroys
// a venue's terminals. Each has a number that only grows for a terminal of a scope: a
// terminal that remembers the highest carries out none twice, whatever is played to it.
//
// It promises that a command which [Read] returns without an error was signed for
// this terminal by as many keys as its action needs, that these keys may do so at the
// given instant, that it has not expired, and that its number is above the floor.
// docs/terminal-commands.md has the CDDL.
package command

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/filename"
)

// Why a command is refused, beside the errors of packages roles and sign1.
var (
	// ErrMalformed: not the format of docs/terminal-commands.md, or a rule of it broken.
	ErrMalformed = errors.New("malformed command")
	// ErrNotOurs: for another terminal, scope or hierarchy.
	ErrNotOurs = errors.New("command for another terminal")
	// ErrNumber: carried out before, or one with a higher number was.
	ErrNumber = errors.New("command played again")
	// ErrExpired: its time is over.
	ErrExpired = errors.New("command has expired")
	// ErrSigners: signed by fewer keys than its action needs.
	ErrSigners = errors.New("command signed by too few keys")
)

// Limits of a file.
const (
	MaxFile     = 64 << 10 // bytes
	MaxCommands = 64
	MaxMessage  = 200 // bytes, for people at the terminal
	maxSigners  = 2
	maxName     = 64
)

// File is where a hub publishes the commands of a terminal, below the folder of its scope.
func File(terminal string) string { return "commands/" + filename.Of(terminal) }

// An Action is what a terminal is to do.
type Action string

// Actions.
const (
	OutOfOrder  Action = "out_of_order" // no lane serves people, until InOrder
	InOrder     Action = "in_order"
	ChangeScope Action = "change_scope" // take another scope, and its list and key
	Wipe        Action = "wipe"         // save the journal for the operator, then destroy all keys and data
)

// signers is how many keys an action needs.
func (a Action) signers() int {
	if a == Wipe {
		return 2
	}
	return 1
}

// A Command is what is signed. Times are whole seconds.
type Command struct {
	Scope     string // of the terminal now
	Hierarchy string // "production" or "test"
	Terminal  string

	Number   uint64    // from 1; only grows for a terminal of a scope
	IssuedAt time.Time // before NotAfter
	NotAfter time.Time // last second in which it is carried out

	Action   Action
	Message  string // for people there; may be empty
	NewScope string // of ChangeScope

	// RescueKey is of Wipe: the recipient of age to which the journal is encrypted
	// before it goes (package rescue).
	RescueKey string
}

// A Received is one command of a file, with why it is refused: then its Command says
// what an unverified one claims, or nothing.
type Received struct {
	Command
	Signers [][32]byte // key ids
	Err     error
}

// A Terminal is who reads commands.
type Terminal struct {
	Scope, Hierarchy, Name string

	Trust      roles.Trust
	Delegation uint64    // newest version that was seen in this scope
	Floor      uint64    // highest number that was carried out in this scope
	At         time.Time // what surely has passed: the later of clock and record
}

// Read reads the commands of a file, in its order. A command that is refused spoils
// no other one. The error is one of the whole file. delegation is its version, 0
// where keys are pinned.
func (t Terminal) Read(file []byte) (all []Received, delegation uint64, err error) {
	justified, rest, err := cut(file)
	if err != nil {
		return nil, 0, err
	}
	if len(rest) == 0 {
		return nil, 0, nil // none was ever given: nothing to verify either
	}
	warrant, err := t.Trust.Warrant(justified)
	if err == nil {
		err = warrant.NotBefore(t.Delegation)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("verifying commands: %w", err)
	}
	items, err := split(rest)
	if err != nil {
		return nil, 0, err
	}
	for _, item := range items {
		r := t.read(warrant, item)
		if r.Err == nil {
			t.Floor = r.Number
		}
		all = append(all, r)
	}
	return all, warrant.Delegation.Version, nil
}

func (t Terminal) read(w roles.Warrant, item []byte) (r Received) {
	messages, err := signatures(item)
	if err != nil {
		return Received{Err: err}
	}
	if r.Command, err = peek(messages); err != nil {
		return Received{Err: err}
	}
	var payloads []sign1.Payload
	for i, m := range messages {
		p, err := w.Keys.Verify(sign1.RoleCommand, m)
		if err == nil {
			err = w.Valid(p, t.At)
		}
		if err == nil && p.Scope() != t.Scope {
			err = fmt.Errorf("%w: its key may sign for scope %q", ErrNotOurs, p.Scope())
		}
		if err != nil {
			r.Err = fmt.Errorf("signature %d: %w", i+1, err)
			return r
		}
		payloads = append(payloads, p)
		r.Signers = append(r.Signers, p.KeyID())
	}
	r.Err = t.check(r, w.Delegation)
	return r
}

// check holds a command whose signatures are right against the terminal.
func (t Terminal) check(r Received, d roles.Delegation) error {
	c, at := r.Command, t.At.Unix()
	switch {
	case len(r.Signers) == 2 && r.Signers[0] == r.Signers[1]:
		return fmt.Errorf("%w: one key signed twice", ErrSigners)
	case len(r.Signers) < c.Action.signers():
		return fmt.Errorf("%w: %q needs %d, it has %d", ErrSigners, c.Action, c.Action.signers(), len(r.Signers))
	case c.Scope != t.Scope || c.Hierarchy != t.Hierarchy || c.Terminal != t.Name || d.Version > 0 && d.Hierarchy != t.Hierarchy:
		return fmt.Errorf("%w: it is for %q in scope %q (%s)", ErrNotOurs, c.Terminal, c.Scope, c.Hierarchy)
	case c.Number <= t.Floor:
		return fmt.Errorf("%w: number %d, %d was carried out", ErrNumber, c.Number, t.Floor)
	case at > c.NotAfter.Unix():
		return fmt.Errorf("%w: it ended on %s", ErrExpired, c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// Encode returns the payload that is signed: what somebody drafts for others to sign.
func (c Command) Encode() ([]byte, error) { return c.encode() }

// Decode reads a payload that nobody has signed yet.
func Decode(payload []byte) (Command, error) { return decode(payload) }

// Signed reports whether b is a command with signatures, rather than a payload.
func Signed(b []byte) bool { return len(b) > 0 && b[0]>>5 == 4 }

// Signatures is how many signatures a command has, which nobody has verified.
func Signatures(b []byte) int {
	messages, err := signatures(b)
	if err != nil {
		return 0
	}
	return len(messages)
}

// Sign signs a command with one key. Join adds the signature of another.
func (c Command) Sign(signer crypto.Signer) ([]byte, error) {
	payload, err := c.encode()
	if err != nil {
		return nil, err
	}
	m, err := sign1.Sign(nil, sign1.RoleCommand, signer, payload)
	if err != nil {
		return nil, fmt.Errorf("signing a command: %w", err)
	}
	return sign1.ArrayOf(m), nil
}

// Countersign adds a signature to a command that somebody else has signed. Show
// people what [Peek] says of it before.
func Countersign(item []byte, signer crypto.Signer) ([]byte, error) {
	c, err := Peek(item)
	if err != nil {
		return nil, err
	}
	mine, err := c.Sign(signer)
	if err != nil {
		return nil, err
	}
	return Join(item, mine)
}

// Join joins the signatures of one command, each from Sign, Countersign or Join. A
// signature that is there twice stays once. It verifies nothing.
func Join(items ...[]byte) ([]byte, error) {
	item, err := sign1.JoinArrays(items, maxSigners)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if _, err := Peek(item); err != nil {
		return nil, err
	}
	return item, nil
}

// Peek reads a signed command whose signatures nobody has verified: to show it to
// people who are asked to sign or publish it.
func Peek(item []byte) (Command, error) {
	messages, err := signatures(item)
	if err != nil {
		return Command{}, err
	}
	return peek(messages)
}

// peek is what all of the messages say.
func peek(messages [][]byte) (Command, error) {
	var payload []byte
	for _, m := range messages {
		p, err := sign1.UnverifiedPayload(m)
		if err != nil {
			return Command{}, fmt.Errorf("reading a command: %w", err)
		}
		if payload != nil && !bytes.Equal(payload, p) {
			return Command{}, fmt.Errorf("%w: its signatures are over different contents", ErrMalformed)
		}
		payload = p
	}
	return decode(payload)
}

// Append returns the file with a command behind the others, under this delegation,
// which takes the place of the one before. Commands that ended before at are left
// out. The file may be none.
func Append(file, delegation, item []byte, at time.Time) ([]byte, error) {
	next, err := Peek(item)
	if err != nil {
		return nil, err
	}
	_, rest, err := cut(file)
	if err != nil {
		return nil, err
	}
	items, err := split(rest)
	if err != nil {
		return nil, err
	}
	b := bytes.Clone(delegation)
	kept := 0
	for _, old := range items {
		c, err := Peek(old)
		if err != nil {
			return nil, err
		}
		if c.Number >= next.Number {
			return nil, fmt.Errorf("%w: number %d is published, and %d is not greater", ErrNumber, c.Number, next.Number)
		}
		if at.Unix() <= c.NotAfter.Unix() {
			b = append(b, wrapped(old)...)
			kept++
		}
	}
	b = append(b, wrapped(item)...)
	if kept++; kept > MaxCommands || len(b) > MaxFile {
		return nil, fmt.Errorf("%w: %d commands in %d bytes, at most %d in %d", ErrMalformed, kept, len(b), MaxCommands, MaxFile)
	}
	return b, nil
}

// Under returns the file with the same commands under this delegation, which takes
// the place of the one before.
func Under(file, delegation []byte) ([]byte, error) {
	_, rest, err := cut(file)
	if err != nil {
		return nil, err
	}
	b := append(bytes.Clone(delegation), rest...)
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(b), MaxFile)
	}
	return b, nil
}

// Commands are those of a file whose signatures nobody has verified.
func Commands(file []byte) (all []Command, err error) {
	_, rest, err := cut(file)
	if err != nil {
		return nil, err
	}
	items, err := split(rest)
	for _, item := range items {
		c, err := Peek(item)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, err
}

func cut(file []byte) (delegation, rest []byte, err error) {
	if len(file) > MaxFile {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(file), MaxFile)
	}
	delegation, rest, err = roles.Cut(file)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it ends within the delegation", ErrMalformed)
	}
	return delegation, rest, err
}
