package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A venueReport adds up what happened.
type venueReport struct {
	taps, admitted, turned, unconfirmed int
	linearizable                        bool
	doubles                             int
	claimed                             []time.Duration
	unanswered                          int
	took                                time.Duration

	disagreed int
	faults    []string // the first of them
}

// disagree notes what differs between gates, hub and simulator.
func (v *venueRun) disagree(format string, args ...any) {
	if v.report.disagreed++; len(v.report.faults) < faultsShown {
		v.report.faults = append(v.report.faults, fmt.Sprintf(format, args...))
	}
}

// add takes over what came of a visitor.
func (r *venueReport) add(w *visitor) {
	r.taps++
	switch d := w.act.got; {
	case !d.Admitted():
	case w.act.passed == 0:
		r.turned++
	default:
		r.admitted += w.act.passed
		if d.Claim == terminal.ClaimUnconfirmed {
			r.unconfirmed++
		}
	}
}

// compare holds log and hub to the books, once everything is told.
func (v *venueRun) compare(context.Context) error {
	r := &v.report
	for _, f := range v.hub.faults {
		v.disagree("%s", f)
	}
	for _, g := range v.gates {
		for _, op := range g.claims.ops {
			if op.kind == opUnanswered {
				r.unanswered++
			} else {
				r.claimed = append(r.claimed, time.Duration(op.ret-op.call))
			}
		}
	}
	v.twice()
	r.linearizable = v.linearizable()
	r.doubles = len(v.doubles())
	return nil
}

// close shows the report, and fails when anything differs.
func (v *venueRun) close() (err error) {
	r := &v.report
	p50, p99 := milliseconds(percentile(r.claimed, 50)), milliseconds(percentile(r.claimed, 99))
	if v.json {
		err = json.NewEncoder(v.out).Encode(struct {
			Gates         int     `json:"gates"`
			Tickets       int     `json:"tickets"`
			Admitted      int     `json:"admitted"`
			DoubleEntries int     `json:"double_entries"`
			Linearizable  bool    `json:"linearizable"`
			Taps          int     `json:"taps"`
			TurnedBack    int     `json:"turned_back"`
			Unconfirmed   int     `json:"unconfirmed"`
			Unanswered    int     `json:"unanswered_claims"`
			P50           float64 `json:"claim_p50_ms"`
			P99           float64 `json:"claim_p99_ms"`
			Seconds       float64 `json:"seconds"`
		}{v.size, v.sold, r.admitted, r.doubles, r.linearizable, r.taps, r.turned, r.unconfirmed, r.unanswered, p50, p99, r.took.Seconds()})
	} else {
		_, err = fmt.Fprintf(v.out, `%d gates, %d tickets, %d taps in %.0f s.
%d people came in, %d of them while nobody could be asked; %d turned back.
%d entered by a ticket that was used already.
Claims: p50 %.1f ms, p99 %.1f ms; %d had no answer.
`, v.size, v.sold, r.taps, r.took.Seconds(), r.admitted, r.unconfirmed, r.turned, r.doubles, p50, p99, r.unanswered)
	}
	if r.disagreed > 0 {
		return fmt.Errorf("seed %d: gates, hub and simulator disagree %d times, first of all:\n%s", v.seed, r.disagreed, strings.Join(r.faults, "\n"))
	}
	return err
}
