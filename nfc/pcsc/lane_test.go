package pcsc_test

import (
	"bytes"
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/halt"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
)

func TestCardIsReportedWithItsSlot(t *testing.T) {
	lane := open(t, pcsc.Options{})
	for slot := range 2 {
		before := time.Now()
		remove := insert(t, slot, newCard(t))
		c := mustNext(t, lane)
		if c.Slot() != daemon.SlotName(slot) {
			t.Errorf("slot %q, want %q", c.Slot(), daemon.SlotName(slot))
		}
		if d := c.Detected(); d.Before(before) || d.After(time.Now()) {
			t.Errorf("detected at %v, put in after %v", d, before)
		}
		if alone, err := c.Alone(t.Context()); !alone || err != nil {
			t.Errorf("alone: %t, %v", alone, err)
		}
		mustRelease(t, c)
		remove()
		gone(t, slot)
	}
}

func TestCardLeftOnTheReaderIsReadOnce(t *testing.T) {
	lane := open(t, pcsc.Options{})
	insert(t, 0, newCard(t))
	mustRelease(t, mustNext(t, lane))
	noNext(t, lane, "card was read and has not left")
}

func TestReturningCardIsReadAgain(t *testing.T) {
	lane := open(t, pcsc.Options{})
	for range 3 {
		remove := insert(t, 0, newCard(t))
		mustRelease(t, mustNext(t, lane))
		remove()
		gone(t, 0)
	}
}

func TestCardThatLeftAndReturnedUnseenIsReadAgain(t *testing.T) {
	lane := open(t, pcsc.Options{})
	remove := insert(t, 0, newCard(t))
	c := mustNext(t, lane)
	// Nobody waits while this happens: only the event counter tells.
	remove()
	gone(t, 0)
	insert(t, 0, newCard(t))
	there(t, 0)
	if _, err := c.Transmit(t.Context(), []byte{0, 0xB0, 0, 0}); !errors.Is(err, nfc.ErrRemoved) {
		t.Errorf("command to the card that left: %v", err)
	}
	mustRelease(t, c)
	mustRelease(t, mustNext(t, lane))
	noNext(t, lane, "second card was read and has not left")
}

func TestForgottenCardIsNotReadAtTheStart(t *testing.T) {
	daemon.Need(t)
	remove := insert(t, 0, newCard(t))
	there(t, 0)
	lane := open(t, pcsc.Options{}) // fails when a card is reported
	remove()
	gone(t, 0)
	insert(t, 0, newCard(t))
	mustRelease(t, mustNext(t, lane))
}

func TestPresentCardIsReadAtTheStartWithFreshPower(t *testing.T) {
	daemon.Need(t)
	card := &responder{atr: plainATR, respond: echo}
	insert(t, 0, card)
	there(t, 0)
	card.forget()
	lane := open(t, pcsc.Options{Present: true})
	c := mustNext(t, lane)
	if seen := card.seen(); !bytes.HasSuffix(seen, []byte{powerOff, powerOn}) {
		t.Errorf("controls % X: power was not cut before use", seen)
	}
	mustRelease(t, c)
	noNext(t, lane, "card was read and has not left")
}

func TestTwoCardsAtOnceAreNotAlone(t *testing.T) {
	lane := open(t, pcsc.Options{})
	insert(t, 0, newCard(t))
	removeSecond := insert(t, 1, newCard(t))
	there(t, 0)
	there(t, 1)
	first := mustNext(t, lane)
	if alone, err := first.Alone(t.Context()); alone || err != nil {
		t.Errorf("first card: alone %t, %v", alone, err)
	}
	mustRelease(t, first)
	second := mustNext(t, lane)
	if second.Slot() == first.Slot() {
		t.Errorf("twice the card in %q", first.Slot())
	}
	if alone, err := second.Alone(t.Context()); alone || err != nil {
		t.Errorf("second card: alone %t, %v", alone, err)
	}
	removeSecond()
	gone(t, 1)
}

func TestLaneSeesItsOwnSlotsOnly(t *testing.T) {
	daemon.Need(t)
	lane := open(t, pcsc.Options{Readers: []string{"* 01"}})
	other := open(t, pcsc.Options{Readers: []string{daemon.SlotName(0)}})
	insert(t, 0, newCard(t))
	insert(t, 1, newCard(t))
	there(t, 0)
	c, o := mustNext(t, lane), mustNext(t, other)
	if c.Slot() != daemon.SlotName(1) || o.Slot() != daemon.SlotName(0) {
		t.Errorf("slots %q and %q", c.Slot(), o.Slot())
	}
	for _, c := range []nfc.Card{c, o} {
		if alone, err := c.Alone(t.Context()); !alone || err != nil {
			t.Errorf("%q: alone %t, %v", c.Slot(), alone, err)
		}
		mustRelease(t, c)
	}
}

func TestMalformedPatternIsRefused(t *testing.T) {
	if _, err := pcsc.Open(pcsc.Options{Readers: []string{"[a"}}); err == nil {
		t.Error("accepted")
	}
}

func TestCancelledWaitReturnsAtOnce(t *testing.T) {
	lane := open(t, pcsc.Options{})
	reason := errors.New("reason of this test")
	// The instant of the cancel against that of the wait's beginning is what
	// SCardCancel is sensitive to.
	for i := range 60 {
		ctx, cancel := context.WithCancelCause(t.Context())
		after := time.Duration(i) * 20 * time.Microsecond
		time.AfterFunc(after, func() { cancel(reason) })
		began := time.Now()
		if _, err := lane.Next(ctx); !errors.Is(err, reason) {
			t.Fatalf("cancelled after %v: error %v", after, err)
		}
		if took := time.Since(began); took > prompt {
			t.Errorf("cancelled after %v: returned after %v", after, took)
		}
	}
	// A call that was cut off on the way into the wait comes back by itself; a
	// wait that was given up and not cancelled would take 10 s.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s, err := lane.Status(t.Context())
		if err == nil && s.Blocked == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %+v, %v: a wait was given up, not cancelled", s, err)
		}
	}
	// The lane has kept its senses: it looks again, and sees who comes then.
	came := make(chan nfc.Card, 1)
	go func() {
		c, err := next(t, lane, 10*time.Second)
		if err != nil {
			t.Error(err)
		}
		came <- c
	}()
	time.Sleep(1500 * time.Millisecond) // Options.Settle, and a look
	insert(t, 0, newCard(t))
	if c := <-came; c != nil {
		mustRelease(t, c)
	}
}

func TestCloseEndsAWait(t *testing.T) {
	lane := open(t, pcsc.Options{})
	failed := make(chan error)
	go func() {
		_, err := lane.Next(context.Background())
		failed <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := lane.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, pcsc.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if _, err := lane.Next(t.Context()); !errors.Is(err, pcsc.ErrClosed) {
		t.Errorf("after Close: error %v", err)
	}
}

func TestLaneOutlastsPcscd(t *testing.T) {
	lane := open(t, pcsc.Options{Settle: time.Second})
	remove := insert(t, 0, newCard(t))
	time.Sleep(noticed) // Settle has passed: it was put in now
	remove()
	gone(t, 0)
	remove = insert(t, 0, newCard(t))
	mustRelease(t, mustNext(t, lane))

	daemon.Kill()
	if s, err := lane.Status(t.Context()); !errors.Is(err, pcsc.ErrNoService) {
		t.Errorf("without pcscd: status %+v, %v", s, err)
	}
	if _, err := next(t, lane, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without pcscd: error %v", err)
	}
	remove()
	ready := make(chan error)
	go func() {
		time.Sleep(100 * time.Millisecond)
		ready <- daemon.Restart(context.Background())
	}()
	waiting := make(chan error)
	go func() {
		_, err := next(t, lane, 4*time.Second)
		waiting <- err
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	remove = insert(t, 0, newCard(t)) // it has been lying there all the time
	if err := <-waiting; !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("card that was left: error %v", err)
	}
	remove()
	gone(t, 0)
	insert(t, 0, newCard(t))
	mustRelease(t, mustNext(t, lane))
}

func TestHungPcscdHoldsNobodyUp(t *testing.T) {
	lane := open(t, pcsc.Options{Release: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := lane.Next(ctx)
		waiting <- err
	}()
	time.Sleep(50 * time.Millisecond)
	halt.Process(t, daemon.Pid())
	resume := func() { _ = syscall.Kill(daemon.Pid(), syscall.SIGCONT) }
	defer resume()

	began := time.Now()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	if took := time.Since(began); took > cancelled {
		t.Errorf("wait returned after %v", took)
	}
	for range 3 {
		if _, err := next(t, lane, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait of a hung pcscd: %v", err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if s, err := lane.Status(short); err == nil || s.Blocked == 0 {
		t.Errorf("status %+v, %v, want an error and blocked calls", s, err)
	}

	resume()
	insert(t, 0, newCard(t))
	mustRelease(t, mustNext(t, lane))
	waitFor(t, "no call is blocked", func(pcsc.Status) bool {
		s, err := lane.Status(t.Context())
		return err == nil && s.Blocked == 0
	})
}

func TestReaderThatComesLaterIsUsed(t *testing.T) {
	daemon.Need(t)
	lane := open(t, pcsc.Options{Readers: []string{"Virtual Reader B *"}})
	if s, err := lane.Status(t.Context()); err != nil || len(s.Slots) != 0 {
		t.Fatalf("status %+v, %v", s, err)
	}
	if err := daemon.Grow(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	noNext(t, lane, "empty reader")
	insert(t, 3, newCard(t))
	c := mustNext(t, lane)
	if c.Slot() != daemon.SlotName(3) {
		t.Errorf("slot %q, want %q", c.Slot(), daemon.SlotName(3))
	}
	mustRelease(t, c)
}
