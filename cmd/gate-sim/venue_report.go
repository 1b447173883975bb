package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A venueReport adds up what happened.
type venueReport struct {
	taps, admitted, turned, unconfirmed int
	linearizable                        bool
	doubles, unpredicted                int
	sent, stored                        int // events
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
func (v *venueRun) compare(ctx context.Context) error {
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
	if len(r.claimed) == 0 {
		v.disagree("no claim was ever answered")
	}
	v.twice()
	r.linearizable = v.linearizable()
	if err := v.conflicts(ctx); err != nil {
		return err
	}
	return v.arrived(ctx)
}

// conflicts compares the hub's double entries with those of the books.
func (v *venueRun) conflicts(ctx context.Context) error {
	predicted := map[doubleEntry]bool{}
	for _, d := range v.doubles() {
		predicted[d] = true
	}
	found, unjudged, err := v.hub.events.Conflicts(ctx, world.Scope, time.Time{}, onceEach{v.byName})
	if err != nil {
		return err
	}
	if unjudged > 0 {
		v.disagree("the hub could not judge %d tickets", unjudged)
	}
	v.report.doubles = len(found)
	for _, c := range found {
		d := doubleEntry{c.Entitlement, c.Entry.Terminal, c.Earlier.Terminal, c.Entry.Seq, c.Earlier.Seq}
		if c.Kind != ingest.DoubleEntry || c.People != 1 || c.InDoubt || c.Zone != hallZone || !predicted[d] {
			v.report.unpredicted++
			v.disagree("the hub reports %+v, which did not happen", c)
			continue
		}
		delete(predicted, d)
	}
	for d := range predicted {
		v.report.unpredicted++
		v.disagree("the hub does not report %+v", d)
	}
	return nil
}

// onceEach are the terms of the tickets: each lets one person in, once.
type onceEach struct{ known map[string]int }

func (o onceEach) Terms(_ context.Context, name string) (whitelist.Entitlement, bool, error) {
	_, known := o.known[name]
	return whitelist.Entitlement{ID: name, Uses: 1}, known, nil
}

func (onceEach) Day(time.Time) int64 { return 0 } // no ticket counts by days

// arrived compares the events that the hub holds with those of the journals, one by one.
func (v *venueRun) arrived(ctx context.Context) error {
	stored := map[ingest.Held]bool{}
	if err := v.hub.events.Held(ctx, world.Scope, func(h ingest.Held) error {
		if v.report.stored++; stored[h] {
			v.disagree("the hub holds event %d of %s twice", h.Seq, h.Terminal)
		}
		stored[h] = true
		return nil
	}); err != nil {
		return err
	}
	for _, g := range v.gates {
		j := g.site.Journal
		id, err := j.Incarnation(ctx)
		if err != nil {
			return err
		}
		_, last, err := j.Ends(ctx)
		if err != nil {
			return err
		}
		for seq := uint64(1); seq <= last; seq++ {
			hash, err := j.HashAt(ctx, seq)
			if err != nil {
				return err
			}
			h := ingest.Held{Terminal: g.name, Incarnation: id, Seq: seq, Hash: hash}
			if v.report.sent++; !stored[h] {
				v.disagree("the hub does not hold event %d of %s as it is", seq, g.name)
			}
			delete(stored, h)
		}
	}
	for h := range stored {
		v.disagree("the hub holds event %d of %s, which no journal has", h.Seq, h.Terminal)
	}
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
			Unpredicted   int     `json:"unpredicted_conflicts"`
			Linearizable  bool    `json:"linearizable"`
			EventsSent    int     `json:"events_sent"`
			EventsStored  int     `json:"events_stored"`
			Taps          int     `json:"taps"`
			TurnedBack    int     `json:"turned_back"`
			Unconfirmed   int     `json:"unconfirmed"`
			Unanswered    int     `json:"unanswered_claims"`
			P50           float64 `json:"claim_p50_ms"`
			P99           float64 `json:"claim_p99_ms"`
			Seconds       float64 `json:"seconds"`
		}{v.size, v.sold, r.admitted, r.doubles, r.unpredicted, r.linearizable, r.sent, r.stored, r.taps, r.turned, r.unconfirmed, r.unanswered, p50, p99, r.took.Round(100 * time.Millisecond).Seconds()})
	} else {
		_, err = fmt.Fprintf(v.out, `%d gates, %d tickets, %d taps in %.0f s.
%d people came in, %d of them while nobody could be asked; %d turned back.
The hub reports %d double entries; %d differ from the simulator's books.
%d events in the journals, %d at the hub.
Claims: p50 %.1f ms, p99 %.1f ms; %d had no answer.
`, v.size, v.sold, r.taps, r.took.Seconds(), r.admitted, r.unconfirmed, r.turned, r.doubles, r.unpredicted, r.sent, r.stored, p50, p99, r.unanswered)
	}
	if r.disagreed > 0 {
		return fmt.Errorf("seed %d: gates, hub and simulator disagree %d times, first of all:\n%s", v.seed, r.disagreed, strings.Join(r.faults, "\n"))
	}
	return err
}
