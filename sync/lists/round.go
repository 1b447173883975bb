package lists

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Round is what came of one look at the source.
type Round struct {
	// Contact says that the source has a list which this terminal may use: the
	// one in force, or a newer one.
	Contact bool
	// Came says how a newer list came into force; "" is none. Manifest is that of
	// the source, once it was verified.
	Came     Way
	Manifest whitelist.Manifest

	Received int64 // bytes of files
	Deltas   int   // files of that kind in the list that came
	RoleEnds time.Time

	// Alarm: deltas, or snapshot and deltas, lead to other rows than are signed.
	// Somebody should find out why, also when the list came all the same.
	Alarm error
	// Detour is why the snapshot was taken where deltas were to be had.
	Detour error
	// Err is why a list did not come, or what could not be written down.
	Err error
	// Next is when Follow looks again.
	Next time.Time
}

// A Way is how a list came.
type Way string

// The ways.
const (
	ByHead     Way = "manifest" // rows are the same
	ByDeltas   Way = "deltas"
	BySnapshot Way = "snapshot" // and the deltas behind it
	ByFile     Way = "file"     // a whole list in one
)

// Refused reports whether the list was at fault, and not this machine or what is
// between it and the source.
func (r Round) Refused() bool { return refused(r.Err) }

func refused(err error) bool {
	_, ok := errors.AsType[*whitelist.RefusedError](err)
	return ok
}

// Round makes one round. It waits while another process makes one.
func (u *Updater) Round(ctx context.Context) Round {
	return u.round(ctx, nil)
}

// round makes a round, and leaves behind what came of it. next says when the
// following one is, nil where there is none.
func (u *Updater) round(ctx context.Context, next func(Round) time.Time) (r Round) {
	unlock, err := u.lockFor(ctx, next)
	if err != nil {
		return Round{Err: err}
	}
	r = u.look(ctx)
	if next != nil {
		r.Next = next(r)
	}
	if ctx.Err() == nil { // one that was broken off says nothing of the source
		r.Err = errors.Join(r.Err, u.record(r))
	}
	r.Err = errors.Join(r.Err, unlock())
	return r
}

// lockFor takes the lock of a round. Follow does not wait for ever: a process that was
// stopped (^Z) holds it, and nobody would be told that no list comes any more.
func (u *Updater) lockFor(ctx context.Context, next func(Round) time.Time) (unlock func() error, err error) {
	if next == nil {
		return u.lock(ctx)
	}
	within, cancel := context.WithTimeout(ctx, MaxBackoff)
	defer cancel()
	return u.lock(within)
}

func (u *Updater) look(ctx context.Context) (r Round) {
	before := u.cfg.Source.Counts().Received
	defer func() { r.Received += u.cfg.Source.Counts().Received - before }()
	file, err := u.cfg.Source.Whole(whitelist.MaxFile)
	switch {
	case errors.Is(err, fetch.ErrFolder):
		u.lookInFolder(ctx, &r)
	case errors.Is(err, fetch.ErrUnchanged):
		r.Contact, r.Err = u.file == nil, u.file
	case err != nil:
		r.Err = err
	default:
		u.takeFile(ctx, &r, file)
	}
	return r
}

// takeFile imports a whole list file. One whose rows are refused is read again only
// when it has changed: it will not become better. A head that is refused costs
// little to read, and may do once the clock is set. What failed for another reason,
// such as a medium pulled out or a full disk, is read again: it may have been the
// newest list there is.
func (u *Updater) takeFile(ctx context.Context, r *Round, file fetch.Whole) {
	old, _ := u.inForce() // none, and unreadable, is other than what comes
	m, err := u.cfg.Store.Import(ctx, file, u.cfg.Now(), u.applying)
	n, seekErr := file.Seek(0, io.SeekCurrent)
	if seekErr == nil && (err == nil || refused(err) && n > whitelist.MaxHead) {
		u.file = err
		file.Keep()
	}
	r.Received += n
	r.Manifest, r.Contact, r.Err = m, err == nil, errors.Join(err, seekErr, file.Close())
	if err == nil && (old == nil || old.Compare(m) != 0) {
		r.Came = ByFile
	}
}

// lookInFolder looks at what a hub has published.
func (u *Updater) lookInFolder(ctx context.Context, r *Round) {
	if r.Err = u.ask(ctx); r.Err != nil {
		return
	}
	// A head that has not changed is examined again: the clock may have been
	// set, the list in force may have been lost or replaced.
	h, from, same, err := u.cfg.Store.Examine(ctx, u.head, u.cfg.Now())
	if errors.Is(err, whitelist.ErrScopeKey) && u.cfg.Rekey != nil {
		if err = u.cfg.Rekey(ctx); err == nil {
			h, from, same, err = u.cfg.Store.Examine(ctx, u.head, u.cfg.Now())
		}
	}
	if err != nil {
		r.Err = err
		return
	}
	r.Contact, r.Manifest, r.RoleEnds = true, h.Manifest, h.Ends()
	switch {
	case same:
	case u.vain.holds(u.head):
		r.Err = u.vain.because
	default:
		u.bring(ctx, r, h.Manifest, from)
	}
}

// ask brings the head that the source has now.
func (u *Updater) ask(ctx context.Context) error {
	switch answer, err := u.cfg.Source.Get(ctx, whitelist.HeadName, whitelist.MaxHead); {
	case errors.Is(err, fetch.ErrUnchanged):
	case err != nil:
		return err
	default:
		answer.Keep()
		u.head = answer.Body
	}
	return nil
}

// bring takes the files that lead to the set of the newest head, and puts its
// list in force.
func (u *Updater) bring(ctx context.Context, r *Round, m whitelist.Manifest, from uint64) {
	p := planFor(m, from)
	err := u.take(ctx, p)
	if err != nil && p.way == ByDeltas && spoilt(err) && ctx.Err() == nil {
		if errors.Is(err, whitelist.ErrSet) {
			r.Alarm = err
		}
		r.Detour = err
		p = bySnapshot(m)
		err = u.take(ctx, p)
	}
	switch {
	case err == nil:
		r.Came, r.Deltas = p.way, len(p.deltas)
	case refused(err):
		if errors.Is(err, whitelist.ErrTampered) { // what was brought has its own digest
			r.Alarm = err
		}
		u.vain = vain{u.head, err, time.Now().Add(spoiltFor)}
	case errors.Is(err, fetch.ErrDigest):
		u.vain = vain{u.head, err, time.Now().Add(spoiltFor)}
	}
	r.Err = err
}

// spoilt reports whether deltas are to blame, and neither this machine nor what is
// between it and the source: then the snapshot may do.
func spoilt(err error) bool {
	return refused(err) || errors.Is(err, whitelist.ErrSet) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fetch.ErrDigest) || errors.Is(err, fetch.ErrSize)
}

// take downloads the files of a plan and applies them. What was downloaded stays
// for the next round unless it is of no use any more.
func (u *Updater) take(ctx context.Context, p plan) (err error) {
	if err := fetch.Sweep(u.parts, p.digests()...); err != nil {
		return fmt.Errorf("clearing away old downloads: %w", err)
	}
	files, shut, err := p.download(ctx, u.cfg.Source, u.parts, u.cfg.Tell)
	if err == nil {
		_, err = u.cfg.Store.Apply(ctx, u.head, u.cfg.Now(), files, u.applying)
	}
	err = errors.Join(err, shut())
	if err == nil || refused(err) {
		if sweepErr := fetch.Sweep(u.parts); sweepErr != nil && err == nil {
			err = fmt.Errorf("clearing away downloads: %w", sweepErr)
		}
	}
	return err
}

func (u *Updater) applying(rows uint64) { u.cfg.Tell(Progress{Doing: Applying, Rows: rows}) }

// inForce is the manifest of the list in force, nil where there is none.
func (u *Updater) inForce() (*whitelist.Manifest, error) {
	view, err := u.cfg.Store.Current()
	if err != nil {
		return nil, err
	}
	defer view.Release()
	m := view.Manifest()
	return &m, nil
}
