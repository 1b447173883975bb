package claimer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// A claim as a tap makes it, on loopback: durable in the server, and in the copy.
func BenchmarkClaim(b *testing.B) {
	h := newHub(b)
	p, _ := newPost(b, h, "north")
	took := make([]time.Duration, 0, 1024)
	for i := 0; b.Loop(); i++ {
		d := admission(p, fmt.Sprint("ticket-", i), fmt.Sprint("X", i))
		start := time.Now()
		if err := p.Claim(b.Context(), d, 1); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
