// Package staff knows the staff of a terminal: who they are, by a roster and
// their passcodes, and who of them is on duty.
//
// It promises: a passcode is in no error and in no file, only its hash is; whoever
// guesses is slowed down, and learns neither from answers nor from their time
// which names there are; and nobody is on duty before the record says so.
package staff

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/terminal"
)

// Limits of a roster.
const (
	MaxName  = 64   // bytes of a name
	maxStaff = 1000 // members
	maxFile  = 1 << 20
)

// A Roster is who belongs to the staff of a terminal. Its methods may be called
// concurrently.
type Roster struct {
	members map[string]member
	now     func() time.Time

	mu    sync.Mutex // one passcode is hashed at a time: that bounds memory, and guesses
	tries map[string]tries
}

type member struct {
	terminal.Staff
	passcode hash
}

// Load reads the roster file at path. It refuses one that others than its owner
// and group can read, or others than its owner can write: it holds what a
// passcode can be guessed with, and says who may open the gate. now is the clock
// by which wrong tries wait; nil means time.Now.
func Load(path string, now func() time.Time) (*Roster, error) {
	text, err := smallfile.Read(path, maxFile, 0o027)
	if err != nil {
		return nil, err
	}
	r, err := Parse(text, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Parse reads the text of a roster file; now is as in Load.
func Parse(text []byte, now func() time.Time) (*Roster, error) {
	var file struct {
		Staff []struct {
			Name     string        `toml:"name"`
			Role     terminal.Role `toml:"role"`
			Passcode string        `toml:"passcode"`
		} `toml:"staff"`
	}
	if err := stricttoml.Decode(text, &file); err != nil {
		return nil, err
	}
	switch n := len(file.Staff); {
	case n == 0:
		return nil, errors.New("it names nobody: write a [[staff]] with name, role and passcode")
	case n > maxStaff:
		return nil, fmt.Errorf("it names %d people, at most %d", n, maxStaff)
	}
	if now == nil {
		now = time.Now
	}
	r := &Roster{members: make(map[string]member), now: now, tries: make(map[string]tries)}
	for i, s := range file.Staff {
		at := func(err error) error { return fmt.Errorf("[[staff]] %d, %q: %w", i+1, s.Name, err) }
		if err := checkName(s.Name); err != nil {
			return nil, at(err)
		}
		if _, twice := r.members[s.Name]; twice {
			return nil, at(errors.New("the name comes twice"))
		}
		if s.Role != terminal.Steward && s.Role != terminal.Supervisor {
			return nil, at(fmt.Errorf("role %q: want %q or %q", s.Role, terminal.Steward, terminal.Supervisor))
		}
		passcode, err := parseHash(s.Passcode)
		if err != nil {
			return nil, at(err)
		}
		r.members[s.Name] = member{terminal.Staff{Name: s.Name, Role: s.Role}, passcode}
	}
	return r, nil
}

func checkName(name string) error {
	switch {
	case len(name) < 1 || len(name) > MaxName:
		return fmt.Errorf("a name has 1 to %d bytes", MaxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("the name has a character that cannot be printed")
	case strings.TrimSpace(name) != name:
		return errors.New("the name begins or ends with a space")
	}
	return nil
}

// Len is how many people the roster names.
func (r *Roster) Len() int { return len(r.members) }

// With is how many of them have a role.
func (r *Roster) With(role terminal.Role) (n int) {
	for _, m := range r.members {
		if m.Role == role {
			n++
		}
	}
	return n
}
