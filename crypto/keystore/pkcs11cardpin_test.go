package keystore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// tries pulls the card and asks it how often its PIN may still be tried.
func (r *reader) tries() string {
	r.Helper()
	r.pull()
	r.card.PowerOn()
	var last []byte
	for _, command := range []string{
		"\x00\xA4\x04\x0C\x0A\xD3\x92\xF0\x00\x26\x01\x00\x00\x00\x01", // SELECT JPKI-AP
		"\x00\xA4\x02\x0C\x02\x00\x18",                                 // SELECT the authentication PIN
		"\x00\x20\x00\x80",                                             // VERIFY without data
	} {
		var err error
		if last, err = r.card.Transmit(r.Context(), []byte(command)); err != nil {
			r.Fatal(err)
		}
	}
	return fmt.Sprintf("%X", last)
}

// left sets the tries that the authentication PIN has left.
func left(n int) func(*vcard.Image) {
	return func(img *vcard.Image) {
		pins := img.Application(vcard.AIDJPKI()).PINs
		for i := range pins {
			if pins[i].ID == 0x0018 {
				pins[i].Left = n
			}
		}
	}
}

func TestWrongPINCostsTheCardOneTry(t *testing.T) {
	r := newReader(t, "good.json", nil)
	r.open("id=01").Close()
	r.setPIN("4321")
	keys := []*Key{}
	for range 3 {
		k, err := r.Signer(r.uri("id=01"), ExternalAuth)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	var e *PINError
	for i := range 9 {
		if err := keys[i%3].Check(t.Context()); !errors.As(err, &e) || e.Locked || e.NotSent != (i > 0) {
			t.Errorf("check %d: %v", i, err)
		}
	}
	if got := r.tries(); got != "63C2" {
		t.Fatalf("%s, want one try spent", got)
	}
	// The right PIN is not sent either, until a person says so.
	r.setPIN("1234")
	r.put()
	k := keys[2]
	r.untilPIN(k, &e)
	if !e.NotSent {
		t.Errorf("%+v", e)
	}
	if got := r.tries(); got != "63C2" {
		t.Fatalf("%s, want none spent", got)
	}
	r.put()
	again := &Store{RetryPIN: true}
	l, err := again.Signer(r.uri("id=01"), ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	r.until(l, nil)
	if err := errors.Join(k.Check(t.Context()), signs(k), l.Close(), k.Close(), again.Close()); err != nil {
		t.Error(err)
	}
	if got := r.tries(); got != "63C3" {
		t.Errorf("%s, want three tries", got)
	}
}

// untilPIN checks until the error is a PINError.
func (r *reader) untilPIN(k *Key, e **PINError) {
	r.Helper()
	var err error
	for range 100 {
		if err = k.Check(r.Context()); errors.As(err, e) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.Fatal(err)
}

func TestTriesThatAreMissingSpareTheCard(t *testing.T) {
	for _, tc := range []struct {
		left  int
		retry bool // nor does a person's word spend the last one
		want  PINError
		tries string
	}{
		{2, false, PINError{NotSent: true}, "63C2"},
		{1, false, PINError{NotSent: true, Left: 1, Known: true}, "63C1"},
		{1, true, PINError{NotSent: true, Left: 1, Known: true}, "63C1"},
		{0, true, PINError{Locked: true}, "63C0"},
	} {
		t.Run(fmt.Sprint(tc.left, tc.retry), func(t *testing.T) {
			r := newReader(t, "good.json", left(tc.left))
			r.RetryPIN = tc.retry
			k, err := r.Signer(r.uri("id=01"), ExternalAuth)
			if err != nil {
				t.Fatal(err)
			}
			var e *PINError
			for range 3 {
				r.untilPIN(k, &e)
			}
			tc.want.Medium = e.Medium
			if *e != tc.want {
				t.Errorf("%+v, want %+v", *e, tc.want)
			}
			if got := r.tries(); got != tc.tries {
				t.Errorf("%s, want %s", got, tc.tries)
			}
		})
	}
}

// Every JPKI card calls itself the same: a visitor's card in the other slot must
// not be taken for the terminal's own, nor see its PIN.
func TestVisitorsCardIsNotTheTerminals(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k := r.open("id=01;slot-description=" + strings.ReplaceAll(daemon.SlotName(0), " ", "%20"))
	visitor := &reader{TB: t, slot: 1, card: newCard(t, "good.json", nil)}
	visitor.put()
	var err error
	for range 100 { // until pcscd has seen the visitor's
		var plain *Key
		if plain, err = r.OpenSigner(t.Context(), r.uri("id=01"), ExternalAuth); err != nil {
			break
		}
		if err := plain.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), daemon.SlotName(1)) {
		t.Error(err)
	}
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Error(err)
	}
	// The terminal's card is gone, the visitor's is there.
	r.setPIN("9999")
	r.pull()
	r.until(k, ErrAbsent)
	if got := visitor.tries(); got != "63C3" {
		t.Errorf("the visitor's card has seen a PIN: %s", got)
	}
}

// Somebody puts another card into the reader of the terminal's own.
func TestPINIsNotSentToAnotherCard(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k := r.open("id=01")
	r.pull()
	r.card = newCard(t, "expired.json", func(img *vcard.Image) {
		pins := img.Application(vcard.AIDJPKI()).PINs
		for i := range pins {
			pins[i].Value = strings.Repeat("9", len(pins[i].Value))
		}
	})
	r.until(k, ErrAbsent)
	r.put()
	r.until(k, ErrWrongKey)
	for range 3 {
		if err := k.Check(t.Context()); !errors.Is(err, ErrWrongKey) {
			t.Error(err)
		}
	}
	if got := r.tries(); got != "63C3" {
		t.Errorf("%s: the card has seen a PIN", got)
	}
}
