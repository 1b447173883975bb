package terminal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Mode is what a lane is for.
type Mode string

// Modes.
const (
	Venue   Mode = "venue"   // a gate: whoever has a ticket enters
	Counter Mode = "counter" // a desk: staff compares each person with the card first
	Muster  Mode = "muster"  // a shelter (避難所): whoever comes is counted
)

// ByToken is the method of a decision about somebody without a card, who got a
// number.
const ByToken jpki.Method = "token"

// ErrMode says that a lane is not for what staff asks.
var ErrMode = errors.New("this terminal is no shelter")

// twice is how long a card that comes again is the same tap: a person who is not
// sure whether the first one counted.
const twice = 10 * time.Second

// muster counts somebody whose card has proved itself, whatever their ticket is
// worth today: a shelter turns nobody away. Whoever is inside leaves, whoever is
// not arrives.
func muster(f Facts) Ruling {
	if f.Holder.IsZero() {
		return Ruling{Reason: AuthFailed}
	}
	if f.Place == nil || len(f.Histories) != 1 {
		return Ruling{Reason: WrongGate, Problem: ErrUnknownGate}
	}
	h := f.Histories[0]
	r := Ruling{Verdict: Admit, Reason: OK, Entitlement: f.person(), Zone: f.Place.zone.Name, People: 1, Seen: h.Last}
	for _, c := range conditions(f.List, f.Instant, f.Clock, f.Floor, f.Jumped) {
		r.Warnings = append(r.Warnings, c.reason)
	}
	inside := f.Place.count(whitelist.Entitlement{}, h, f.Instant, true).Inside > 0
	switch {
	case f.Again, inside && f.Token != 0: // who brings back a number does not leave
		return r.denied(AlreadyInside)
	case inside:
		r.Reason = Leaving
	}
	return r
}

// recent remembers which cards came a moment ago, by the clock as it goes on,
// right or wrong.
type recent struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// again reports whether a card came less than a moment before at.
func (r *recent) again(cardID string, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.seen {
		if at.Sub(t).Abs() >= twice {
			delete(r.seen, id)
		}
	}
	_, again := r.seen[cardID]
	if r.seen == nil {
		r.seen = make(map[string]time.Time)
	}
	if !again {
		r.seen[cardID] = at
	}
	return again
}

// person is what somebody at a shelter is counted by: the ticket of one person, so
// that a card and a SIM are one, else the card, so that a family on one ticket is
// as many people as it has cards. A list that comes later does not make another of
// whoever came without one.
func (f Facts) person() string {
	for _, e := range f.Row.Entitlements {
		if e.Party <= 1 && !f.Known {
			return e.ID
		}
	}
	return whitelist.PersonPrefix + f.CardID
}

// An Expectation is what staff has said of whoever comes next to a shelter.
type Expectation struct {
	// BirthDate was typed at the counter, so that a card which is on no list can
	// prove itself by method B.
	BirthDate cardauth.BirthDate
	// Token is the number that the person got before; 0 is none.
	Token uint32
	By    Staff
	Until time.Time // with a monotonic reading; nobody else's card is taken for theirs
}

// Expect says something of the next person. It takes a steward.
func (l *Lane) Expect(e Expectation) error {
	switch err := e.By.May(Steward); {
	case err != nil:
		return err
	case l.Mode != Muster:
		return fmt.Errorf("%w: gate.mode is %q", ErrMode, l.Mode)
	case !e.BirthDate.IsZero() && (!slices.Contains(l.Methods, jpki.TapUse) || !l.Dialogue.CanFirstUse() || len(l.Anchors) == 0 || len(l.SurfaceAuthorities) == 0):
		return fmt.Errorf("%w: a birth date needs method %q, anchors.files and anchors.surface_keys", ErrMode, jpki.TapUse)
	}
	l.expected.Store(&e)
	return nil
}

// expectation is that of the next person. It stays for another try until a card
// has proved itself.
func (l *Lane) expectation() Expectation {
	if e := l.expected.Load(); e != nil && time.Now().Before(e.Until) {
		return *e
	}
	return Expectation{}
}

// GiveToken counts somebody without a card, and returns the decision that has
// their number. It takes a steward.
func (l *Lane) GiveToken(ctx context.Context, by Staff, note string) (Decision, uint32, error) {
	d := Decision{Verdict: Admit, Reason: OK, Method: ByToken, People: 1, Staff: by, Note: note}
	if err := by.May(Steward); err != nil {
		return d, 0, err
	}
	if l.Mode != Muster {
		return d, 0, fmt.Errorf("%w: gate.mode is %q", ErrMode, l.Mode)
	}
	var token uint32
	d, err := l.desk(ctx, d, func(d *Decision, permit *Permit) error {
		d.Zone, d.Cause = l.zone()
		keep := context.WithoutCancel(ctx)
		given, err := l.Journal.Count(keep, whitelist.TokenPrefix)
		if err != nil {
			return fmt.Errorf("%w: counting tokens: %w", errJournal, err)
		}
		for token = given + 1; ctx.Err() == nil; token++ {
			d.Entitlement = TokenEntitlement(token)
			reservation, err := l.Journal.Reserve(keep, *d, 0)
			if errors.Is(err, ErrUsesChanged) {
				continue // it was given: by another lane, or some before it are deleted
			}
			if err != nil {
				return fmt.Errorf("%w: reserving the entry: %w", errJournal, err)
			}
			return l.open(ctx, d, reservation, permit)
		}
		return context.Cause(ctx)
	})
	return d, token, err
}

// TokenLeaves counts out somebody who goes and has only a number. It takes a
// steward.
func (l *Lane) TokenLeaves(ctx context.Context, by Staff, token uint32) (Decision, error) {
	d := Decision{Verdict: Admit, Reason: Leaving, Method: ByToken, Entitlement: TokenEntitlement(token), People: 1, Staff: by}
	if err := by.May(Steward); err != nil {
		return Decision{}, err
	}
	return l.desk(ctx, d, func(d *Decision, permit *Permit) error {
		d.Zone, d.Cause = l.zone()
		d.Direction = Exit
		h, err := l.Journal.History(ctx, d.Entitlement)
		if err != nil {
			return fmt.Errorf("%w: %w", errJournal, err)
		}
		if len(h.Passages) != 1 {
			return fmt.Errorf("token %d: %w", token, ErrToken)
		}
		reservation, err := l.Journal.Reserve(context.WithoutCancel(ctx), *d, h.Last)
		if err != nil {
			return fmt.Errorf("%w: reserving the exit: %w", errJournal, err)
		}
		return l.open(ctx, d, reservation, permit)
	})
}

// ErrToken says that a number was not given, has left or was merged.
var ErrToken = errors.New("nobody inside has that number")

// TokenEntitlement is what somebody with that number is counted by.
func TokenEntitlement(token uint32) string { return fmt.Sprintf("%s%d", whitelist.TokenPrefix, token) }

// TokenOf is the number that somebody is counted by, 0 of anybody else.
func TokenOf(entitlement string) (token uint32) {
	digits, isToken := strings.CutPrefix(entitlement, whitelist.TokenPrefix)
	if n, err := strconv.ParseUint(digits, 10, 32); isToken && err == nil {
		token = uint32(n)
	}
	return token
}

// CardOf is the pseudonym of the card that somebody is counted by, "" of anybody
// else.
func CardOf(entitlement string) string {
	card, isPerson := strings.CutPrefix(entitlement, whitelist.PersonPrefix)
	if !isPerson {
		return ""
	}
	return card
}

// merge takes back the token of somebody who has now shown a card. It comes after
// the card was counted: a crash between the two counts a person twice, and none
// too few.
func (l *Lane) merge(ctx context.Context, token uint32, by Staff) error {
	h, err := l.Journal.History(ctx, TokenEntitlement(token))
	if err != nil {
		return err
	}
	if len(h.Passages) == 0 {
		return fmt.Errorf("token %d was not given, or is merged already", token)
	}
	for _, p := range h.Passages {
		if err := l.Journal.SettleBy(ctx, p.Reservation, 0, by, "has shown a card"); err != nil {
			return err
		}
	}
	return nil
}

// zone is the one that the lane's gate leads into. An error leaves it empty: staff
// opens the gate all the same, and is told.
func (l *Lane) zone() (string, error) {
	view, err := l.List.Current()
	if err != nil {
		return "", fmt.Errorf("zone is not known: %w", err)
	}
	defer view.Release()
	place, err := l.place(view.Manifest())
	if err != nil {
		return "", fmt.Errorf("zone is not known: %w", err)
	}
	return place.zone.Name, nil
}
