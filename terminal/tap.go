package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// errDeadline ends a tap that took too long.
var errDeadline = errors.New("the deadline of the tap has passed")

// grace is how long a tap that missed its deadline may still take to report
// what it did, for the record. The lamp and the permit do not wait for it.
const grace = 250 * time.Millisecond

// serve handles one card, from its detection until it is released.
//
//	            ┌─ answer in time ──────────────────────▶ publish ─┐
//	detected ─▶ tap                                                ├▶ release ─▶ staff, if asked for
//	            └─ deadline: revoke permit, red lamp ─▶ publish ─┘
//	               (the tap is waited for, but can open nothing any more)
func (l *Lane) serve(ctx context.Context, card nfc.Card) {
	detected, instant := card.Detected(), l.Now()
	deadline := detected.Add(l.Deadline)
	tapCtx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
	defer cancel()

	t := tap{lane: l, card: card, permit: newPermit(deadline), decision: Decision{Instant: instant, Gate: l.GateName}}
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
			d.Instant, d.Gate = instant, l.GateName
		}
	}
	if !d.Admitted() {
		d.Elapsed = answered.Sub(detected)
	}
	l.publish(ctx, d)
	if hung {
		l.Gate.Show(ShowOutOfOrder)
		<-done // a reader has one card at a time
		l.Gate.Show(ShowReady)
		// Not told yet: every signature counts, and so does a refused birth date.
		if t.decision.TerminalSignatures > 0 || t.decision.BirthDateRefused {
			l.report(ctx, t.decision)
		}
	}
	if err := card.Release(); err != nil && !errors.Is(err, nfc.ErrRemoved) {
		l.Gate.Show(ShowOutOfOrder) // until the next card; the reader itself says more
	}
	if d.Verdict == Attend {
		l.attend(ctx, t.facts, d)
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
	t.lane.Gate.Show(ShowDeny)
	timer := time.NewTimer(grace)
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
	if err := t.alone(ctx); err != nil {
		return err
	}
	view, err := l.List.Current()
	if err != nil {
		return fmt.Errorf("%w: %w", errList, err)
	}
	defer view.Release()
	list := view.Manifest()
	d.ListEpoch, d.ListSeq = list.Epoch, list.Seq
	clock, floor := d.Instant, l.Journal.Latest()
	d.Instant = instantOf(clock, floor, list)

	// What the card has to prove, once its head is known.
	var row whitelist.Row
	var key cardkey.Key
	challenge := cardauth.Challenge{Scope: l.Scope, Terminal: l.Terminal, Purpose: cardauth.PurposeGate}
	if err := challenge.Fresh(l.Rand); err != nil {
		return err
	}
	resolve := func(head cardauth.Head) (jpki.Expected, error) {
		d.CardID = view.CardID(head.Bytes()).String()
		// Before the list: an expired certificate is worth no signature.
		if err := cardauth.CheckValidity(head, d.Instant); err != nil {
			return jpki.Expected{}, err
		}
		var err error
		if row, err = view.Lookup(ctx, head.Bytes()); err != nil {
			if !errors.Is(err, whitelist.ErrNotListed) {
				err = fmt.Errorf("%w: %w", errList, err)
			}
			return jpki.Expected{}, err
		}
		w := l.choose(row)
		want := jpki.Expected{Method: w.method, Challenge: challenge}
		key = w.key
		if w.chain { // first: what follows is for a certificate of a pinned authority only
			want.CheckCertificate = func(der []byte) error {
				certified, err := cardauth.VerifyCertificate(head, der, l.Anchors, d.Instant)
				if w.method == jpki.ExternalAuth {
					key = certified
				}
				return err
			}
		}
		if w.firstUse {
			want.FirstUse, err = t.firstUse(ctx, row, &key)
		}
		return want, err
	}

	channel := nfc.NewChannel(t.card)
	d.Stages.Detect = time.Since(t.card.Detected())
	evidence, err := l.Dialogue.Run(ctx, t.card.Slot(), channel, resolve)
	d.note(evidence, channel.Stats())
	if err != nil {
		return err
	}

	if key.IsZero() {
		return errNoKey
	}
	start := time.Now()
	holder, err := cardauth.Verify(cardauth.Proof{
		Head: evidence.Head, Challenge: challenge, Signature: evidence.Signature, Scheme: evidence.Scheme,
	}, key, d.Instant)
	d.Stages.Verify = time.Since(start)
	if err != nil {
		return err
	}
	t.facts = Facts{
		Instant: d.Instant, Clock: clock, Gate: l.GateName, Holder: holder, Row: row, List: list,
		Floor: floor, HolderCheck: l.holderCheck(evidence.Method),
	}
	return t.alone(ctx) // a second card may have come meanwhile
}

// alone refuses to go on while another slot of the lane holds a card: nobody
// could say whose gate it is.
func (t *tap) alone(ctx context.Context) error {
	alone, err := t.card.Alone(ctx)
	if err != nil {
		return fmt.Errorf("looking for a second card: %w", err)
	}
	if !alone {
		return errMultipleCards
	}
	return nil
}

// A way is how a row's holder is to be proved.
type way struct {
	method   jpki.Method
	key      cardkey.Key // zero: the dialogue has to bring one
	chain    bool        // the whole certificate is verified
	firstUse bool
}

// choose returns the first configured method for which the row has a key, or
// what it takes to learn one: for method A the certificate, for method B, where
// first use is configured, the birth date. Where neither is there, the dialogue
// goes on without: it tells a card that cannot do it from one to be registered
// again, and nothing of the row.
func (l *Lane) choose(row whitelist.Row) way {
	for _, m := range l.Methods {
		switch {
		case m == jpki.TapUse && !row.CardKey.IsZero():
			return way{method: m, key: row.CardKey}
		case m == jpki.TapUse && l.FirstUse && row.BirthDate != "":
			return way{method: m, chain: true, firstUse: true}
		case m == jpki.ExternalAuth:
			return way{method: m, key: row.AuthKey, chain: row.AuthKey.IsZero()}
		}
	}
	return way{method: jpki.TapUse}
}

// firstUse is what a card without a registered card key has to show, which
// leaves that key in key. A card that refused the birth date once is never
// given it again (card-facts §3, PIN rule): the list has somebody else's.
func (t *tap) firstUse(ctx context.Context, row whitelist.Row, key *cardkey.Key) (*jpki.FirstUse, error) {
	refused, err := t.lane.Journal.BirthDateRefused(ctx, t.decision.CardID)
	if err != nil {
		return nil, fmt.Errorf("%w: looking for a refused birth date: %w", errJournal, err)
	}
	if refused {
		return nil, errBirthDate
	}
	born, err := cardauth.ParseBirthDate(row.BirthDate)
	if err != nil {
		return nil, fmt.Errorf("%w: row: %w", errList, err)
	}
	var signer cardauth.CVCertificate
	return &jpki.FirstUse{
		BirthDate: born,
		CheckSigner: func(cvc []byte) (err error) {
			signer, err = cardauth.VerifyCVCertificate(cvc, t.lane.SurfaceAuthorities)
			return err
		},
		CheckRecord: func(record []byte) (err error) {
			*key, err = cardauth.VerifyAgeRecord(record, signer, born)
			return err
		},
	}, nil
}

func (l *Lane) holderCheck(m jpki.Method) HolderCheck {
	if c, ok := l.HolderCheck[m]; ok {
		return c
	}
	return CheckStaff
}

// note keeps what the dialogue reports, however far it came.
func (d *Decision) note(e jpki.Evidence, s nfc.Stats) {
	d.Method, d.TerminalSignatures, d.BirthDateRefused = e.Method, e.TerminalSignatures, e.BirthDateRefused
	d.Commands, d.Bytes = s.Commands, s.Bytes
	d.Stages.Select, d.Stages.Read, d.Stages.Resolve = e.Timings.Select, e.Timings.Read, e.Timings.Resolve
	d.Stages.Auth, d.Stages.Sign = e.Timings.Auth, e.Timings.Sign
}
