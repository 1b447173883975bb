package pcsc_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
)

func TestExtendedLengthPassesBothWays(t *testing.T) {
	lane := open(t, pcsc.Options{})
	sent := make(chan []byte, 1)
	long := append(bytes.Repeat([]byte{0xA5}, 1600), 0x90, 0x00)
	insert(t, 0, &responder{atr: plainATR, respond: func(capdu []byte) []byte {
		sent <- bytes.Clone(capdu)
		return long
	}})
	c := mustNext(t, lane)
	defer mustRelease(t, c)
	cmd := nfc.Command{CLA: 0x80, INS: 0xA2, P1: 0x06, P2: 0xC1, Data: bytes.Repeat([]byte{0x5A}, 307), Ne: 65536}
	capdu, err := cmd.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	rapdu, err := c.Transmit(t.Context(), capdu)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-sent; !bytes.Equal(got, capdu) {
		t.Errorf("card got %d bytes, sent were %d", len(got), len(capdu))
	}
	if !bytes.Equal(rapdu, long) {
		t.Errorf("response of %d bytes, want %d", len(rapdu), len(long))
	}
	if cap(rapdu) > 2*len(rapdu) {
		t.Errorf("response keeps %d bytes alive", cap(rapdu))
	}
}

// mustTransmit sends a command in hexadecimal and gives the response.
func mustTransmit(t *testing.T, c nfc.Card, command string) []byte {
	t.Helper()
	capdu, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	rapdu, err := c.Transmit(t.Context(), capdu)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return rapdu
}

const (
	selectJPKI = "00A4040C 0A D392F000260100000001"
	verifyPIN  = "00200098 04 31323334"
	sign       = "802A0297 20 0000000000000000000000000000000000000000000000000000000000000000 00"
)

func TestCertificateComesInOneExtendedRead(t *testing.T) {
	lane := open(t, pcsc.Options{})
	insert(t, 0, newCard(t))
	c := mustNext(t, lane)
	defer mustRelease(t, c)
	mustTransmit(t, c, selectJPKI)
	if got := mustTransmit(t, c, "00B08A00 000000"); len(got) < 1000 || !bytes.HasSuffix(got, []byte{0x90, 0x00}) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestSecurityStatusEndsWithRelease(t *testing.T) {
	lane := open(t, pcsc.Options{})
	insert(t, 0, newCard(t))
	c := mustNext(t, lane)
	mustTransmit(t, c, selectJPKI)
	mustTransmit(t, c, verifyPIN)
	if got := mustTransmit(t, c, sign); !bytes.HasSuffix(got, []byte{0x90, 0x00}) {
		t.Fatalf("signing after the PIN: % X", got)
	}
	mustRelease(t, c)

	again := open(t, pcsc.Options{Present: true})
	c = mustNext(t, again)
	defer mustRelease(t, c)
	mustTransmit(t, c, selectJPKI)
	if got := mustTransmit(t, c, sign); !bytes.Equal(got, []byte{0x69, 0x82}) {
		t.Errorf("signing in the next session: % X", got)
	}
}

func TestReleaseCutsThePowerAtOnce(t *testing.T) {
	lane := open(t, pcsc.Options{})
	card := &responder{atr: plainATR, respond: echo}
	insert(t, 0, card)
	c := mustNext(t, lane)
	card.forget()
	mustRelease(t, c)
	// Far less than the 400 ms after which pcscd would do it by itself.
	for range 20 {
		if bytes.Equal(card.seen(), []byte{powerOff}) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("controls % X, want power off", card.seen())
}

func TestMalformedCommandIsNotSent(t *testing.T) {
	lane := open(t, pcsc.Options{})
	insert(t, 0, newCard(t))
	c := mustNext(t, lane)
	defer mustRelease(t, c)
	for n := range 4 {
		if _, err := c.Transmit(t.Context(), make([]byte, n)); !errors.Is(err, nfc.ErrMalformedCommand) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
}

func TestCardPulledInTheMiddleOfACommandIsRemoved(t *testing.T) {
	lane := open(t, pcsc.Options{})
	insert(t, 0, &responder{atr: plainATR, respond: func([]byte) []byte { return nil }})
	c := mustNext(t, lane)
	if _, err := c.Transmit(t.Context(), []byte{0, 0xA4, 4, 0}); !errors.Is(err, nfc.ErrRemoved) {
		t.Errorf("command: %v", err)
	}
	// In extended length it must not pass for a reader's lack of it.
	if _, err := c.Transmit(t.Context(), []byte{0, 0xB0, 0x8A, 0, 0, 0, 0}); !errors.Is(err, nfc.ErrRemoved) {
		t.Errorf("extended command: %v", err)
	}
	for range 3 { // at once, and when pcscd has noticed
		if _, err := c.Transmit(t.Context(), []byte{0, 0xA4, 4, 0}); !errors.Is(err, nfc.ErrRemoved) {
			t.Errorf("command after it: %v", err)
		}
		time.Sleep(250 * time.Millisecond)
	}
	mustRelease(t, c)
	noNext(t, lane, "empty slot")
}

func TestSilentCardCostsNoMoreThanItsDeadline(t *testing.T) {
	lane := open(t, pcsc.Options{Release: 200 * time.Millisecond})
	silence := make(chan struct{})
	t.Cleanup(func() { close(silence) })
	conn := dial(t, 0)
	t.Cleanup(func() { conn.Close() })
	go (&responder{atr: plainATR, respond: func([]byte) []byte {
		<-silence
		return nil
	}}).Serve(context.Background(), conn)

	c := mustNext(t, lane)
	reason := errors.New("reason of this test")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, reason)
	defer cancel()
	began := time.Now()
	if _, err := c.Transmit(ctx, []byte{0, 0xB0, 0, 0}); err != reason {
		t.Errorf("error %v, want the cause of the context", err)
	}
	if took := time.Since(began); took > prompt {
		t.Errorf("returned after %v", took)
	}
	if _, err := c.Transmit(t.Context(), []byte{0, 0xB0, 0, 0}); err == nil {
		t.Error("a second command was sent")
	}
	if err := c.Release(); !errors.Is(err, pcsc.ErrStuck) {
		t.Errorf("Release: %v", err)
	}
	if err := c.Release(); err != nil {
		t.Errorf("second Release: %v", err)
	}
	if s, err := lane.Status(t.Context()); err != nil || s.Blocked != 1 {
		t.Errorf("status %+v, %v, want one blocked call", s, err)
	}
	// Nothing else of the lane is held up.
	insert(t, 1, newCard(t))
	mustRelease(t, mustNext(t, lane))

	conn.Close() // the card leaves
	left(t, 0)
	insert(t, 0, newCard(t))
	mustRelease(t, mustNext(t, lane))
	waitFor(t, "no call is blocked", func(pcsc.Status) bool {
		s, err := lane.Status(t.Context())
		return err == nil && s.Blocked == 0
	})
}

func TestCloseDoesNotWaitForASilentCard(t *testing.T) {
	daemon.Need(t)
	lane, err := pcsc.Open(pcsc.Options{Present: true, Transmit: 50 * time.Millisecond, Release: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	silence := make(chan struct{})
	t.Cleanup(func() { close(silence) })
	conn := dial(t, 0)
	t.Cleanup(func() { conn.Close(); left(t, 0) })
	go (&responder{atr: plainATR, respond: func([]byte) []byte {
		<-silence
		return nil
	}}).Serve(context.Background(), conn)
	c := mustNext(t, lane)
	if _, err := c.Transmit(context.Background(), []byte{0, 0xB0, 0, 0}); !errors.Is(err, pcsc.ErrUnresponsive) {
		t.Errorf("error %v", err)
	}
	began := time.Now()
	if err := lane.Close(); !errors.Is(err, pcsc.ErrStuck) {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(began); took > prompt {
		t.Errorf("Close took %v", took)
	}
}

func TestMuteCardIsReportedAndNotAgain(t *testing.T) {
	lane := open(t, pcsc.Options{Connect: 200 * time.Millisecond})
	// Longer than any answer to reset may be (ISO/IEC 7816-3:2006 §8.1).
	insert(t, 0, &responder{atr: bytes.Repeat([]byte{0x3B}, 34), respond: echo})
	_, err := next(t, lane, 5*time.Second)
	var cardErr *nfc.CardError
	if !errors.As(err, &cardErr) || !errors.Is(err, pcsc.ErrUnresponsive) {
		t.Fatalf("error %v", err)
	}
	if cardErr.Slot != daemon.SlotName(0) || cardErr.Detected.IsZero() {
		t.Errorf("%+v", cardErr)
	}
	noNext(t, lane, "mute card has not left")
}

func TestCardInUseElsewhereIsWaitedFor(t *testing.T) {
	lane := open(t, pcsc.Options{Connect: 300 * time.Millisecond})
	other := open(t, pcsc.Options{})
	insert(t, 0, newCard(t))
	held := mustNext(t, other)
	if _, err := next(t, lane, 5*time.Second); !errors.Is(err, pcsc.ErrBusy) {
		t.Errorf("error %v", err)
	}
	mustRelease(t, held)

	insert(t, 1, newCard(t))
	held = mustNext(t, other)
	time.AfterFunc(100*time.Millisecond, func() { held.Release() })
	mustRelease(t, mustNext(t, lane))
}
