package jpki_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// An exchange puts another card into the field, powered, before command n, and
// the reader does not tell.
type exchange struct {
	nfctest.Medium
	other *vcard.Card
	n     int
}

func (e *exchange) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	if e.n--; e.n == 0 {
		e.Medium = e.other
	}
	return e.Medium.Transmit(ctx, capdu)
}

// A reader tells of an exchanged card as of one that left. Of one that does not,
// the card itself is noticed while its holder types: the one that comes has no
// application selected, and no PIN is sent to it.
func TestCardExchangedWhileItsHolderTypes(t *testing.T) {
	other := newCard(t, image(t, "sim.json"), vcard.Options{})
	d := holder(t)
	r := &recorder{}
	swap := &exchange{Medium: good(t), other: other}
	r.Transmitter = swap
	registrar := d.registrar(t)
	ask := registrar.Ask
	registrar.Ask = func(ctx context.Context, q jpki.Question) (jpki.Answer, error) {
		swap.n = 1
		return ask(ctx, q)
	}
	dialogue, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = dialogue.Register(t.Context(), "slot", nfc.NewChannel(r), registerChallenge, registrar)
	if !errors.Is(err, nfc.ErrRemoved) || presented(t, r) != nil {
		t.Errorf("error %v, presented %q", err, presented(t, r))
	}
	if left := triesLeft(t, other, vcard.AIDJPKI(), 0x98); left != 3 {
		t.Errorf("the other card has %d tries left", left)
	}
}

// What remains the terminal's word: between the two proofs a reader that tells
// of no exchange, or a device that passes commands on to two cards, could bring
// an accomplice's card key. A reader that tells ends the session.
func TestAccomplicesCardBetweenTheProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no card is looked at meanwhile: counts are exact
		_, whole, err := holder(t).register(t, good(t))
		if err != nil {
			t.Fatal(err)
		}
		accomplice := image(t, "expired.json") // born on the same day
		between := whole.Commands - 3          // SELECT card-surface AP
		d := holder(t)
		if _, _, err := d.register(t, &exchange{Medium: good(t), other: newCard(t, accomplice, vcard.Options{}), n: between}); err != nil {
			t.Fatal(err)
		}
		if !d.cardKey.Equal(cardKey(t, accomplice)) || !d.authKey.Equal(authenticationKey(t, image(t, "good.json"))) {
			t.Error("this is where a test would say that nobody need take the terminal's word")
		}

		field := nfctest.NewField("slot")
		field.Insert("slot", good(t))
		card, err := field.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		r := &recorder{Transmitter: transmit(func(ctx context.Context, capdu []byte) ([]byte, error) {
			if n++; n == between {
				field.Insert("slot", newCard(t, accomplice, vcard.Options{}))
			}
			return card.Transmit(ctx, capdu)
		})}
		if _, _, err := holder(t).register(t, r); !errors.Is(err, nfc.ErrRemoved) || len(r.commands) != between {
			t.Errorf("error %v after %d commands", err, len(r.commands))
		}
	})
}

// The question ends when the card leaves, not when its holder has typed.
func TestQuestionEndsWhenTheCardLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		field := nfctest.NewField("slot")
		field.Insert("slot", good(t))
		card, err := field.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var left time.Time
		var told error
		registrar := holder(t).registrar(t)
		registrar.Ask = func(ctx context.Context, _ jpki.Question) (jpki.Answer, error) {
			time.Sleep(time.Minute)
			field.Remove("slot")
			left = time.Now()
			<-ctx.Done()
			told = context.Cause(ctx)
			return typed(t, "1234", born), nil // finished at that moment
		}
		dialogue, err := jpki.NewDialogue(jpki.DefaultProfile(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder{Transmitter: card}
		_, err = dialogue.Register(t.Context(), "slot", nfc.NewChannel(r), registerChallenge, registrar)
		if !errors.Is(err, nfc.ErrRemoved) || !errors.Is(told, nfc.ErrRemoved) {
			t.Errorf("error %v, the question ended with %v", err, told)
		}
		if d := time.Since(left); d > time.Second {
			t.Errorf("told after %v", d)
		}
		if p := presented(t, r); p != nil {
			t.Errorf("presented %q", p)
		}
	})
}

func TestCardPulledAtEveryCommandOfARegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no card is looked at meanwhile: counts are exact
		for _, name := range []string{"good.json", "android.json"} {
			_, whole, err := holder(t).register(t, newCard(t, image(t, name), vcard.Options{}))
			if err != nil {
				t.Fatal(err)
			}
			for at := 1; at <= whole.Commands; at++ {
				_, stats, err := holder(t).register(t, nfctest.Pulled(newCard(t, image(t, name), vcard.Options{}), at))
				if !errors.Is(err, nfc.ErrRemoved) || stats.Commands != at {
					t.Errorf("%s, command %d: %v after %d", name, at, err, stats.Commands)
				}
			}
		}
	})
}
