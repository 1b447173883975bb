package terminal_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

func TestLampsSayWhatCannotBeReliedOn(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name   string
		clock  time.Duration // from the list's issue
		policy whitelist.Policy
		shows  terminal.Signal
		why    []terminal.Reason
		card   terminal.Reason
	}{
		{"nothing", time.Minute, whitelist.Policy{}, terminal.ShowReady, nil, terminal.OK},
		{"an old list, deny", 400 * day, whitelist.Policy{}, terminal.ShowOutOfOrder, []terminal.Reason{terminal.DataStale}, terminal.DataStale},
		{"an old list, warn", 400 * day, whitelist.Policy{Expired: whitelist.Warn, StaleRevocation: whitelist.Warn}, terminal.ShowCaution, []terminal.Reason{terminal.DataStale}, terminal.OK},
		{"a board that boots in 1970, deny", -time.Duration(1<<63 - 1), whitelist.Policy{}, terminal.ShowOutOfOrder, []terminal.Reason{terminal.ClockUntrusted}, terminal.ClockUntrusted},
		{"a board that boots in 1970, warn", -time.Duration(1<<63 - 1), whitelist.Policy{UntrustedClock: whitelist.Warn}, terminal.ShowCaution, []terminal.Reason{terminal.ClockUntrusted}, terminal.OK},
		{"a clock set back an hour", -time.Hour, whitelist.Policy{UntrustedClock: whitelist.Attend}, terminal.ShowCaution, []terminal.Reason{terminal.ClockUntrusted}, terminal.Attention},
	} {
		t.Run(c.name, func(t *testing.T) {
			incidents := make(chan terminal.Incident, 16)
			r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
				m := r.Manifest
				m.Seq, m.Policy = m.Seq+1, c.policy
				m.Policy.RevocationMaxAge = 30 * day
				r.load(t, m, r.rows...)
				clock := m.IssuedAt.Add(c.clock)
				if c.clock < -1e6*time.Hour {
					clock = time.Unix(30, 0)
				}
				p.Now = func() time.Time { return clock }
				p.Incidents = func(i terminal.Incident) { incidents <- i }
			})
			for start := time.Now(); r.gate.Signal() != c.shows; time.Sleep(time.Millisecond) {
				if time.Since(start) > 10*time.Second {
					t.Fatalf("the lamps show %v, want %v", r.gate.Signal(), c.shows)
				}
			}
			shows, why := r.lane.Idle()
			if shows != c.shows || !slices.Equal(why, c.why) {
				t.Errorf("shows %v because of %v", shows, why)
			}
			if c.why != nil {
				i := <-incidents
				if i.State != terminal.Begins || i.Reason != c.why[0] || i.Cause == nil || !strings.Contains(i.Cause.Error(), "policy ") {
					t.Errorf("told: %+v", i)
				}
			}
			if d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); d.Reason != c.card {
				t.Errorf("%v %s, want %s", d.Verdict, d.Reason, c.card)
			}
		})
	}
}

func TestGateThatTheListDoesNotKnowIsOutOfOrderAndSaysWhichThereAre(t *testing.T) {
	incidents := make(chan terminal.Incident, 16)
	r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
		m := r.Manifest
		m.Seq, m.Venue.Gates = m.Seq+1, []whitelist.Gate{{ID: 1, Name: "north"}, {ID: 2, Name: "south"}}
		r.load(t, m, r.rows...)
		p.Incidents = func(i terminal.Incident) { incidents <- i }
	})
	if i := <-incidents; i.Reason != terminal.WrongGate || !strings.Contains(i.Cause.Error(), "north, south") {
		t.Errorf("%+v", i)
	}
	if d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); d.Reason != terminal.WrongGate || r.gate.Opened() != 0 {
		t.Errorf("%v %s", d.Verdict, d.Reason)
	}
}
