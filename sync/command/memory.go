package command

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// MemoryFile is the name of a memory in the state folder.
const MemoryFile = "commands.state"

// A State is what commands have made of a terminal, and what it must not forget,
// also when it is wiped. Times are whole seconds; the zero time is none.
type State struct {
	Scopes []Scope // of each scope that it was in

	Halted Halt   // zero: not out of order by a command
	Moved  Move   // zero: in the scope that its configuration names
	Wiped  Wiping // zero: not wiped

	// Seen is a time that surely has passed.
	Seen time.Time
}

// A Scope is what was seen in one.
type Scope struct {
	Name       string
	Number     uint64    // of the last command that was carried out
	Delegation uint64    // newest version
	Lease      time.Time // when the newest lease was issued
}

// A Halt is a terminal out of order.
type Halt struct {
	Number  uint64
	Message string
	Since   time.Time
}

// A Move is a change of scope.
type Move struct {
	Number   uint64
	From, To string // From is the scope that the configuration named then: another one there ends the move
}

// A Wiping is one that has begun.
//
//	begun ─▶ journal saved ─▶ all destroyed: Done
type Wiping struct {
	Number    uint64
	Scope     string
	RescueKey string
	Since     time.Time
	Done      bool
	Left      []string // what could not be destroyed, for people
}

// Of is what was seen in a scope.
func (s *State) Of(scope string) Scope {
	for _, seen := range s.Scopes {
		if seen.Name == scope {
			return seen
		}
	}
	return Scope{Name: scope}
}

// See changes what was seen in a scope. Nothing in it goes back.
func (s *State) See(now Scope) {
	was := s.Of(now.Name)
	now.Number, now.Delegation = max(was.Number, now.Number), max(was.Delegation, now.Delegation)
	if now.Lease.Before(was.Lease) {
		now.Lease = was.Lease
	}
	s.Scopes = slices.DeleteFunc(slices.Clone(s.Scopes), func(o Scope) bool { return o.Name == now.Name })
	s.Scopes = append(s.Scopes, now)
}

// A Memory keeps a State in a file that is whole after a power cut. One process at a
// time changes it.
type Memory struct {
	path string

	mu    sync.Mutex
	state State
}

// OpenMemory opens the memory in a state folder. Where there is no file, or no folder
// yet, it is empty. A damaged one is an error: what was carried out is not known, and
// might be played again.
func OpenMemory(dir string) (*Memory, error) {
	m := &Memory{path: filepath.Join(dir, MemoryFile)}
	b, err := smallfile.Read(m.path, maxMemory, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("memory of commands unreadable: %w", err)
	}
	if m.state, err = parseState(b); err != nil {
		return nil, fmt.Errorf("memory of commands unreadable: %s: %w", m.path, err)
	}
	return m, nil
}

// State is what it holds.
func (m *Memory) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Update changes the state; when it returns nil, for good. Slices are replaced, not
// changed.
func (m *Memory) Update(change func(*State)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state
	change(&next)
	b, err := next.encode()
	if err == nil {
		_, err = parseState(b) // what could not be read again would stop the next start
	}
	if err == nil {
		err = wholefile.Replace(m.path, b)
	}
	if err != nil {
		return fmt.Errorf("writing the memory of commands: %w", err)
	}
	m.state = next
	return nil
}

// On disk it is CBOR and the SHA-256 of it. It is not signed: whoever can write it can
// as well remove it.

const (
	maxMemory     = 256 << 10
	memoryVersion = 1
)

type (
	wireState struct {
		Version uint64      `cbor:"0,keyasint"`
		Scopes  []wireScope `cbor:"1,keyasint,omitempty"`
		Halted  *wireHalt   `cbor:"2,keyasint,omitempty"`
		Moved   *wireMove   `cbor:"3,keyasint,omitempty"`
		Wiped   *wireWipe   `cbor:"4,keyasint,omitempty"`
		Seen    int64       `cbor:"5,keyasint,omitempty"`
	}
	wireScope struct {
		Name       string `cbor:"1,keyasint"`
		Number     uint64 `cbor:"2,keyasint,omitempty"`
		Delegation uint64 `cbor:"3,keyasint,omitempty"`
		Lease      int64  `cbor:"4,keyasint,omitempty"`
	}
	wireHalt struct {
		Number  uint64 `cbor:"1,keyasint"`
		Message string `cbor:"2,keyasint,omitempty"`
		Since   int64  `cbor:"3,keyasint"`
	}
	wireMove struct {
		Number uint64 `cbor:"1,keyasint"`
		From   string `cbor:"2,keyasint"`
		To     string `cbor:"3,keyasint"`
	}
	wireWipe struct {
		Number    uint64   `cbor:"1,keyasint"`
		Scope     string   `cbor:"2,keyasint"`
		RescueKey string   `cbor:"3,keyasint"`
		Since     int64    `cbor:"4,keyasint"`
		Done      bool     `cbor:"5,keyasint,omitempty"`
		Left      []string `cbor:"6,keyasint,omitempty"`
	}
)

var memoryCodec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 1024, Map: 16})

func (s State) encode() ([]byte, error) {
	w := wireState{Version: memoryVersion, Seen: toUnix(s.Seen)}
	for _, o := range s.Scopes {
		w.Scopes = append(w.Scopes, wireScope{o.Name, o.Number, o.Delegation, toUnix(o.Lease)})
	}
	if h := s.Halted; h.Number > 0 {
		w.Halted = &wireHalt{h.Number, h.Message, toUnix(h.Since)}
	}
	if m := s.Moved; m.Number > 0 {
		w.Moved = &wireMove{m.Number, m.From, m.To}
	}
	if x := s.Wiped; x.Number > 0 {
		w.Wiped = &wireWipe{x.Number, x.Scope, x.RescueKey, toUnix(x.Since), x.Done, x.Left}
	}
	b, err := memoryCodec.Marshal(w)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

func parseState(b []byte) (s State, err error) {
	n := len(b) - sha256.Size
	if n < 0 || sha256.Sum256(b[:n]) != [32]byte(b[n:]) {
		return s, errors.New("the checksum does not match")
	}
	var w wireState
	if err := memoryCodec.UnmarshalVersion(b[:n], &w, memoryVersion); err != nil {
		return s, err
	}
	s.Seen = ofUnix(w.Seen)
	for _, o := range w.Scopes {
		s.Scopes = append(s.Scopes, Scope{o.Name, o.Number, o.Delegation, ofUnix(o.Lease)})
	}
	if h := w.Halted; h != nil {
		s.Halted = Halt{h.Number, h.Message, ofUnix(h.Since)}
	}
	if m := w.Moved; m != nil {
		s.Moved = Move{m.Number, m.From, m.To}
	}
	if x := w.Wiped; x != nil {
		s.Wiped = Wiping{x.Number, x.Scope, x.RescueKey, ofUnix(x.Since), x.Done, x.Left}
	}
	if again, err := s.encode(); err != nil || !bytes.Equal(again, b) {
		return State{}, errors.New("not in the form this program writes")
	}
	return s, nil
}

func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func ofUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
