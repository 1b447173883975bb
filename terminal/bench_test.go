package terminal_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// BenchmarkTap is a whole tap of a listed person, from the card in the field
// to the relay. It reports
//
//	commands, card-B     what crosses the field
//	modelled-ms          the card's time for it (card-facts §8), not spent here
//	own-ms               our time without card and disk: elapsed, less the
//	                     time in Transmit, less that of the journal
//	journal-ms           making the entry durable on this disk
func BenchmarkTap(b *testing.B) {
	for _, d := range dialogues {
		for _, rate := range []int{106_000, 424_000} {
			b.Run(fmt.Sprintf("%s/%s/%dkbit", d.method, d.name, rate/1000), func(b *testing.B) {
				r := newRig(b, methods(d.method))
				clock := &vcard.Clock{BitRate: rate, KeyOperation: 300 * time.Millisecond}
				medium := &timed{Medium: card(b, r.card(b, d.name, d.method), vcard.Options{Clock: clock})}
				var own, disk time.Duration
				var commands, size int
				for b.Loop() {
					got := r.tap(b, medium)
					if !got.Admitted() {
						b.Fatal(got.Reason, got.Cause)
					}
					commands, size = got.Commands, got.Bytes
					own += got.Elapsed - medium.spent - got.Stages.Journal
					disk += got.Stages.Journal
					medium.spent = 0
				}
				perTap := func(d time.Duration) float64 { return float64(d) / 1e6 / float64(b.N) }
				b.ReportMetric(float64(commands), "commands")
				b.ReportMetric(float64(size), "card-B")
				b.ReportMetric(perTap(clock.Elapsed()), "modelled-ms")
				b.ReportMetric(perTap(own), "own-ms")
				b.ReportMetric(perTap(disk), "journal-ms")
			})
		}
	}
}

// timed measures the time that is spent in the card.
type timed struct {
	nfctest.Medium
	spent time.Duration
}

func (m *timed) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	start := time.Now()
	defer func() { m.spent += time.Since(start) }()
	return m.Medium.Transmit(ctx, capdu)
}
