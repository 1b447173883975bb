package registry

import (
	"flag"
	"fmt"
	"iter"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/gate-agent/gate-agent/whitelist"
)

// go test -run '^$' -bench . -benchtime 1x ./hub/registry -cards 1000000
var benchCards = flag.Int("cards", 10000, "cards of a benchmark's scope")

// manyCards have heads and keys as long as those of JPKI certificates, and some
// share their keys: what is measured is the registry.
func manyCards(n int) iter.Seq2[Loaded, error] {
	const cert = "testdata is not needed: a head of some 250 bytes, of which the serial number comes early and the rest is the name of the issuer, " +
		"the validity and the name of the subject, which is random as well; nothing in the registry looks into it, it is a string of bytes to it"
	auth := testKey(1)
	return func(yield func(Loaded, error) bool) {
		for i := range n {
			mixed := uint32(i) * 2654435761
			c := Credential{
				Head: fmt.Appendf([]byte{0x30}, "%08x%s", mixed, cert), AuthKey: auth, Issuer: testIssuer,
				Serial: []byte{1, byte(mixed >> 24), byte(mixed >> 16), byte(mixed >> 8), byte(mixed)}, NotAfter: at.AddDate(5, 0, 0),
			}
			if !yield(Loaded{
				Reference: fmt.Sprintf("member-%d", i), Credential: c,
				Tickets: []Ticket{{Entitlement: whitelist.Entitlement{ID: fmt.Sprintf("T-%08d", i), Uses: 1, Gates: []string{"north"}}}},
			}, nil) {
				return
			}
		}
	}
}

func BenchmarkRegistry(b *testing.B) {
	for engine, name := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(b.TempDir(), "registry.db") },
		"postgres": func() string { return server.Database(b) },
	} {
		b.Run(engine, func(b *testing.B) {
			for range b.N {
				benchmark(b, open(b, name()), *benchCards)
			}
		})
	}
}

func benchmark(b *testing.B, r *Registry, n int) {
	addScope(b, r, hall, venue)
	lap := func(what string, rows int, f func()) {
		before := b.Elapsed()
		f()
		b.ReportMetric(float64((b.Elapsed()-before).Microseconds())/float64(rows), what+"_µs/row")
	}
	sealed := make([]byte, 808)
	publish := func(full bool) func() {
		return func() {
			must(b, r.Publish(b.Context(), hall, full, func(p *Publication) error {
				seq := p.Scope().Seq + 1
				for s, err := range p.Changed(b.Context()) {
					if err != nil {
						return err
					}
					if err := p.Put(b.Context(), secret.ID(s.Head), sealed, seq); err != nil {
						return err
					}
				}
				return p.Finish(b.Context(), seq, seq, nil)
			}))
		}
	}
	since := func(seq uint64, want int) func() {
		return func() {
			must(b, r.Publish(b.Context(), hall, false, func(p *Publication) error {
				got := 0
				for _, err := range p.ChangedSince(b.Context(), seq) {
					if err != nil {
						return err
					}
					got++
				}
				if got != want {
					return fmt.Errorf("%d rows, want %d", got, want)
				}
				return nil
			}))
		}
	}
	lap("load", n, func() {
		_, err := r.Load(b.Context(), by(""), hall, manyCards(n))
		must(b, err)
	})
	lap("publish", n, publish(false))
	lap("snapshot", n, since(0, n))
	percent := n / 100
	lap("touch", percent, func() {
		must(b, r.write(b.Context(), func(t *tx) error {
			_, err := t.exec(b.Context(), `INSERT INTO touched SELECT scope, head FROM credentials WHERE id % 200 = 6 ON CONFLICT DO NOTHING`)
			return err
		}))
	})
	lap("delta", percent, publish(false))
	lap("since", percent, since(1, percent))
	lap("rebuild", n, publish(true))
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.Sys)/1e6, "MB")
}
