package keystore

import (
	"errors"
	"strings"
	"testing"
)

func TestCardSeesAWrongPINOnce(t *testing.T) {
	for _, c := range []struct {
		image, aid, key, wrong, right string
		full                          int
	}{
		{"good.json", jpki, "17", "4321", "1234", 3},
		{"good.json", jpki, "1A", "CBA321", "ABC123", 5},
		{"piv.json", piv, "9A", "654321", "123456", 3},
		{"piv.json", piv, "9C", "654321", "123456", 3},
	} {
		t.Run(c.image+" "+c.key, func(t *testing.T) {
			b := newBench(t, c.image, c.aid, c.key, c.wrong)
			k := b.key(t)
			if e := pinError(t, k.Check(t.Context())); e.NotSent || e.Locked || !e.Known || e.Left != c.full-1 {
				t.Errorf("the wrong one: %+v", e)
			}
			again := func(k *Key, left int) {
				t.Helper()
				before := b.verified
				for range 3 {
					err := k.Check(t.Context())
					if e := pinError(t, err); !e.NotSent || e.Locked || !e.Known || e.Left != left {
						t.Errorf("the same again: %+v", e)
					}
					if strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), c.right) {
						t.Errorf("the error tells the PIN: %v", err)
					}
				}
				if b.verified != before {
					t.Errorf("a PIN was sent %d times more", b.verified-before)
				}
			}
			again(k, c.full-1)
			b.write(t, c.right)
			again(k, c.full-1) // a corrected one needs a person too
			again(b.key(t), c.full-1)

			b.write(t, c.wrong)
			b.store.RetryPIN = true
			for left := c.full - 2; left > 0; left-- {
				k := b.key(t)
				if e := pinError(t, k.Check(t.Context())); e.NotSent || e.Left != left {
					t.Errorf("a person's try: %+v", e)
				}
				again(k, left)
			}
			again(b.key(t), 1) // nobody spends the last one
			b.write(t, c.right)
			again(b.key(t), 1)
			if b.verified != c.full-1 {
				t.Errorf("a PIN was sent %d times, want %d", b.verified, c.full-1)
			}
		})
	}
}

func TestCorrectedPINOpensForAPerson(t *testing.T) {
	b := newBench(t, "good.json", jpki, "17", "4321")
	pinError(t, b.key(t).Check(t.Context()))
	b.write(t, "1234")
	b.store.RetryPIN = true
	if err := errors.Join(signs(b.open(t))); err != nil {
		t.Error(err)
	}
	b.store.RetryPIN = false
	if err := signs(b.open(t)); err != nil {
		t.Errorf("all tries are there again: %v", err)
	}
}

func TestLockedCardIsToldFromAWrongPIN(t *testing.T) {
	b := newBench(t, "blocked-pin.json", jpki, "17", "1234")
	for _, retry := range []bool{false, true} {
		b.store.RetryPIN = retry
		if e := pinError(t, b.key(t).Check(t.Context())); !e.Locked {
			t.Errorf("%+v", e)
		}
	}
	if b.verified != 0 {
		t.Errorf("a PIN was sent %d times", b.verified)
	}
}

func TestWhatCannotBeAPINIsNotSent(t *testing.T) {
	for _, c := range []struct{ image, aid, key, pin string }{
		{"good.json", jpki, "17", "12345"},
		{"good.json", jpki, "17", "ABC123"},
		{"good.json", jpki, "1A", "12345678901234567"},
		{"good.json", jpki, "1A", "ABC12"},
		{"piv.json", piv, "9A", "12345"},
		{"piv.json", piv, "9A", "123456789"},
	} {
		b := newBench(t, c.image, c.aid, c.key, c.pin)
		if err := b.key(t).Check(t.Context()); !errors.Is(err, ErrKeySource) || strings.Contains(err.Error(), c.pin) {
			t.Errorf("%v: %v", c, err)
		}
		if b.verified != 0 {
			t.Errorf("%v: sent", c)
		}
	}
}

// A card that goes before it has answered may have counted the PIN all the same.
func TestPINWhoseAnswerIsLostIsNotSentBlindly(t *testing.T) {
	for _, retry := range []bool{false, true} {
		b := newBench(t, "good.json", jpki, "17", "4321")
		left := 2
		if retry {
			// One try is gone already, and a person allows another.
			pinError(t, b.key(t).Check(t.Context()))
			b.store.RetryPIN, left = true, 1
		}
		before := b.verified
		k := b.key(t)
		b.bend = func(capdu []byte) []byte {
			if len(capdu) > 5 && capdu[1] == 0x20 {
				_, _ = b.card.Transmit(t.Context(), capdu)
				return []byte{} // how readers tell that a card left
			}
			return nil
		}
		if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) {
			t.Errorf("the card left: %v", err)
		}
		b.bend = nil
		for range 3 {
			if e := pinError(t, k.Check(t.Context())); !e.NotSent || e.Left != left {
				t.Errorf("%+v", e)
			}
		}
		if n := b.verified - before; n != 1 {
			t.Errorf("the PIN was sent %d times", n)
		}
	}
}

// With more tries than one left, an unanswered try of a person is the only one.
func TestPersonsTryIsOneEvenWithoutAnAnswer(t *testing.T) {
	b := newBench(t, "good.json", jpki, "1A", "CBA321")
	pinError(t, b.key(t).Check(t.Context())) // 4 of 5 are left
	b.store.RetryPIN = true
	k := b.key(t)
	before := b.verified
	b.bend = func(capdu []byte) []byte {
		if len(capdu) > 5 && capdu[1] == 0x20 {
			return []byte{}
		}
		return nil
	}
	if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("the card left: %v", err)
	}
	b.bend = nil
	for range 3 {
		if e := pinError(t, k.Check(t.Context())); !e.NotSent || e.Left != 4 {
			t.Errorf("%+v", e)
		}
	}
	if n := b.verified - before; n != 1 {
		t.Errorf("the PIN was sent %d times", n)
	}
}
