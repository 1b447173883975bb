package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// enter decides and, when the ruling admits, makes the entry durable and
// opens the gate, in this order. An error means that the gate stayed shut.
// began is where Elapsed counts from.
//
// Where another lane used the same entitlement between counting and reserving,
// it decides again: each time that happens somebody else got on. So it does where
// another gate claimed it, and where no claim is answered in time.
func (l *Lane) enter(ctx context.Context, began time.Time, d *Decision, f *Facts, permit *Permit) error {
	l.payUp(ctx)
	venue := asking{Lane: l}
	defer venue.done()
	for ctx.Err() == nil {
		var err error
		if f.Known, err = l.known(ctx, f); err != nil {
			return fmt.Errorf("%w: looking for somebody: %w", errJournal, err)
		}
		if f.Histories, err = venue.histories(ctx, f); err != nil {
			return fmt.Errorf("%w: counting entries: %w", errJournal, err)
		}
		start := time.Now()
		r := Decide(*f)
		d.Stages.Decide += time.Since(start)
		d.rule(r)
		d.Cause = errors.Join(d.Cause, venue.why)
		if d.Direction = f.Direction; f.Mode == Muster && r.Reason == Leaving {
			d.Direction = Exit
		}
		if r.Verdict != Admit {
			f.Told, f.Doubts = r.Warnings, r.Doubts
			if f.Mode == Muster && f.Token != 0 && r.Reason == AlreadyInside {
				l.mergeToken(context.WithoutCancel(ctx), f.Token, d)
			}
			return nil
		}
		// Not cancelled by the deadline: a write that is given up half-way
		// might stand after all. The revoked permit keeps the gate shut.
		keep := context.WithoutCancel(ctx)
		if len(r.Doubts) > 0 {
			if err := l.settleDoubts(keep, r.Doubts, d.Staff); err != nil {
				return fmt.Errorf("%w: settling an entry in doubt: %w", errJournal, err)
			}
			continue
		}

		if venue.claim(ctx, d, f, r.Next) {
			continue
		}
		d.Elapsed = time.Since(began)
		start = time.Now()
		reservation, err := l.Journal.Reserve(keep, *d, r.Seen)
		d.Stages.Journal += time.Since(start)
		if errors.Is(err, ErrUsesChanged) {
			venue.done()
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: reserving the entry: %w", errJournal, err)
		}
		if err := l.open(ctx, d, reservation, permit); err != nil || f.Token == 0 {
			return err
		}
		l.mergeToken(keep, f.Token, d)
		return nil
	}
	return context.Cause(ctx)
}

// mergeToken takes back a number for somebody whose card is counted.
func (l *Lane) mergeToken(ctx context.Context, token uint32, d *Decision) {
	if err := l.merge(ctx, token, d.Staff); err != nil {
		d.Cause = errors.Join(d.Cause, fmt.Errorf("merging token %d: %w", token, err))
	}
}

// rule takes over a ruling.
func (d *Decision) rule(r Ruling) {
	d.Verdict, d.Reason, d.Entitlement, d.Warnings = r.Verdict, r.Reason, r.Entitlement, r.Warnings
	d.Until, d.Zone, d.People, d.Reentry, d.Others, d.Message = r.Until, r.Zone, r.People, r.Reentry, r.Others, r.Message
	d.Used, d.Claim, d.ClaimID = r.Used, "", ""
	d.Cause = r.Problem
}

// open moves the relay for an entry that is durable. When it certainly did not
// move, the entry is annulled; when nobody can tell, it is in doubt.
func (l *Lane) open(ctx context.Context, d *Decision, r Reservation, permit *Permit) error {
	counts := l.Gate.Counts()
	if counts {
		// Who passes before the relay moves was not let in by it.
		l.done = func() {}
		permit.spent = func() { l.seen, l.done = l.door.expect(d.People) }
	}
	err := l.Gate.Open(ctx, permit, d.People)
	keep := context.WithoutCancel(ctx)
	if err == nil {
		d.Reservation = r
		if !counts {
			// The person is on the way: a failure to commit no longer shuts the
			// gate, and the reservation counts as an entry all the same.
			d.Cause = errors.Join(d.Cause, l.Journal.Commit(keep, r, d.People))
		}
		return nil
	}
	if counts {
		l.done()
	}
	still := permit.Revoke()
	if !still || !errors.Is(err, ErrNoPermit) && ctx.Err() == nil {
		err = errors.Join(fmt.Errorf("%w: %w", errGate, err), l.Gate.Shut())
	}
	if still {
		if annulErr := l.Journal.Annul(keep, r, ReasonOf(err)); annulErr != nil {
			err = errors.Join(err, fmt.Errorf("annulling the entry: %w", annulErr))
		}
	} else if doubtErr := l.Journal.Doubt(keep, r, GateFault); doubtErr != nil {
		err = errors.Join(err, fmt.Errorf("putting the entry in doubt: %w", doubtErr))
	}
	return err
}

// known reports whether somebody at a shelter is counted by their card already.
func (l *Lane) known(ctx context.Context, f *Facts) (bool, error) {
	if f.Mode != Muster {
		return false, nil
	}
	h, err := l.Journal.History(ctx, whitelist.PersonPrefix+f.CardID)
	return len(h.Passages) > 0, err
}

// histories reads what is known of each entitlement.
func (a *asking) histories(ctx context.Context, f *Facts) ([]History, error) {
	if f.Mode == Muster {
		h, err := a.Journal.History(ctx, f.person())
		return []History{h}, err
	}
	entitlements := f.Row.Entitlements
	histories := make([]History, len(entitlements))
	for i, e := range entitlements {
		var err error
		if histories[i], err = a.Journal.History(ctx, e.ID); err != nil {
			return nil, err
		}
		if a.Claims != nil {
			histories[i] = a.add(ctx, f, e.ID, histories[i])
		}
	}
	return histories, nil
}

// settleDoubts writes that of those in doubt only the people who were seen came in,
// and that all went out: staff says so, with the person in front of them.
func (l *Lane) settleDoubts(ctx context.Context, doubts []Passage, by Staff) error {
	for _, s := range doubts {
		people := s.Passed
		if s.Direction == Exit {
			people = s.People
		}
		if err := l.Journal.SettleBy(ctx, s.Reservation, people, by, "came again"); err != nil {
			return err
		}
	}
	return nil
}

// renew looks the holder up again where a new list came while staff looked.
func (l *Lane) renew(ctx context.Context, f *Facts) error {
	view, err := l.List.Current()
	if err != nil {
		return fmt.Errorf("%w: %w", errList, err)
	}
	defer view.Release()
	list := view.Manifest()
	if list.Compare(f.List) == 0 || f.Mode == Muster {
		return nil
	}
	if f.Row, err = view.Lookup(ctx, f.Holder.Head().Bytes()); err != nil {
		if !errors.Is(err, whitelist.ErrNotListed) {
			err = fmt.Errorf("%w: %w", errList, err)
		}
		return err
	}
	f.List = list
	if f.Place, err = l.place(list); err != nil && !errors.Is(err, ErrUnknownGate) {
		return fmt.Errorf("%w: %w", errList, err)
	}
	return nil
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
		f.Attended, f.Apart = true, false
		if err := l.renew(ctx, &f); err != nil {
			d.Reason, d.Cause = ReasonOf(err), err
			break
		}
		if l.OnDuty != nil {
			d.Staff = l.OnDuty()
		}
		deadline := start.Add(l.Deadline)
		permit := newPermit(deadline)
		openCtx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
		defer cancel()
		defer context.AfterFunc(openCtx, func() { permit.Revoke() })()
		if err := l.enter(openCtx, start, &d, &f, permit); err != nil {
			d.Verdict, d.Reason, d.Cause = Deny, ReasonOf(err), err
		}
	}
	if !d.Admitted() {
		d.Verdict, d.People = Deny, 0 // something came up that nobody was asked about
	}
	d.Elapsed = time.Since(start)
	l.publish(ctx, d)
	if d.Admitted() && l.Gate.Counts() {
		l.pass(ctx, d, l.seen, l.done)
	}
}
