package upload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/sync/fetch"
)

// A Journal is what is brought to the hub. Its numbers begin at 1 and have no gap.
type Journal interface {
	// Incarnation is its random name.
	Incarnation(ctx context.Context) (Incarnation, error)
	// Ends are the last event that retention deleted, 0 for none, and the last there is.
	Ends(ctx context.Context) (pruned, last uint64, err error)
	// HashAt is the hash of an event from pruned to last.
	HashAt(ctx context.Context, seq uint64) (Hash, error)
	// Bytes are the events behind one, at most so many.
	Bytes(ctx context.Context, after uint64, most int) ([][]byte, error)
}

// A Hub answers a batch with an acknowledgement or a refusal.
type Hub interface {
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// Errors that a Status tells of. ErrClone stops the upload until people have looked.
var (
	// ErrClone: hub and terminal hold different events of one journal. One of them
	// is a copy, or was restored from one.
	ErrClone = errors.New("the hub holds other events of this journal: it was copied, or restored from a copy")
	// ErrBroken: the events do not give the hashes that the journal has.
	ErrBroken = errors.New("the journal's chain is broken")
)

// A Config is what an Uploader needs.
type Config struct {
	Journal Journal
	Hub     Hub
	Subject string // what Hub is asked with

	Scope, Terminal string
	Agent           string     // version of the program
	Keys            sign1.Keys // for sign1.RoleAck and the scope
	File            string     // keeps the last acknowledgement; its folder exists

	Every   time.Duration    // how often the journal is looked at; 0 is a second
	Timeout time.Duration    // of one request; 0 is ten seconds
	Now     func() time.Time // the terminal's clock; nil is time.Now
	Changed func(Status)     // told of every change but progress, from Run; may be nil
}

// A Status is how far an upload is. The zero Status knows nothing yet.
type Status struct {
	Last         uint64    `json:"last"`         // number of the last event of the journal
	Acknowledged uint64    `json:"acknowledged"` // number of the last event that the hub holds
	At           time.Time `json:"at,omitzero"`  // when the hub last said so, by its clock
	Failures     int       `json:"failures"`     // in a row
	Code         Code      `json:"code"`         // of the hub's refusal, "" for none
	Problem      string    `json:"problem"`      // why it does not go on, "" when it does
	Stopped      bool      `json:"stopped"`      // until people have looked: Code is clone
}

// An Uploader brings a journal to a hub.
//
//	          an acknowledgement that fits
//	asking ────────────────────────────────▶ sending ──┐ batch, acknowledgement
//	  ▲  ▲                                     │  │ ▲  └─┘
//	  │  └────── another journal, or ──────────┘  │ │ backoff
//	  │          anything refused                 │ └──────── no answer
//	  └─ asks again, ever less often ◀── stopped ◀┘ clone
//
// It begins with what it kept, and asks where that is nothing, or does not fit.
type Uploader struct {
	cfg  Config
	wake chan struct{}

	mu     sync.Mutex
	status Status
	held   Ack  // what the hub holds, as it is kept in File
	known  bool // held is of the journal that is there
}

// New makes an uploader, with what was acknowledged before. A file that cannot be
// verified counts for nothing: the hub is asked.
func New(cfg Config) *Uploader {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	u := &Uploader{cfg: cfg, wake: make(chan struct{}, 1)}
	if a, err := readAck(cfg.Keys, cfg.File); err == nil && a.Scope == cfg.Scope && a.Terminal == cfg.Terminal {
		u.held, u.known = a, true
		u.status.Acknowledged, u.status.At = a.Through, a.At
	}
	return u
}

// Status is how far the upload is.
func (u *Uploader) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// Acknowledged is the number of the last event that the hub holds of the journal
// of this incarnation, durably known here: what retention may delete. It is 0
// until that is known.
func (u *Uploader) Acknowledged(id Incarnation) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.known || u.held.Incarnation != id || u.status.Stopped {
		return 0
	}
	return u.held.Through
}

// maxBackoff is how long an upload pauses at most; one that is stopped always does.
const maxBackoff = 5 * time.Minute

// Run uploads until ctx ends. After a failure it waits for a random time, up to
// twice as long after each (full jitter): a fleet that was cut off together does
// not come back together.
func (u *Uploader) Run(ctx context.Context) {
	backoff := fetch.Backoff{Base: u.cfg.Every, Cap: maxBackoff}
	for {
		more, err := u.Round(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := u.cfg.Every
		switch {
		case errors.Is(err, ErrClone):
			wait = maxBackoff
		case err != nil:
			wait = backoff.Next(u.Status().Failures-1, rand.Int64N)
		case more:
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-u.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Wake ends a pause of Run: the hub can be reached again.
func (u *Uploader) Wake() {
	select {
	case u.wake <- struct{}{}:
	default: // it is about to look
	}
}

// Round sends one batch, or asks what the hub holds, or finds nothing to do. more
// says that there is something to send at once.
func (u *Uploader) Round(ctx context.Context) (more bool, err error) {
	v, err := u.look(ctx)
	if err == nil && v.work() {
		err = u.exchange(ctx, v)
	}
	if ctx.Err() != nil {
		return false, err // broken off: it says nothing of the hub
	}
	s := u.note(v, err)
	moved := v.ask || s.Acknowledged != v.held.Through // a hub that takes nothing is not asked without a pause
	return err == nil && moved && s.Acknowledged < s.Last, err
}

// note keeps what came of a round.
func (u *Uploader) note(v view, err error) Status {
	u.mu.Lock()
	old := u.status
	s := &u.status
	if v.last > 0 {
		s.Last = v.last
	}
	s.Acknowledged, s.At = 0, time.Time{}
	if u.known {
		s.Acknowledged, s.At = u.held.Through, u.held.At
	}
	s.Problem, s.Code, s.Stopped = "", "", false
	if err == nil {
		s.Failures = 0
	} else {
		s.Failures, s.Problem, s.Stopped = s.Failures+1, err.Error(), errors.Is(err, ErrClone)
		if s.Stopped {
			s.Code = Clone
		} else if r, ok := errors.AsType[*Refusal](err); ok {
			s.Code = r.Code
		}
	}
	now := *s
	u.mu.Unlock()
	if u.cfg.Changed != nil && (old.Problem != now.Problem || old.Stopped != now.Stopped) {
		u.cfg.Changed(now)
	}
	return now
}

// A view is a journal as one round sees it.
type view struct {
	id           Incarnation
	pruned, last uint64
	held         Ack
	ask          bool // nothing is known of what the hub holds, or something is wrong
}

// work reports whether there is something to say.
func (v view) work() bool { return v.ask || v.held.Through < v.last }

// look compares the journal with what the hub is known to hold.
func (u *Uploader) look(ctx context.Context) (v view, err error) {
	if v.id, err = u.cfg.Journal.Incarnation(ctx); err != nil {
		return v, err
	}
	if v.pruned, v.last, err = u.cfg.Journal.Ends(ctx); err != nil {
		return v, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known && u.held.Incarnation != v.id {
		u.known = false // a new journal: the hub knows nothing of it, or forgot to say so
	}
	v.held, v.ask = u.held, !u.known || u.status.Stopped
	if !v.ask && u.fits(ctx, v, u.held) != nil {
		v.ask = true // so that the hub hears of it too
	}
	return v, nil
}

// fits checks that what the hub holds is a beginning of the journal.
func (u *Uploader) fits(ctx context.Context, v view, a Ack) error {
	switch {
	case a.Through > v.last:
		return fmt.Errorf("%w: the hub holds %d events, the journal ends with event %d", ErrClone, a.Through, v.last)
	case a.Through < v.pruned:
		return nil // nothing to compare with; the hub knows no more of it
	}
	hash, err := u.cfg.Journal.HashAt(ctx, a.Through)
	if err == nil && hash != a.Hash {
		err = fmt.Errorf("%w: event %d", ErrClone, a.Through)
	}
	return err
}

// exchange sends a batch or a question, and keeps what the hub says to it.
func (u *Uploader) exchange(ctx context.Context, v view) error {
	b, err := u.batch(ctx, v)
	if err != nil {
		return err
	}
	data, err := b.Encode()
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	reply, err := u.cfg.Hub.Request(within, u.cfg.Subject, data)
	if err != nil {
		return fmt.Errorf("sending events: %w", err)
	}
	a, err := parseReply(u.cfg.Keys, reply)
	if r, ok := errors.AsType[*Refusal](err); ok && r.Code == Clone {
		err = fmt.Errorf("%w: %w", ErrClone, err)
	}
	if err != nil {
		return err
	}
	if a.Scope != u.cfg.Scope || a.Terminal != u.cfg.Terminal || a.Incarnation != v.id {
		return fmt.Errorf("the hub acknowledged the journal %x of terminal %q", a.Incarnation, a.Terminal)
	}
	if err := u.fits(ctx, v, a); err != nil {
		return err
	}
	if err := keepAck(u.cfg.File, reply); err != nil {
		return fmt.Errorf("keeping an acknowledgement: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held, u.known = a, true
	return nil
}
