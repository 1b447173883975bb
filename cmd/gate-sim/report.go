package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
)

// A report shows taps as they come, and sums them up.
type report struct {
	demo     *demo
	taps     int
	admitted int
	groups   []group // in the order of their first tap
	admits   []time.Duration
	wrong    []string
	err      error // the first of writing
}

// A group is the taps with one method and one outcome.
type group struct {
	method  string
	verdict terminal.Verdict
	reason  terminal.Reason
	took    []time.Duration
}

func newReport(d *demo, rows uint64) *report {
	r := &report{demo: d}
	if !d.json {
		r.printf("Two gates, %d people on the list, radio %d kbit/s, card key operation %v.\n\n", rows, d.clock.BitRate/1000, d.clock.KeyOperation)
		r.printf("%4s  %-28s %-14s %-7s %-17s %8s\n", "", "card", "method", "gate", "reason", "time")
	}
	return r
}

func (r *report) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(r.demo.out, format, args...); err != nil && r.err == nil {
		r.err = err
	}
}

// add shows one tap.
func (r *report) add(p world.Person, d terminal.Decision) {
	r.taps++
	if d.Admitted() {
		r.admitted++
		r.admits = append(r.admits, d.Elapsed)
	}
	i := slices.IndexFunc(r.groups, func(g group) bool {
		return g.method == string(p.Method) && g.verdict == d.Verdict && g.reason == d.Reason
	})
	if i < 0 {
		i = len(r.groups)
		r.groups = append(r.groups, group{method: string(p.Method), verdict: d.Verdict, reason: d.Reason})
	}
	r.groups[i].took = append(r.groups[i].took, d.Elapsed)

	if d.Verdict != p.Verdict || d.Reason != p.Reason {
		r.wrong = append(r.wrong, fmt.Sprintf("tap %d, %s: %v %s, should be %v %s (%v)", r.taps, p.Name, d.Verdict, d.Reason, p.Verdict, p.Reason, d.Cause))
	}
	if r.demo.json {
		if err := r.demo.encode(d.Event()); err != nil && r.err == nil {
			r.err = err
		}
		return
	}
	text := words.Reason(d.Reason)
	said := text.EN
	if r.demo.japanese {
		said = text.JA
	}
	r.printf("%4d  %-28s %-14s %-7s %-17s %5d ms  %s\n", r.taps, p.Name, p.Method, gateShows(d.Verdict), d.Reason, d.Elapsed.Milliseconds(), said)
}

// gateShows is what one sees of the gate.
func gateShows(v terminal.Verdict) string {
	switch v {
	case terminal.Admit:
		return "opens"
	case terminal.Attend:
		return "waits"
	}
	return "shut"
}

// close shows the sums, and fails when the gate answered somebody wrongly.
func (r *report) close() error {
	if r.demo.json {
		err := r.demo.encode(struct {
			Taps     int     `json:"taps"`
			Admitted int     `json:"admitted"`
			Denied   int     `json:"denied"`
			P50      float64 `json:"p50_ms"`
			P99      float64 `json:"p99_ms"`
		}{r.taps, r.admitted, r.taps - r.admitted, milliseconds(percentile(r.admits, 50)), milliseconds(percentile(r.admits, 99))})
		if err != nil && r.err == nil {
			r.err = err
		}
	} else {
		r.table()
	}
	if len(r.wrong) > 0 {
		return fmt.Errorf("%d of %d taps were answered wrongly:\n%s", len(r.wrong), r.taps, strings.Join(r.wrong, "\n"))
	}
	return r.err
}

func (r *report) table() {
	r.printf("\n%-14s %-7s %-17s %5s %9s %9s\n", "method", "gate", "reason", "taps", "p50", "p99")
	for _, g := range r.groups {
		r.printf("%-14s %-7s %-17s %5d %6d ms %6d ms\n", g.method, gateShows(g.verdict), g.reason, len(g.took),
			percentile(g.took, 50).Milliseconds(), percentile(g.took, 99).Milliseconds())
	}
	r.printf("\n%d people came, %d were admitted: p50 %d ms, p99 %d ms from card detection to the relay.\n",
		r.taps, r.admitted, percentile(r.admits, 50).Milliseconds(), percentile(r.admits, 99).Milliseconds())
	if len(r.wrong) == 0 {
		r.printf("Everybody got the answer that they should get.\n")
	}
}

// percentile is the smallest value that p percent of the values do not exceed.
func percentile(values []time.Duration, p int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)*p+99)/100-1]
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }
