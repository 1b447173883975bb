// Package adversary is a library of lying cards: what a person who wants the
// gate to open, to crash, to hang, to spend somebody's PIN tries, to sign for a
// stranger or to tell something may hold to a reader.
//
// It promises that every adversary is a small named behaviour, that no two try
// the same, and that each carries the one reason (docs/reasons.md) for which a
// correct gate stays shut. [All] is the table; docs/adversaries.md shows it.
// Commands are read with code of this package's own, and reasons are plain
// strings, so that a mistake of the reader's side cannot hide in shared code.
//
// Some adversaries are given what nobody should ever have: a certificate that the
// trusted authority issued with a fault, a record that the true key signed over
// nonsense, a genuine card that answers in a bent form. They show that one
// mistake elsewhere does not open the gate.
//
// One person is missing here, because the gate lets her in. First use proves that
// a card is genuine and that its holder was born on the registered day, not that
// certificate and card key are of one chip (card-facts §5). A twin, or a helper
// with the same birth date, who lends a second genuine card beside a copy of the
// certificate, is admitted; she is among the [Controls]. Hence first use is off
// unless an operator asks for it.
package adversary

import (
	"fmt"
	"slices"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// The methods that are attacked, as a gate's configuration names them; first use
// is tap-use with a card whose key the list does not know yet.
const (
	TapUse       = "tap-use"
	ExternalAuth = "external-auth"
	FirstUse     = "first-use"
)

// Reasons (docs/reasons.md).
const (
	authFailed      = "auth_failed"
	cardRemoved     = "card_removed"
	cardUnsupported = "card_unsupported"
	certExpired     = "cert_expired"
	certUntrusted   = "cert_untrusted"
	notListed       = "not_listed"
	pinRequired     = "pin_required"
	readTimeout     = "read_timeout"
)

// An Adversary is one lying card. Name, lie, method and reason are a promise.
type Adversary struct {
	Name   string // kebab-case
	Lie    string // what it lies about, one sentence without its full stop
	Method string // what it attacks
	Reason string // what it must get

	// Costs is how many tries of a genuine card's PIN it may cost: 1 for one
	// that has the birth date presented to the card of somebody else.
	Costs int

	// Short says that it is one of the dozen that go through a PC/SC daemon too.
	Short bool

	play func(*stage) vcard.Device
}

// All is the table of adversaries, by method and family.
func All() []Adversary {
	var all []Adversary
	for _, family := range [][]Adversary{
		copies, swaps, replays, signatures, heads, reads, statuses, // most of them attack tap-use,
		terminals, certificates, // external-auth,
		records, signers, birthDates, // first-use,
		stalls, // and all three
	} {
		all = append(all, family...)
	}
	return all
}

// An Attempt is an adversary with its card in hand, for one tap.
type Attempt struct {
	Adversary
	*wire // what is held to the reader
	stage *stage
}

// Attempt makes the adversary's card from what the cast has. Certificates that
// must be on the list for the lie to come to bear are added to the cast, so
// attempts are made before the list is signed.
func (a Adversary) Attempt(c *Cast) (*Attempt, error) {
	s := c.stage(a.Method)
	var device vcard.Device
	if s.err == nil {
		device = a.play(s)
	}
	if s.err != nil {
		return nil, fmt.Errorf("adversary %s: %w", a.Name, s.err)
	}
	return &Attempt{a, &wire{Device: device}, s}, nil
}

// Told reports whether the adversary came to tell its lie in time: a card that
// is found out before proves nothing about the check that it was made for. Of a
// card that lies in its files alone it says so always.
func (t *Attempt) Told() bool { return t.stage.told || !t.stage.talks }

// Harm names what the adversary got although the gate stayed shut; none is the
// rule.
func (t *Attempt) Harm() []string {
	harm := slices.Clone(t.stage.harm)
	add := func(format string, args ...any) { harm = append(harm, fmt.Sprintf(format, args...)) }
	// The terminal's key, and a birth date, are for a card that was not found out
	// before, and once.
	pins, signatures := 0, 0
	switch early := slices.Contains([]string{certUntrusted, certExpired, notListed, pinRequired}, t.Reason); {
	case early:
	case t.Method == FirstUse:
		pins = 1
	case t.Method == ExternalAuth && t.Reason != cardUnsupported:
		signatures = 1
	}
	if t.wire.pins > pins {
		add("the gate presented a PIN %d times", t.wire.pins)
	}
	if t.wire.signatures > signatures {
		add("the terminal's key signed %d times", t.wire.signatures)
	}
	if t.wire.commands > maxCommands {
		add("the gate sent %d commands", t.wire.commands)
	}
	if lost := t.stage.triesLost(); lost > t.Costs {
		add("genuine cards lost %d tries of their PINs", lost)
	}
	return harm
}

// maxCommands is more than any dialogue needs: a certificate of the greatest
// size that is read, byte by byte.
const maxCommands = 4200

// Commands, PINs and Signatures count what the gate sent: command APDUs, VERIFY
// with a value, EXTERNAL AUTHENTICATE with a signature.
func (t *Attempt) Commands() int   { return t.wire.commands }
func (t *Attempt) PINs() int       { return t.wire.pins }
func (t *Attempt) Signatures() int { return t.wire.signatures }
