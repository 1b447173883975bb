package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// An outcome is what a tap came to, a tally how often, and for how many people.
type outcome struct {
	verdict terminal.Verdict
	reason  terminal.Reason
}

type tally struct{ taps, people int }

// An afternoonReport adds up what happened.
type afternoonReport struct {
	outcomes map[outcome]tally
	wanted   map[outcome]int // what the journal should have decided without opening the gate
	minutes  map[int]int     // people who entered, in each minute since doors

	taps, entered, left, again, parties, asked, followed, turned int

	longest         time.Duration // that somebody waited for a lane
	whole, own      []time.Duration
	making, working time.Duration
	told            time.Duration // of the venue, since doors

	// The journal's, in the end.
	events             uint64
	admitted, occupied int
	bytes              int64

	disagreed int
	faults    []string // the first of them
}

func newAfternoonReport() afternoonReport {
	return afternoonReport{outcomes: map[outcome]tally{}, wanted: map[outcome]int{}, minutes: map[int]int{}}
}

const faultsShown = 20

func (r *afternoonReport) disagree(format string, args ...any) {
	if r.disagreed++; len(r.faults) < faultsShown {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

// same compares a number of the agent with the simulator's.
func (r *afternoonReport) same(what string, agent, simulator int) {
	if agent != simulator {
		r.disagree("%s: %d by the journal, %d by the simulator", what, agent, simulator)
	}
}

// add takes over what happened at a lane.
func (r *afternoonReport) add(lane string, at time.Time, t *act) {
	got := outcome{t.got.Verdict, t.got.Reason}
	if t.got.Admitted() && t.passed == 0 {
		got = outcome{terminal.Deny, terminal.NoPassage}
		r.turned++
	}
	sum := r.outcomes[got]
	r.outcomes[got] = tally{sum.taps + 1, sum.people + t.passed}
	r.taps++
	for _, f := range t.faults {
		r.disagree("%s %s: %s", at.Format("15:04:05"), lane, f)
	}
	if t.want.staff {
		r.asked++
		r.wanted[outcome{terminal.Attend, terminal.Attention}]++
	}
	switch {
	case t.want.verdict == terminal.Deny:
		r.wanted[outcome{terminal.Deny, t.want.reason}]++
	case t.rival != nil && !t.got.Admitted():
		r.wanted[outcome{terminal.Deny, terminal.AlreadyUsed}]++
	}
	if !t.got.Admitted() {
		return
	}
	if t.who != nil && !t.want.staff {
		r.whole, r.own = append(r.whole, t.took), append(r.own, t.got.Elapsed)
	}
	if t.followed {
		r.followed++
	}
	if t.exit {
		r.left += t.passed
		return
	}
	r.entered += t.passed
	r.again += min(t.passed, t.want.again)
	r.minutes[int(at.Sub(doors)/time.Minute)] += t.passed
	if t.passed > 1 {
		r.parties++
	}
}

// compare holds the journal to what the simulator saw.
func (a *afternoon) compare(ctx context.Context, j *journal.Journal) error {
	r := &a.report
	whole, err := j.Verify(ctx)
	if err != nil {
		return err
	}
	r.events = whole.Events
	r.same("reservations that nobody settled", int(whole.Open), 0)

	zones, err := j.Occupancy(ctx, doors)
	if err != nil {
		return err
	}
	var z journal.Zone
	for _, zone := range zones {
		if zone.Name == arena {
			z = zone
		} else {
			r.disagree("people went through zone %q", zone.Name)
		}
	}
	r.occupied = int(z.Inside())
	r.same("people who left", int(z.Left), r.left)
	r.same("people inside", r.occupied, r.entered-r.left)
	rate, err := j.Rate(ctx, doors, doors.AddDate(0, 0, 1), time.Minute)
	if err != nil {
		return err
	}
	for minute, people := range rate {
		r.admitted += int(people)
		r.same(fmt.Sprintf("people in minute %d", minute), int(people), r.minutes[minute])
	}
	r.same("people who entered", int(z.Entered), r.entered)

	decided, kinds := map[outcome]int{}, map[terminal.Reason]int{}
	f := journal.Filter{Kinds: []journal.Kind{journal.KindDecision, journal.KindAnnul, journal.KindIncident}}
	for e, err := range j.List(ctx, f) {
		if err != nil {
			return err
		}
		if e.Kind != journal.KindDecision {
			kinds[e.Reason]++
			continue
		}
		var v terminal.Verdict
		if err := v.UnmarshalText([]byte(e.Verdict)); err != nil {
			return err
		}
		decided[outcome{v, e.Reason}]++
	}
	for o := range maps.Keys(r.wanted) {
		decided[o] += 0
	}
	for o, n := range decided {
		r.same(fmt.Sprintf("taps that came to %v %s", o.verdict, o.reason), n, r.wanted[o])
	}
	r.same("people who turned back", kinds[terminal.NoPassage], r.turned)
	r.same("people who followed", kinds[terminal.Tailgate], r.followed)

	for _, t := range a.crowd.tickets {
		h, err := j.History(ctx, t.ID)
		if err != nil {
			return err
		}
		r.same("entries by "+t.ID, int(h.Entered()), t.entered)
	}
	return nil
}

// progress tells of every half hour of the venue.
func (a *afternoon) progress(at time.Time) {
	if half := at.Sub(doors).Truncate(30 * time.Minute); half > a.report.told {
		a.report.told = half
		fmt.Fprintf(a.say, "%s  %5d people inside, %5d taps, %4d people waiting\n", doors.Add(half).Format("15:04"), a.report.entered-a.report.left, a.report.taps, len(a.waiting))
	}
}

// close shows the sums, and fails when anything disagreed.
func (a *afternoon) close() error {
	r := &a.report
	var err error
	if a.json {
		err = json.NewEncoder(a.out).Encode(struct {
			People             int     `json:"people"`
			Admitted           int     `json:"admitted"`
			Denied             int     `json:"denied"`
			JournalAdmitted    int     `json:"journal_admitted"`
			OccupancyJournal   int     `json:"occupancy_journal"`
			OccupancySimulated int     `json:"occupancy_simulated"`
			Mismatches         int     `json:"mismatches"`
			P50                float64 `json:"p50_ms"`
			P99                float64 `json:"p99_ms"`
		}{a.people, r.entered, r.denied(), r.admitted, r.occupied, r.entered - r.left, r.disagreed,
			milliseconds(percentile(r.whole, 50)), milliseconds(percentile(r.whole, 99))})
	} else {
		_, err = a.out.Write(a.table())
	}
	if r.disagreed > 0 {
		return fmt.Errorf("gate and simulator disagree %d times, first of all:\n%s", r.disagreed, strings.Join(r.faults, "\n"))
	}
	return err
}

// denied is how many taps the gate stayed shut for.
func (r *afternoonReport) denied() (taps int) {
	for o, sum := range r.outcomes {
		if o.verdict == terminal.Deny && o.reason != terminal.NoPassage {
			taps += sum.taps
		}
	}
	return taps
}

// rates are the people who entered in a minute, on average from the first to the
// last of them, and in the ten minutes with the most.
func (r *afternoonReport) rates() (average, most float64) {
	if len(r.minutes) == 0 {
		return 0, 0
	}
	minutes := slices.Sorted(maps.Keys(r.minutes))
	first, last := minutes[0], minutes[len(minutes)-1]
	for from := first; from <= last; from++ {
		people := 0
		for m := range 10 {
			people += r.minutes[from+m]
		}
		most = max(most, float64(people)/10)
	}
	return float64(r.entered) / float64(last-first+1), most
}

// table is the afternoon for people.
func (a *afternoon) table() []byte {
	r := &a.report
	var b []byte
	line := func(format string, args ...any) { b = fmt.Appendf(b, format+"\n", args...) }
	line("%d people with %d tickets; lanes: %d in, %d out; doors at %s.\n", a.people, len(a.crowd.tickets), a.entries(), a.exits(), doors.Format("15:04"))
	line("%-7s %-17s %6s %6s", "gate", "reason", "taps", "people")
	for _, o := range slices.SortedFunc(maps.Keys(r.outcomes), func(p, q outcome) int {
		return cmp.Or(cmp.Compare(q.verdict, p.verdict), cmp.Compare(r.outcomes[q].taps, r.outcomes[p].taps), cmp.Compare(p.reason, q.reason))
	}) {
		people := ""
		if o.verdict == terminal.Admit {
			people = fmt.Sprint(r.outcomes[o].people)
		}
		line("%-7s %-17s %6d %6s", gateShows(o.verdict), o.reason, r.outcomes[o].taps, people)
	}
	average, most := r.rates()
	entries := float64(a.entries())
	line("\n%d people entered, %d of them again, %d taps for more than one; %d left, %d are inside.", r.entered, r.again, r.parties, r.left, r.entered-r.left)
	line("%d turned back, %d followed somebody, staff looked at %d.", r.turned, r.followed, r.asked)
	line("By the venue's clock %.1f people a minute at each entry lane, %.1f in the busiest ten minutes; the longest wait was %v.",
		average/entries, most/entries, r.longest.Round(time.Minute))
	line("It took %.1f s, and %.1f s to make the cards: %.0f taps a second.", r.working.Seconds(), r.making.Seconds(), float64(r.taps)/r.working.Seconds())
	line("From card detection to the relay: p50 %d ms, p99 %d ms, with the card's time as it is modelled; without it %.1f ms and %.1f ms.",
		percentile(r.whole, 50).Milliseconds(), percentile(r.whole, 99).Milliseconds(), milliseconds(percentile(r.own, 50)), milliseconds(percentile(r.own, 99)))
	line("Journal: %d events, %.1f MB, every one in the hash chain.", r.events, float64(r.bytes)/1e6)
	if r.disagreed == 0 {
		line("Gate, journal and simulator agree on everybody.")
	}
	return b
}
