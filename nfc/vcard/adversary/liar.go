package adversary

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// A liar stands between the reader and a card: the first rule whose command it
// is answers, and the card answers what no rule is for.
type liar struct {
	vcard.Device
	rules []rule
	told  *bool // some rule has answered
	n     int   // commands since power-up
}

type rule struct {
	when   when
	answer answer
}

// on is a rule.
func on(w when, a answer) rule { return rule{w, a} }

// liar puts rules in front of a card.
func (s *stage) liar(card vcard.Device, rules ...rule) vcard.Device {
	s.talks = true
	return &liar{card, rules, &s.told, 0}
}

// assisted is a card that somebody helps along so that it comes to show its lie,
// which is in its files.
func assisted(card vcard.Device, rules ...rule) vcard.Device {
	return &liar{card, rules, new(bool), 0}
}

func (l *liar) PowerOn() {
	l.n = 0
	l.Device.PowerOn()
}

func (l *liar) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	l.n++
	c := parse(capdu, l.n)
	for _, r := range l.rules {
		if r.when(c) {
			*l.told = true
			return r.answer(ctx, c, l.Device)
		}
	}
	return l.Device.Transmit(ctx, capdu)
}

// An answer answers a command, with or without the card's help. Its bytes are
// data and status word.
type answer func(ctx context.Context, c command, card vcard.Device) ([]byte, error)

// status answers with a status word alone.
func status(sw uint16) answer { return say(nil, sw) }

// say answers with data and a status word.
func say(data []byte, sw uint16) answer {
	return func(context.Context, command, vcard.Device) ([]byte, error) { return response(data, sw), nil }
}

// exactly answers with these bytes, whether or not they are a response.
func exactly(b []byte) answer {
	return func(context.Context, command, vcard.Device) ([]byte, error) { return bytes.Clone(b), nil }
}

func response(data []byte, sw uint16) []byte {
	return binary.BigEndian.AppendUint16(bytes.Clone(data), sw)
}

// makes answers with data that depend on the command, and 9000.
func makes(f func(c command) []byte) answer {
	return func(_ context.Context, c command, _ vcard.Device) ([]byte, error) { return response(f(c), 0x9000), nil }
}

// bent lets the card answer, and bends the data of its 9000.
func bent(f func(data []byte) []byte) answer {
	return func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		rapdu, err := card.Transmit(ctx, c.raw)
		if err != nil || !bytes.HasSuffix(rapdu, []byte{0x90, 0x00}) {
			return rapdu, err
		}
		return response(f(bytes.Clone(rapdu[:len(rapdu)-2])), 0x9000), nil
	}
}

// instead gives the card another command in the place of the reader's.
func instead(f func(c command) []byte) answer {
	return func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		return card.Transmit(ctx, f(c))
	}
}

// ending changes the status word of an answer, and leaves its data.
func ending(sw uint16, a answer) answer {
	return func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		rapdu, err := a(ctx, c, card)
		if err != nil || len(rapdu) < 2 {
			return rapdu, err
		}
		return response(rapdu[:len(rapdu)-2], sw), nil
	}
}

// relay gives the command to another card.
func relay(other vcard.Device) answer {
	return func(ctx context.Context, c command, _ vcard.Device) ([]byte, error) {
		return other.Transmit(ctx, c.raw)
	}
}

// follow lets another card hear everything the reader says and answers with the
// first card's words until the rule w comes to bear, with the other's from then on.
func (s *stage) follow(first, other vcard.Device, w when) vcard.Device {
	swapped := since(w)
	return s.liar(first, on(always, func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		heard, err := other.Transmit(ctx, c.raw)
		if swapped(c) {
			return heard, err
		}
		return card.Transmit(ctx, c.raw)
	}))
}

// stall says nothing until the reader gives up.
func stall(ctx context.Context, _ command, _ vcard.Device) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// slowly lets the card answer after a while.
func slowly(d time.Duration, then answer) answer {
	return func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return then(ctx, c, card)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// late lets the card answer, and says it a little after that time, whether or
// not anybody still listens.
func late(d time.Duration) answer {
	return func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		rapdu, err := card.Transmit(ctx, c.raw)
		time.Sleep(d + 20*time.Millisecond)
		return rapdu, err
	}
}

// inTurn gives a further answer each time, and the last one for ever.
func inTurn(answers ...answer) answer {
	return func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return a(ctx, c, card)
	}
}

// pass lets the card answer.
func pass(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
	return card.Transmit(ctx, c.raw)
}

// never answers a command that should not have come, and remembers what was wrong.
func (s *stage) never(harm string) answer {
	return func(context.Context, command, vcard.Device) ([]byte, error) {
		s.harm = append(s.harm, harm)
		return response(nil, 0x6985), nil
	}
}

// wire counts what the reader says to whatever it believes a card.
type wire struct {
	vcard.Device
	commands, pins, signatures int
}

func (w *wire) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	w.commands++
	switch c := parse(capdu, w.commands); {
	case verify(c):
		w.pins++
	case authenticate(c):
		w.signatures++
	}
	return w.Device.Transmit(ctx, capdu)
}
