package vcard_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// The figures of card-facts §8: a certificate of 1,583 bytes in 256-byte reads.
func TestCertificateReadCostsWhatCardFactsSay(t *testing.T) {
	for rate, want := range map[int]time.Duration{
		106000: 181 * time.Millisecond,
		212000: 98 * time.Millisecond,
		424000: 56 * time.Millisecond,
	} {
		clock := &vcard.Clock{BitRate: rate}
		card := newCard(t, image(t, "good.json"), vcard.Options{Clock: clock})
		send(t, card, selectDF(vcard.AIDJPKI()))
		before := clock.Elapsed()
		send(t, card, []byte{0x00, 0xB0, 0x8A, 0x00, 0x00})
		for block := byte(1); block < 6; block++ {
			send(t, card, []byte{0x00, 0xB0, block, 0x00, 0x00})
		}
		send(t, card, []byte{0x00, 0xB0, 0x06, 0x00, 1583 - 6*256})
		if got := clock.Elapsed() - before; (got - want).Abs() > time.Millisecond {
			t.Errorf("%d bit/s: %v, want about %v", rate, got, want)
		}
	}
}

// One READ BINARY of 256 bytes at 106 kbit/s, counted by hand: command 5 + 3
// bytes in a frame; response 253 + 3 and 5 + 3 bytes, acknowledged by 3 bytes.
// 275 bytes of 10 etu and 4 frames of 24 etu are 2,846 etu of 9.4395 µs, and 2 ms.
func TestEveryFrameIsCounted(t *testing.T) {
	clock := &vcard.Clock{}
	card := newCard(t, image(t, "good.json"), vcard.Options{Clock: clock})
	send(t, card, selectDF(vcard.AIDJPKI()))
	before := clock.Elapsed()
	send(t, card, []byte{0x00, 0xB0, 0x8A, 0x00, 0x00})
	if got, want := clock.Elapsed()-before, 28865*time.Microsecond; (got - want).Abs() > 2*time.Microsecond {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestKeyOperationsCost(t *testing.T) {
	digest := sha256.Sum256(nil)
	cost := func(clock *vcard.Clock) time.Duration {
		card := newCard(t, image(t, "good.json"), vcard.Options{Clock: clock})
		send(t, card, selectDF(vcard.AIDSurface()))
		before := clock.Elapsed()
		send(t, card, []byte{0x80, 0x2A, 0x00, 0x00, 0x20}, digest[:], []byte{0x00})
		return clock.Elapsed() - before
	}
	none := cost(&vcard.Clock{KeyOperation: -1})
	if got := cost(&vcard.Clock{}) - none; got != 300*time.Millisecond {
		t.Errorf("default costs %v", got)
	}
	if got := cost(&vcard.Clock{KeyOperation: 450 * time.Millisecond}) - none; got != 450*time.Millisecond {
		t.Errorf("450 ms cost %v", got)
	}
}

// The whole of method A costs three public-key operations and one private.
func TestExternalAuthenticationCostsItsPublicKeyOperations(t *testing.T) {
	cost := func(public time.Duration) time.Duration {
		clock := &vcard.Clock{PublicKeyOperation: public}
		replay(t, vectorDir+"/sim.txt", vcard.Options{Clock: clock})
		return clock.Elapsed()
	}
	if got := cost(20*time.Millisecond) - cost(-1); got != 60*time.Millisecond {
		t.Errorf("%v, want 60 ms", got)
	}
	if cost(0) != cost(20*time.Millisecond) {
		t.Error("20 ms is not the default")
	}
}

func TestSleepingClockReallyWaits(t *testing.T) {
	img := image(t, "good.json")
	synctest.Test(t, func(t *testing.T) {
		clock := &vcard.Clock{Sleep: true}
		card := newCard(t, img, vcard.Options{Clock: clock})
		start := time.Now()
		send(t, card, selectDF(vcard.AIDJPKI()))
		send(t, card, []byte{0x00, 0xB0, 0x8A, 0x00, 0x00})
		if waited := time.Since(start); waited != clock.Elapsed() {
			t.Errorf("waited %v, modelled %v", waited, clock.Elapsed())
		}
	})
}

// A person who takes the card away mid-command has used a PIN try all the same.
func TestCutWaitLosesTheAnswerNotTheEffect(t *testing.T) {
	img := image(t, "good.json")
	synctest.Test(t, func(t *testing.T) {
		card := newCard(t, img, vcard.Options{Clock: &vcard.Clock{Sleep: true}})
		send(t, card, selectDF(vcard.AIDJPKI()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := card.Transmit(ctx, []byte("\x00\x20\x00\x98\x040000")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error is %v", err)
		}
		rapdu, err := card.Transmit(t.Context(), []byte{0x00, 0x20, 0x00, 0x98})
		if err != nil || string(rapdu) != "\x63\xC2" {
			t.Errorf("%X, %v, want two tries left", rapdu, err)
		}
	})
}
