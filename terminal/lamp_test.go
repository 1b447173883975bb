package terminal_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// A clock that is set while people enter neither revives old rights nor raises
// the floor for good; staff puts it right.
func TestClockThatJumpsIsNotTrustedUntilStaffAcceptsIt(t *testing.T) {
	var jump, up atomic.Int64 // nanoseconds
	start := time.Now()
	r := newRig(t, func(_ *rig, _ *terminal.Config, p *terminal.Parts) {
		p.Elapsed = func() time.Duration { return time.Duration(up.Load()) }
		p.Now = func() time.Time { return start.Add(time.Duration(up.Load() + jump.Load())) }
	})
	alice := func() terminal.Decision {
		t.Helper()
		return r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	}
	if d := alice(); !d.Admitted() {
		t.Fatalf("%v %s", d.Verdict, d.Reason)
	}
	for _, by := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour} {
		jump.Store(int64(by))
		up.Add(int64(time.Second))
		if d := alice(); d.Reason != terminal.ClockUntrusted || d.Instant.Sub(start).Abs() > time.Minute {
			t.Errorf("set by %v: %v %s at %v", by, d.Verdict, d.Reason, d.Instant.Sub(start))
		}
		jump.Store(0)
		if d := alice(); !d.Admitted() {
			t.Errorf("set back: %v %s", d.Verdict, d.Reason)
		}
	}
	jump.Store(int64(30 * time.Second)) // a correction
	if d := alice(); !d.Admitted() {
		t.Errorf("a correction: %v %s", d.Verdict, d.Reason)
	}

	jump.Store(int64(-2 * time.Hour))
	if d := alice(); d.Reason != terminal.ClockUntrusted {
		t.Errorf("%v %s", d.Verdict, d.Reason)
	}
	if err := r.lane.AcceptClock(t.Context(), steward, "station clock"); err == nil {
		t.Error("a steward accepts a clock")
	}
	if err := r.lane.AcceptClock(t.Context(), supervisor, "station clock"); err != nil {
		t.Fatal(err)
	}
	// The list was issued an hour before start: the clock is behind it.
	if d := alice(); d.Reason != terminal.ClockUntrusted {
		t.Errorf("behind the list: %v %s", d.Verdict, d.Reason)
	}
	jump.Store(int64(-30 * time.Minute))
	if err := r.lane.AcceptClock(t.Context(), supervisor, "station clock"); err != nil {
		t.Fatal(err)
	}
	if got := r.site.Journal.Latest(); got.After(start) {
		t.Errorf("the newest record is of %v after the start", got.Sub(start))
	}
	if d := alice(); !d.Admitted() {
		t.Errorf("accepted: %v %s", d.Verdict, d.Reason)
	}
	r.events(t) // verifies
}

// The network brings the time to a board that boots in 1970: that is no jump.
func TestClockThatIsPutRightAfterTheStartIsTrusted(t *testing.T) {
	var right atomic.Bool
	r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
		// Something is recorded from before.
		if err := r.site.Journal.Started(t.Context(), time.Now().Add(-time.Hour), "t", "s", "v"); err != nil {
			t.Fatal(err)
		}
		p.Elapsed = func() time.Duration { return time.Second }
		p.Now = func() time.Time {
			if right.Load() {
				return time.Now()
			}
			return time.Unix(40, 0)
		}
	})
	alice := card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})
	if d := r.tap(t, alice); d.Reason != terminal.ClockUntrusted {
		t.Errorf("in 1970: %v %s", d.Verdict, d.Reason)
	}
	right.Store(true)
	if d := r.tap(t, alice); !d.Admitted() {
		t.Errorf("put right: %v %s", d.Verdict, d.Reason)
	}
}

// What others write beside a clock that was set does not make it right.
func TestRecordOfTheJumpDoesNotMakeItRight(t *testing.T) {
	var jump atomic.Int64
	start := time.Now()
	r := newRig(t, func(_ *rig, _ *terminal.Config, p *terminal.Parts) {
		p.Elapsed = func() time.Duration { return time.Since(start) }
		p.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	})
	alice := card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})
	if d := r.tap(t, alice); !d.Admitted() {
		t.Fatalf("%v %s", d.Verdict, d.Reason)
	}
	jump.Store(int64(time.Hour))
	if shown, trusted := r.lane.Clock(); trusted || shown.Sub(start) < time.Hour {
		t.Errorf("the clock shows %v, trusted %t", shown, trusted)
	}
	if err := r.site.Journal.Shift(t.Context(), start.Add(time.Hour), steward, true); err != nil {
		t.Fatal(err)
	}
	if d := r.tap(t, alice); d.Reason != terminal.ClockUntrusted {
		t.Errorf("%v %s", d.Verdict, d.Reason)
	}
}

// A slowList keeps the first who looks at it waiting.
type slowList struct {
	terminal.List
	in, goOn chan struct{}
}

func (l *slowList) Current() (whitelist.View, error) {
	if l.in != nil {
		in := l.in
		l.in = nil
		close(in)
		<-l.goOn
	}
	return l.List.Current()
}

// The lamps are looked after while staff takes the lane out of order: what was
// found out before does not overwrite what is true since.
func TestLampsShowWhatIsNewest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &slowList{in: make(chan struct{}), goOn: make(chan struct{})}
		in := s.in
		d := newDoorway(t, func(_ *rig, _ *terminal.Config, p *terminal.Parts) { s.List, p.List = p.List, s })
		<-in // the first look of Run has seen no halt, and reads the list
		if err := d.lane.SetOutOfOrder(t.Context(), steward, "wet floor", true); err != nil {
			t.Fatal(err)
		}
		close(s.goOn)
		synctest.Wait()
		if got := d.gate.Signal(); got != terminal.ShowOutOfOrder {
			t.Errorf("out of order, and the lamps show %v", got)
		}
	})
}
