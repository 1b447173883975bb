package nfctest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
)

// A medium answers 9000, slowly when told so, and counts its power.
type medium struct {
	delay   time.Duration
	powered int
}

func (m *medium) PowerOn()  { m.powered++ }
func (m *medium) PowerOff() { m.powered-- }

func (m *medium) Transmit(ctx context.Context, _ []byte) ([]byte, error) {
	select {
	case <-time.After(m.delay):
		return []byte{0x90, 0}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func next(t *testing.T, f *nfctest.Field) nfc.Card {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c, err := f.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACardIsReportedOncePerStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := nfctest.NewField("a", "b")
		m := &medium{}
		f.Insert("a", m)
		c := next(t, f)
		if alone, _ := c.Alone(t.Context()); c.Slot() != "a" || !alone || m.powered != 1 {
			t.Errorf("slot %s, alone %v, powered %d", c.Slot(), alone, m.powered)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reported twice: %v", err)
		}
		f.Insert("b", &medium{})
		if alone, _ := c.Alone(t.Context()); alone {
			t.Error("alone beside another card")
		}
		if other := next(t, f); other.Slot() != "b" {
			t.Errorf("slot %s", other.Slot())
		}
		if err := c.Release(); err != nil || m.powered != 0 {
			t.Errorf("released: %v, powered %d", err, m.powered)
		}
		f.Remove("a")
		f.Insert("a", m)
		next(t, f)
	})
}

func TestRemovalEndsTheCommandInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := nfctest.NewField("a")
		m := &medium{delay: time.Hour}
		f.Insert("a", m)
		c := next(t, f)
		go func() {
			time.Sleep(time.Second)
			f.Remove("a")
		}()
		start := time.Now()
		if _, err := c.Transmit(t.Context(), nil); !errors.Is(err, nfc.ErrRemoved) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if m.powered != 0 {
			t.Errorf("powered %d", m.powered)
		}
		if _, err := c.Transmit(t.Context(), nil); !errors.Is(err, nfc.ErrRemoved) {
			t.Errorf("after removal: %v", err)
		}
		if err := c.Release(); !errors.Is(err, nfc.ErrRemoved) {
			t.Errorf("release after removal: %v", err)
		}
	})
}

func TestFaultyCountsTheCommandsOfEachSession(t *testing.T) {
	m := nfctest.Pulled(&medium{}, 2)
	for range 2 {
		m.PowerOn()
		if _, err := m.Transmit(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if _, err := m.Transmit(t.Context(), nil); !errors.Is(err, nfc.ErrRemoved) {
			t.Error(err)
		}
	}
}
