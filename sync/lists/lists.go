// Package lists keeps a terminal's list as new as its source has it. What it
// fetches goes into the list store, which verifies it; whatever is refused,
// missing or out of reach leaves the list in force where it is, until that ends
// by itself.
//
// A round looks at the source once:
//
//	manifest ── refused, out of reach ─────────────────────────────► old list
//	   │  └──── the one in force ──────────────────────────────────► contact
//	   ▼
//	newer ──── same rows: the manifest alone ─────────────────────┐
//	   │                                                          │
//	   ├────── deltas from the set in force ──────────────────────┤
//	   │          │ missing, damaged, or they lead elsewhere       ├► new list
//	   │          ▼ (that one is an alarm)                         │
//	   └────── snapshot, where it is smaller or the only way ──────┘
//
// A source that is one whole list file, such as one on a stick, is read from
// beginning to end instead.
//
// In the state folder are
//
//	sync.json   what came of the rounds so far: [Status]
//	sync.lock   locked by flock(2) during a round, which one process makes at a time
//	fetch/      what is being downloaded, and goes on after a restart
package lists

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Store verifies lists and keeps the newest. Errors of the first three are, but for whitelist.ErrSet, a
// *whitelist.RefusedError when the list is at fault, and not this machine.
type Store interface {
	// Examine verifies the head of a published list, and holds it against all that
	// a list has to be to come into force at an instant. from is the set of its epoch from which
	// this terminal could go on, 0 when from none; same says that this very
	// head is in force.
	Examine(ctx context.Context, head []byte, at time.Time) (h whitelist.Head, from uint64, same bool, err error)
	// Apply puts the list of a head in force, as a whole or not at all. The error
	// is whitelist.ErrSet when deltas lead to other rows than the head names, and
	// the snapshot may do.
	Apply(ctx context.Context, head []byte, at time.Time, files whitelist.Files, progress func(rows uint64)) (whitelist.Manifest, error)
	// Import puts a whole list file in force.
	Import(ctx context.Context, r io.Reader, at time.Time, progress func(rows uint64)) (whitelist.Manifest, error)
	// Current is the list in force.
	Current() (whitelist.View, error)
}

// A Config is what an Updater works with. The first five are needed.
type Config struct {
	Source   *fetch.Source
	From     string // what Source was made of, for people
	Store    Store
	State    string // the state folder, which is there
	Terminal string // its name, which says when in each interval it asks

	Every time.Duration       // between rounds; 0 is a minute
	Now   func() time.Time    // by the clock that the terminal trusts most; nil is time.Now
	Rand  func(n int64) int64 // in [0, n); nil is that of math/rand/v2
	Tell  func(Progress)      // how far a round is; nil is nobody
	Wake  <-chan struct{}     // Follow makes a round at once: somebody knows of a new list; nil is never
}

// A Progress says how far a round is.
type Progress struct {
	Doing       Doing
	File        string // which is brought
	Done, Total int64  // bytes of it
	Rows        uint64 // that were read so far
}

// Doing is what a round does.
type Doing uint8

// In this order, though a round may go back from the last to the second.
const (
	Waiting  Doing = iota // for the round of another process
	Fetching              // a file
	Applying              // what was brought
)

// An Updater brings lists from a source into a store. Its methods are for one
// goroutine.
type Updater struct {
	cfg   Config
	state *os.Root
	parts *os.Root // fetch/

	head []byte // the newest that the source has answered with

	vain vain // the last head whose files were of no use

	file error // what came of the whole file that the source has had since
}

// A vain is a head whose files were of no use: they are damaged at the source, or are
// not those of the list.
type vain struct {
	head    []byte
	because error
	until   time.Time
}

// spoiltFor is how long such files are left alone unless there is another head: a
// fleet that fetched a whole list in each interval would bring down a hub that
// somebody is about to mend.
const spoiltFor = time.Hour

func (v vain) holds(head []byte) bool {
	return v.because != nil && bytes.Equal(head, v.head) && time.Now().Before(v.until)
}

// Open returns the updater of a state folder.
func Open(cfg Config) (*Updater, error) {
	cfg.preset()
	state, err := os.OpenRoot(cfg.State)
	if err != nil {
		return nil, fmt.Errorf("opening the state folder: %w", err)
	}
	u := &Updater{cfg: cfg, state: state}
	if err := state.Mkdir(partsFolder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, errors.Join(fmt.Errorf("making the folder of downloads: %w", err), state.Close())
	}
	if u.parts, err = state.OpenRoot(partsFolder); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the folder of downloads: %w", err), state.Close())
	}
	return u, nil
}

func (c *Config) preset() {
	if c.Every == 0 {
		c.Every = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Int64N
	}
	if c.Tell == nil {
		c.Tell = func(Progress) {}
	}
}

// Close ends the use of the updater, and of idle connections of its source.
func (u *Updater) Close() error {
	u.cfg.Source.Close()
	return errors.Join(u.parts.Close(), u.state.Close())
}

const partsFolder = "fetch"
