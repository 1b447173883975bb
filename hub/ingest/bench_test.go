package ingest

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// How many events a second become durable: terminals send full batches, each the
// next when the one before is acknowledged. On PostgreSQL the test server does not
// sync (fsync is off): that is what the engine costs, not what a disk does.
func BenchmarkIngest(b *testing.B) {
	for _, engine := range []struct {
		name string
		open func(b *testing.B) string
	}{
		{"sqlite", func(b *testing.B) string { return "sqlite:" + filepath.Join(b.TempDir(), "events.db") }},
		{"postgres", func(b *testing.B) string { return server.Database(b) }},
	} {
		for _, load := range []struct{ terminals, batch int }{{1, 1}, {1, upload.MaxEvents}, {50, 1}, {50, 8}, {50, upload.MaxEvents}, {500, 8}} {
			b.Run(fmt.Sprintf("%s/%d-terminals/%d-events", engine.name, load.terminals, load.batch), func(b *testing.B) {
				h := newHub(b, engine.open(b))
				type sender struct {
					name    string
					batches [][]byte
				}
				senders := make([]sender, load.terminals)
				each := (b.N + load.terminals - 1) / load.terminals
				for i := range senders {
					c := newChain(fmt.Sprintf("gate-%d", i), byte(i))
					for len(c.events) < each*load.batch {
						c.enter(noon, "north", "main", fmt.Sprintf("t-%d-%d", i, len(c.events)), 1)
					}
					s := sender{name: c.terminal}
					for n := range each {
						data, err := c.batch(uint64(n*load.batch+1), uint64((n+1)*load.batch)).Encode()
						must(b, err)
						s.batches = append(s.batches, data)
					}
					senders[i] = s
				}
				b.ResetTimer()
				var wg sync.WaitGroup
				for _, s := range senders {
					wg.Go(func() {
						for _, data := range s.batches {
							if reply := h.Handle(b.Context(), hall, s.name, data); reply[0] == '{' {
								b.Errorf("%s", reply)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(each*load.terminals*load.batch)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
