package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What staff does at a lane. Each names who it was and why, in their words. What
// lets people in is in the journal before it has an effect.

// MaxAdmitted is how many people staff lets in at once.
const MaxAdmitted = 100

// ByOrder is the method of a decision without a card.
const ByOrder jpki.Method = "order"

// ErrNote says that staff gave no reason.
var ErrNote = errors.New("a reason is missing")

// Override lets people through without a card and without a ticket. It takes a
// supervisor. It waits until nobody is served, and returns when the gate is open;
// the passage is observed as that of a card.
func (l *Lane) Override(ctx context.Context, by Staff, note string, people uint32) (Decision, error) {
	switch err := by.May(Supervisor); {
	case err != nil:
		return Decision{}, err
	case note == "":
		return Decision{}, ErrNote
	case people < 1 || people > MaxAdmitted:
		return Decision{}, fmt.Errorf("%d people: want 1 to %d", people, MaxAdmitted)
	}
	d := Decision{Verdict: Admit, Reason: Override, Staff: by, Note: note, People: people}
	return l.desk(ctx, d, func(d *Decision, permit *Permit) error {
		d.Zone, d.Cause = l.zone()
		reservation, err := l.Journal.Reserve(context.WithoutCancel(ctx), *d, 0)
		if err != nil {
			return fmt.Errorf("%w: reserving the entry: %w", errJournal, err)
		}
		return l.open(ctx, d, reservation, permit)
	})
}

// AdmitOrder lets somebody in whose card is forgotten, lost or broken: staff has
// found who they are and what they ordered. The list decides as for a card, and
// the entry counts as one, so that the card does not open the gate once more. Where
// the ticket wants staff to look, or an entry is in doubt, the decision says so and
// the gate stays shut until looked says that it was looked at. It takes a supervisor.
func (l *Lane) AdmitOrder(ctx context.Context, by Staff, note, order string, looked bool) (Decision, error) {
	switch err := by.May(Supervisor); {
	case err != nil:
		return Decision{}, err
	case note == "":
		return Decision{}, ErrNote
	}
	head, err := whitelist.OrderHead(order)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Method: ByOrder, Staff: by, Note: note}
	return l.desk(ctx, d, func(d *Decision, permit *Permit) error {
		view, err := l.List.Current()
		if err != nil {
			return fmt.Errorf("%w: %w", errList, err)
		}
		defer view.Release()
		list := view.Manifest()
		now, floor := l.read(), l.Journal.Latest()
		d.ListEpoch, d.ListSeq, d.CardID = list.Epoch, list.Seq, view.CardID(head).String()
		d.Instant = instantOf(now.at, floor, list)
		row, err := view.Lookup(ctx, head)
		if err != nil {
			if !errors.Is(err, whitelist.ErrNotListed) {
				err = fmt.Errorf("%w: %w", errList, err)
			}
			return err
		}
		f := Facts{
			Instant: d.Instant, Clock: now.shown, Jumped: now.jumped, Direction: l.Direction, Counted: l.Gate.Counts(), Vouched: by, Row: row,
			List: list, Floor: floor, HolderCheck: CheckNone,
		}
		if f.Place, err = l.place(list); err != nil && !errors.Is(err, ErrUnknownGate) {
			return fmt.Errorf("%w: %w", errList, err)
		}
		err = l.enter(ctx, time.Now(), d, &f, permit)
		if f.Attended = looked; err == nil && d.Verdict == Attend && looked {
			err = l.enter(ctx, time.Now(), d, &f, permit)
		}
		return err
	})
}

// desk has one turn of a running lane for what staff does. The error is that of
// act, and the decision is published whatever it is.
func (l *Lane) desk(ctx context.Context, d Decision, act func(*Decision, *Permit) error) (Decision, error) {
	select {
	case <-l.begun:
	case <-ctx.Done():
		return Decision{}, context.Cause(ctx)
	}
	select {
	case l.turn <- struct{}{}:
	case <-l.ended:
		return Decision{}, errHalted
	case <-ctx.Done():
		return Decision{}, context.Cause(ctx)
	}
	running, err := l.halts.staffed()
	if err != nil {
		<-l.turn
		return Decision{}, err
	}
	start := time.Now()
	d.Instant, d.Gate, d.Direction = l.read().at, l.GateName, l.Direction
	permit := newPermit(start.Add(l.Deadline))
	if err = act(&d, permit); err != nil {
		d.Verdict, d.Reason, d.Cause, d.People = Deny, ReasonOf(err), err, 0
	}
	d.Elapsed = time.Since(start)
	told := d
	if told.Verdict == Attend {
		told.Verdict = Deny // who asked is the staff
	}
	l.publish(ctx, told)
	if !d.Admitted() || !l.Gate.Counts() {
		<-l.turn
		return d, err
	}
	// The gate is open: whoever asked need not wait, and may go away.
	go func() {
		l.pass(running, d, l.seen, l.done)
		<-l.turn // which Run waits for
	}()
	return d, nil
}

// SetOutOfOrder takes the lane out of order, or back into it. Cards are not read
// while it is.
func (l *Lane) SetOutOfOrder(ctx context.Context, by Staff, note string, on bool) error {
	if err := by.May(Steward); err != nil {
		return err
	}
	if note == "" {
		return ErrNote
	}
	i := Incident{Reason: OutOfOrder, State: state(on), Staff: by, Note: note}
	var err error
	switch was := l.halts.get()&HaltStaff != 0; {
	case was == on && !l.unwritten.Load():
	case on: // at once, and although it may not be written
		l.halts.set(HaltStaff, true)
		err = l.incident(ctx, i)
		l.unwritten.Store(err != nil)
	default:
		if err = l.incident(ctx, i); err == nil {
			l.halts.set(HaltStaff, false)
			l.unwritten.Store(false)
		}
	}
	l.look(ctx)
	return err
}

// Command takes the lane out of order, or back into it, by a command of the operator
// from afar. It holds beside what staff does: neither ends the other.
func (l *Lane) Command(ctx context.Context, message string, on bool) error {
	if !l.halts.set(HaltCommand, on) {
		return nil
	}
	err := l.incident(ctx, Incident{Reason: OutOfOrder, State: state(on), Note: message, Cause: errCommanded})
	l.look(ctx)
	return err
}
