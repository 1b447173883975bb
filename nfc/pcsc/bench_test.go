package pcsc_test

import (
	"context"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
)

// What this package and pcscd cost, with a card that answers at once. The
// 400 ms of vpcd's detection are not in it.

func benchCard(b *testing.B) (_ nfc.Card, connected time.Duration) {
	daemon.Need(b)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	b.Cleanup(cancel)
	lane, err := pcsc.Open(pcsc.Options{Present: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { lane.Close() })
	insert(b, 0, &responder{atr: plainATR, respond: echo})
	c, err := lane.Next(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Release() })
	return c, time.Since(c.Detected())
}

func BenchmarkTransmit(b *testing.B) {
	c, connected := benchCard(b)
	for b.Loop() {
		if _, err := c.Transmit(context.Background(), []byte{0, 0xB0, 0, 0, 0}); err != nil {
			b.Fatal(err)
		}
	}
	// From the report of the card until it is connected to, once.
	b.ReportMetric(float64(connected.Microseconds()), "µs-connect")
}

func BenchmarkAlone(b *testing.B) {
	c, _ := benchCard(b)
	for b.Loop() {
		if _, err := c.Alone(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
