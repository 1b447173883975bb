package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
)

// errDeadline ends a tap that took too long.
var errDeadline = errors.New("the deadline of the tap has passed")

// Grace is how long a tap that missed its deadline may still take to report
// what it did, for the record. The lamp and the permit do not wait for it.
const Grace = 250 * time.Millisecond

// serve handles one card, from its detection until it is released.
//
//	            ┌─ answer in time ──────────────────────▶ publish ─┐
//	detected ─▶ tap                                                ├▶ release ─▶ staff, if asked for
//	            └─ deadline: revoke permit, red lamp ─▶ publish ─┘
//	               (the tap is waited for, but can open nothing any more)
//
// The deadline counts from turn where the card had to wait for its turn: behind
// people whom staff let in.
func (l *Lane) serve(ctx context.Context, card nfc.Card, turn time.Time) {
	detected, now := card.Detected(), l.read()
	deadline := detected.Add(l.Deadline)
	if turn.Sub(detected) > Grace {
		deadline = turn.Add(l.Deadline)
	}
	tapCtx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
	defer cancel()

	t := tap{lane: l, card: card, permit: newPermit(deadline), now: now, decision: Decision{Instant: now.at, Gate: l.GateName, Direction: l.Direction}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.run(tapCtx)
	}()

	var d Decision
	var answered time.Time
	hung := false
	select {
	case <-done:
		answered = time.Now()
		d = t.decision
	case <-tapCtx.Done():
		answered = time.Now()
		if d, hung = t.late(done, context.Cause(tapCtx)); hung {
			d.Instant, d.Gate, d.Direction = now.at, l.GateName, l.Direction
		}
	}
	if !d.Admitted() {
		d.Elapsed = answered.Sub(detected)
	}
	l.publish(ctx, d)
	if errors.Is(d.Cause, jpki.ErrTerminalKey) {
		l.look(ctx) // the key may be gone: the next person is to see that first
	}
	if hung {
		l.lamp.hung.Store(true)
		l.look(ctx)
		<-done // a reader has one card at a time
		l.lamp.hung.Store(false)
		l.look(ctx)
		// Not told yet: every signature counts, and so does a refused birth date.
		if t.decision.TerminalSignatures > 0 || t.decision.BirthDateRefused {
			l.report(ctx, t.decision)
		}
	}
	if err := card.Release(); err != nil && !errors.Is(err, nfc.ErrRemoved) {
		l.light(ShowOutOfOrder) // until the next card; the reader itself says more
	}
	switch {
	case d.Verdict == Attend:
		l.attend(ctx, t.facts, d)
	case d.Admitted() && l.Gate.Counts():
		l.pass(ctx, d, l.seen, l.done)
	}
}

// late answers for a tap whose time is over. Either the relay has moved
// already, and the tap is about to say so, or it never will. A tap that does
// not come back in time is hung; what it did is known only afterwards.
func (t *tap) late(done <-chan struct{}, cause error) (d Decision, hung bool) {
	if !t.permit.Revoke() {
		<-done
		return t.decision, false
	}
	t.lane.light(ShowDeny)
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	select {
	case <-done:
		d := t.decision
		if d.Verdict != Deny { // it wanted staff to look, but too late
			d.Verdict, d.Reason, d.Cause = Deny, ReasonOf(cause), cause
		}
		return d, false
	case <-timer.C:
		return Decision{Reason: ReasonOf(cause), Cause: cause}, true
	}
}

// A tap is one card being served. Its fields belong to run until it returns.
type tap struct {
	lane     *Lane
	card     nfc.Card
	permit   *Permit
	now      reading
	decision Decision
	facts    Facts
}

// run goes the whole way and leaves the outcome in t.decision.
func (t *tap) run(ctx context.Context) {
	err := t.prove(ctx)
	if err == nil {
		err = t.lane.enter(ctx, t.card.Detected(), &t.decision, &t.facts, t.permit)
	}
	if err != nil {
		if ctx.Err() != nil { // what broke off did so because time was over
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		t.decision.Verdict, t.decision.Reason, t.decision.Cause = Deny, ReasonOf(err), err
	}
	if t.decision.Admitted() {
		t.decision.Elapsed = t.permit.at.Sub(t.card.Detected())
	}
}

// prove speaks with the card until t.facts has a holder and a row.
func (t *tap) prove(ctx context.Context) error {
	l, d := t.lane, &t.decision
	if err := Alone(ctx, t.card); err != nil {
		return err
	}
	view, err := l.List.Current()
	if err != nil {
		return fmt.Errorf("%w: %w", errList, err)
	}
	defer view.Release()
	list := view.Manifest()
	d.ListEpoch, d.ListSeq = list.Epoch, list.Seq
	floor := l.Journal.Latest()
	d.Instant = instantOf(t.now.at, floor, list)

	channel := nfc.NewChannel(t.card)
	d.Stages.Detect = time.Since(t.card.Detected())
	expected := l.expectation()
	proved, err := l.prover(expected).Prove(ctx, t.card.Slot(), channel, view, d.Instant)
	d.note(proved, channel.Stats())
	if typed := !expected.BirthDate.IsZero(); typed && d.BirthDateRefused {
		d.BirthDateRefused = false // mistyped: it says nothing of the list
		l.expected.Store(nil)      // and is for no other card
	}
	if err != nil {
		return err
	}
	l.expected.Store(nil)
	d.Staff = expected.By
	t.facts = Facts{
		Mode: l.Mode, CardID: d.CardID, Token: expected.Token, Again: l.Mode == Muster && l.recent.again(d.CardID, t.now.at),
		Instant: d.Instant, Clock: t.now.shown, Jumped: t.now.jumped, Direction: l.Direction, Counted: l.Gate.Counts(), Holder: proved.Holder, Row: proved.Row,
		List: list, Floor: floor, HolderCheck: l.holderCheck(proved.Evidence.Method),
	}
	if t.facts.Place, err = l.place(list); err != nil && !errors.Is(err, ErrUnknownGate) {
		return fmt.Errorf("%w: %w", errList, err)
	}
	return Alone(ctx, t.card) // a second one may have come meanwhile
}

// Alone refuses to go on with a card while another slot of its lane holds one
// too: nobody could say whose gate it is, or whose PIN.
func Alone(ctx context.Context, card nfc.Card) error {
	alone, err := card.Alone(ctx)
	if err != nil {
		return fmt.Errorf("looking for a second card: %w", err)
	}
	if !alone {
		return ErrMultipleCards
	}
	return nil
}

// prover is what the lane has a card prove itself with.
func (l *Lane) prover(e Expectation) *Prover {
	return &Prover{
		Anyone: l.Mode == Muster, BirthDate: e.BirthDate,
		Scope: l.Scope, Terminal: l.Terminal, Methods: l.Methods, FirstUse: l.FirstUse,
		Anchors: l.Anchors, SurfaceAuthorities: l.SurfaceAuthorities,
		Dialogue: l.Dialogue, Refusals: l.Journal, Rand: l.Rand,
	}
}

func (l *Lane) holderCheck(m jpki.Method) HolderCheck {
	if l.Mode == Counter {
		return CheckStaff
	}
	if c, ok := l.HolderCheck[m]; ok {
		return c
	}
	return CheckStaff
}

// note keeps what the dialogue reports, however far it came.
func (d *Decision) note(p Proved, s nfc.Stats) {
	e := p.Evidence
	d.CardID = p.CardID
	d.Method, d.TerminalSignatures, d.BirthDateRefused = e.Method, e.TerminalSignatures, e.BirthDateRefused
	d.Commands, d.Bytes = s.Commands, s.Bytes
	d.Stages.Select, d.Stages.Read, d.Stages.Resolve = e.Timings.Select, e.Timings.Read, e.Timings.Resolve
	d.Stages.Auth, d.Stages.Key, d.Stages.Sign, d.Stages.Verify = e.Timings.Auth, e.Timings.Key, e.Timings.Sign, p.Verify
}
