package terminal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// dialogues are the methods, who uses them, and how many commands they take.
var dialogues = []struct {
	method   jpki.Method
	name     string
	commands int
}{
	{jpki.TapUse, "listed", 4},
	{jpki.TapUse, "listed, first use", 9},
	{jpki.ExternalAuth, "listed", 10},
	{jpki.ExternalAuth, "listed, key not registered", 11}, // reads the whole certificate
}

// answerAt gives one answer in the place of the card's, to command at.
func answerAt(at int, answer ...byte) func(context.Context, int, []byte) ([]byte, error, bool) {
	return func(_ context.Context, n int, _ []byte) ([]byte, error, bool) { return answer, nil, n == at }
}

func TestCardPulledAtEveryCommand(t *testing.T) {
	for _, d := range dialogues {
		for at := 1; at <= d.commands; at++ {
			for how, answer := range map[string]error{
				"reader says removed":          nfc.ErrRemoved,
				"reader says success, no data": nil,
			} {
				t.Run(fmt.Sprintf("%s/%s/command %d/%s", d.method, d.name, at, how), func(t *testing.T) {
					r := newRig(t, methods(d.method))
					got := r.tap(t, bend(card(t, r.card(t, d.name, d.method), vcard.Options{}),
						func(_ context.Context, n int, _ []byte) ([]byte, error, bool) { return nil, answer, n >= at }))
					r.wantShut(t, got, terminal.CardRemoved)
					if got.Commands != at {
						t.Errorf("%d commands were sent", got.Commands)
					}
				})
			}
		}
	}
}

func TestTwoCardsAtOnce(t *testing.T) {
	r := newRig(t)
	r.field.Insert(slotB, card(t, r.card(t, "not listed", jpki.TapUse), vcard.Options{}))
	r.wantShut(t, r.decision(t), terminal.NotListed)
	d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	r.wantShut(t, d, terminal.MultipleCards)
	if d.Commands != 0 {
		t.Errorf("%d commands were sent", d.Commands)
	}
}

func TestSecondCardDuringTheDialogue(t *testing.T) {
	r := newRig(t)
	stranger := card(t, r.card(t, "not listed", jpki.TapUse), vcard.Options{})
	// The first one stays: else the second is alone, and has a decision of its own.
	d := r.put(t, bend(card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}),
		func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
			if n == 4 {
				r.field.Insert(slotB, stranger)
			}
			return nil, nil, false
		}))
	r.wantShut(t, d, terminal.MultipleCards)
}

// Another card answers from some command on: the head of one person, the
// signature of another.
func TestSwappedCard(t *testing.T) {
	for _, d := range dialogues[:3] {
		for at := 3; at <= d.commands; at++ {
			t.Run(fmt.Sprintf("%s/command %d", d.method, at), func(t *testing.T) {
				r := newRig(t, methods(d.method))
				// The other card is genuine and listed too, and has followed
				// the dialogue from its beginning.
				name := "listed, SIM of a phone"
				if d.method == jpki.TapUse {
					name = "revoked"
				}
				other := card(t, r.card(t, name, d.method), vcard.Options{})
				got := r.tap(t, bend(card(t, r.card(t, d.name, d.method), vcard.Options{}),
					func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
						answer, err := other.Transmit(ctx, capdu)
						return answer, err, n >= at
					}))
				want := terminal.AuthFailed
				if d.commands == 9 && at == 3 { // the certificate is of two people
					want = terminal.CertUntrusted
				}
				r.wantShut(t, got, want)
			})
		}
	}
}

// A recorder keeps the last signature that a card has made for us.
func TestReplayedSignature(t *testing.T) {
	for _, d := range dialogues[:3] {
		t.Run(string(d.method), func(t *testing.T) {
			r := newRig(t, methods(d.method))
			img := r.card(t, d.name, d.method)
			var recorded []byte
			genuine := card(t, img, vcard.Options{})
			first := r.tap(t, bend(genuine, func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
				answer, err := genuine.Transmit(ctx, capdu)
				if n == d.commands {
					recorded = answer
				}
				return answer, err, true
			}))
			if !first.Admitted() || len(recorded) != 258 {
				t.Fatalf("recording: %v %s, %d bytes", first.Verdict, first.Reason, len(recorded))
			}
			again := r.tap(t, bend(card(t, img, vcard.Options{}), answerAt(d.commands, recorded...)))
			if again.Admitted() || again.Reason != terminal.AuthFailed || r.gate.Opened() != 1 {
				t.Errorf("replayed: %v %s, opened %d", again.Verdict, again.Reason, r.gate.Opened())
			}
		})
	}
}

// The card signs something, only not our challenge.
func TestSignatureOverAnotherChallenge(t *testing.T) {
	for _, d := range dialogues[:3] {
		t.Run(string(d.method), func(t *testing.T) {
			r := newRig(t, methods(d.method))
			genuine := card(t, r.card(t, d.name, d.method), vcard.Options{})
			got := r.tap(t, bend(genuine, func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
				if n != d.commands {
					return nil, nil, false
				}
				other := append([]byte(nil), capdu...)
				other[len(other)-2] ^= 1 // the last byte before Le
				answer, err := genuine.Transmit(ctx, other)
				return answer, err, true
			}))
			r.wantShut(t, got, terminal.AuthFailed)
		})
	}
}

// The card's challenge must be new: one that it has seen answered before gets
// a signature of ours, and that signature is refused by the card.
func TestTerminalSignatureIsWorthNothingTwice(t *testing.T) {
	r := newRig(t, methods(jpki.ExternalAuth))
	img := r.card(t, "listed", jpki.ExternalAuth)
	var signature []byte
	genuine := card(t, img, vcard.Options{})
	r.tap(t, bend(genuine, func(_ context.Context, n int, capdu []byte) ([]byte, error, bool) {
		if n == 9 {
			signature = append([]byte(nil), capdu...)
		}
		return nil, nil, false
	}))
	again := card(t, img, vcard.Options{})
	d := r.tap(t, bend(again, func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
		if n != 9 {
			return nil, nil, false
		}
		answer, err := again.Transmit(ctx, signature)
		return answer, err, true
	}))
	if d.Admitted() || d.Reason != terminal.AuthFailed {
		t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
}

func TestTerminalKeySignsOnlyForListedCards(t *testing.T) {
	for name, want := range map[string]struct {
		reason terminal.Reason
		signed int64
	}{
		"not listed":                {terminal.NotListed, 0},
		"certificate of a wrong CA": {terminal.CertUntrusted, 0},
		"listed":                    {terminal.OK, 1},
		"copied card":               {terminal.AuthFailed, 1}, // its head is listed
	} {
		r := newRig(t, methods(jpki.ExternalAuth))
		d := r.tap(t, card(t, r.card(t, name, jpki.ExternalAuth), vcard.Options{}))
		if n := r.signer.n.Load(); d.Reason != want.reason || n != want.signed || d.TerminalSignatures != int(want.signed) {
			t.Errorf("%s: %s, %d signatures, %d counted", name, d.Reason, n, d.TerminalSignatures)
		}
		events := r.events(t)
		if got := events[0].TerminalSignatures; got != int(want.signed) {
			t.Errorf("%s: the journal counts %d", name, got)
		}
	}
	r := newRig(t, methods(jpki.ExternalAuth))
	expired := r.card(t, "expired certificate", jpki.TapUse)
	d := r.tap(t, card(t, expired, vcard.Options{}))
	r.wantShut(t, d, terminal.CertExpired)
	if r.signer.n.Load() != 0 {
		t.Error("the terminal's key signed for an expired certificate")
	}
}

// Truncated, oversized and random answers at every command. A card without
// the keys is never admitted, whatever else it answers; a genuine one may be
// when it got the proof through, and is denied for a reason of the card else.
func TestNonsenseAnswers(t *testing.T) {
	reasons := map[terminal.Reason]bool{
		terminal.CardUnsupported: true, terminal.CardRemoved: true, terminal.AuthFailed: true, terminal.NotListed: true,
		terminal.CertExpired: true, terminal.CertUntrusted: true, terminal.PINRequired: true,
	}
	chance := rand.New(rand.NewPCG(1, 2))
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(chance.Uint32())
		}
		return b
	}
	mangle := map[string]func(answer []byte) []byte{
		"one byte short":    func(a []byte) []byte { return append(a[:max(0, len(a)-3)], a[len(a)-2:]...) },
		"half":              func(a []byte) []byte { return append(a[:(len(a)-2)/2], a[len(a)-2:]...) },
		"no status word":    func(a []byte) []byte { return a[:1] },
		"one byte long":     func(a []byte) []byte { return append(append(a[:len(a)-2:len(a)-2], 0), a[len(a)-2:]...) },
		"70,000 bytes":      func([]byte) []byte { return append(make([]byte, 70000), 0x90, 0) },
		"first byte wrong":  func(a []byte) []byte { a[0] ^= 0x40; return a },
		"random":            func(a []byte) []byte { return append(bytesOf(len(a)-2), 0x90, 0) },
		"random everything": func(a []byte) []byte { return bytesOf(len(a)) },
		"zeros":             func(a []byte) []byte { return append(make([]byte, len(a)-2), 0x90, 0) },
	}
	for _, d := range dialogues {
		r := newRig(t, methods(d.method))
		liar := "copied card"
		if d.commands == 11 {
			liar = "certificate of a wrong CA"
		}
		for _, name := range []string{d.name, liar} {
			img := r.card(t, name, d.method)
			for at := 1; at <= d.commands; at++ {
				for how, f := range mangle {
					honest := card(t, img, vcard.Options{})
					got := r.tap(t, bend(honest, func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
						if n != at {
							return nil, nil, false
						}
						answer, err := honest.Transmit(ctx, capdu)
						return f(append([]byte(nil), answer...)), err, true
					}))
					if got.Admitted() && name == liar || !got.Admitted() && !reasons[got.Reason] {
						t.Errorf("%s, %s, command %d, %s: %v %s (%v)", d.method, name, at, how, got.Verdict, got.Reason, got.Cause)
					}
				}
			}
		}
	}
}

func TestEndlessMoreData(t *testing.T) {
	for _, d := range dialogues {
		for at := 1; at <= d.commands; at++ {
			r := newRig(t, methods(d.method))
			got := r.tap(t, bend(card(t, r.card(t, d.name, d.method), vcard.Options{}),
				func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
					return []byte{0xAA, 0x61, 0xFF}, nil, n >= at
				}))
			// Each round brings a byte of the at most 1,327 that were asked for.
			if got.Admitted() || got.Commands > at+1330 {
				t.Errorf("%s, command %d: %v %s after %d commands", d.method, at, got.Verdict, got.Reason, got.Commands)
			}
			// A command that asks for no data has no use for 61xx: refused, too.
			if got.Reason != terminal.CardUnsupported && got.Reason != terminal.AuthFailed {
				t.Errorf("%s, command %d: %s", d.method, at, got.Reason)
			}
		}
	}
}

// A gate that fails after the permit was spent may have opened: the entry is in
// doubt and counts, so that nobody gets a second one from a loose wire.
func TestFaultyGate(t *testing.T) {
	for name, c := range map[string]struct {
		spend bool
		uses  uint32
		kind  journal.Kind // what follows the reservation
	}{
		"before the relay": {false, 0, journal.KindAnnul},
		"at the relay":     {true, 1, journal.KindDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(_ *rig, _ *terminal.Config, p *terminal.Parts) {
				p.Gate = &faultyGate{Simulator: gate.NewSimulator(nil), spend: c.spend}
			})
			d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
			if d.Admitted() || d.Reason != terminal.GateFault {
				t.Errorf("%v %s", d.Verdict, d.Reason)
			}
			r.wantUses(t, c.uses)
			if events := r.events(t); events[1].Kind != c.kind {
				t.Errorf("journal: %+v", events)
			}
		})
	}
}

func TestCardThatCannotBeConnectedIsDenied(t *testing.T) {
	for err, want := range map[error]terminal.Reason{
		nfc.ErrRemoved:             terminal.CardRemoved,
		fmt.Errorf("card is mute"): terminal.CardUnsupported,
	} {
		var field *failingField
		r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
			field = &failingField{Field: r.field, err: &nfc.CardError{Slot: slotA, Detected: time.Now(), Err: err}}
			p.Reader = field
		})
		r.wantShut(t, r.decision(t), want)
		// The lane goes on.
		if d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); !d.Admitted() {
			t.Errorf("the next card: %v %s", d.Verdict, d.Reason)
		}
	}
}

// A watchingGate counts the entries that stand when its relay moves.
type watchingGate struct {
	*gate.Simulator
	journal *journal.Journal
	uses    uint32
}

func (g *watchingGate) Open(ctx context.Context, p *terminal.Permit, people uint32) error {
	h, _ := g.journal.History(ctx, "ticket-alice")
	g.uses = h.Entered()
	return g.Simulator.Open(ctx, p, people)
}

// A faultyGate fails, before or after it has spent the permit.
type faultyGate struct {
	*gate.Simulator
	spend bool
}

func (g *faultyGate) Open(_ context.Context, p *terminal.Permit, _ uint32) error {
	if g.spend {
		if err := p.Spend(); err != nil {
			return err
		}
	}
	return fmt.Errorf("relay: no current")
}

// A failingField fails once.
type failingField struct {
	*nfctest.Field
	once sync.Once
	err  error
}

func (f *failingField) Next(ctx context.Context) (c nfc.Card, err error) {
	f.once.Do(func() { err = f.err })
	if err != nil {
		return nil, err
	}
	return f.Field.Next(ctx)
}
