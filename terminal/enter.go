package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// enterTries bounds how often a decision is made again because another lane
// used the same entitlement between counting and reserving.
const enterTries = 3

// enter decides and, when the ruling admits, makes the entry durable and
// opens the gate, in this order. An error means that the gate stayed shut.
// began is where Elapsed counts from.
func (l *Lane) enter(ctx context.Context, began time.Time, d *Decision, f *Facts, permit *Permit) error {
	for range enterTries {
		var err error
		if f.Uses, err = l.uses(ctx, f.Row.Entitlements); err != nil {
			return fmt.Errorf("%w: counting entries: %w", errJournal, err)
		}
		start := time.Now()
		r := Decide(*f)
		d.Stages.Decide += time.Since(start)
		d.Verdict, d.Reason, d.Entitlement, d.Warnings = r.Verdict, r.Reason, r.Entitlement, r.Warnings
		if r.Verdict != Admit {
			return nil
		}

		d.Elapsed = time.Since(began)
		// Not cancelled by the deadline: a write that is given up half-way
		// might stand after all. The revoked permit keeps the gate shut.
		start = time.Now()
		reservation, err := l.Journal.Reserve(context.WithoutCancel(ctx), *d, uint64(r.Uses))
		d.Stages.Journal += time.Since(start)
		if errors.Is(err, ErrUsesChanged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: reserving the entry: %w", errJournal, err)
		}
		return l.open(ctx, d, reservation, permit)
	}
	return ErrUsesChanged
}

// open moves the relay for an entry that is durable. When it certainly did not
// move, the entry is annulled; when nobody can tell, it stands.
func (l *Lane) open(ctx context.Context, d *Decision, r Reservation, permit *Permit) error {
	err := l.Gate.Open(ctx, permit, 1)
	keep := context.WithoutCancel(ctx)
	if err == nil {
		// The person is on the way: a failure to commit no longer shuts the
		// gate, and the reservation counts as an entry all the same.
		d.Cause = l.Journal.Commit(keep, r, 1)
		return nil
	}
	if !errors.Is(err, ErrNoPermit) {
		err = fmt.Errorf("%w: %w", errGate, err)
	}
	if permit.Revoke() {
		if annulErr := l.Journal.Annul(keep, r, ReasonOf(err)); annulErr != nil {
			err = errors.Join(err, fmt.Errorf("annulling the entry: %w", annulErr))
		}
	}
	return err
}

// uses counts, for each entitlement, the entries that stand.
func (l *Lane) uses(ctx context.Context, entitlements []whitelist.Entitlement) ([]uint32, error) {
	uses := make([]uint32, len(entitlements))
	for i, e := range entitlements {
		var err error
		var h History
		if h, err = l.Journal.History(ctx, e.ID); err != nil {
			return nil, err
		}
		uses[i] = uint32(len(h.Passages))
	}
	return uses, nil
}

// attend waits for staff to compare the person with the card, and enters on
// their word. The deadline counts anew from it.
func (l *Lane) attend(ctx context.Context, f Facts, d Decision) {
	if l.Checker == nil {
		return
	}
	checkCtx, cancel := context.WithTimeout(ctx, l.HolderCheckTimeout)
	defer cancel()
	confirmed, err := l.Checker.Check(checkCtx, d)

	start := time.Now()
	d.Verdict, d.Cause = Deny, nil
	d.Stages, d.Commands, d.Bytes, d.TerminalSignatures = Stages{}, 0, 0, 0 // told with the card's own decision
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		d.HolderCheck, d.Cause = TimedOut, err
	case err != nil:
		d.HolderCheck, d.Cause = CheckFailed, err
	case !confirmed:
		d.HolderCheck = Refused
	default:
		d.HolderCheck = Confirmed
		f.Attended = true
		deadline := start.Add(l.Deadline)
		permit := newPermit(deadline)
		openCtx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
		defer cancel()
		defer context.AfterFunc(openCtx, func() { permit.Revoke() })()
		if err := l.enter(openCtx, start, &d, &f, permit); err != nil {
			d.Verdict, d.Reason, d.Cause = Deny, ReasonOf(err), err
		}
	}
	d.Elapsed = time.Since(start)
	l.publish(ctx, d)
}
