package claimer_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/sync/claims/claimer"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// pair starts two gates of a venue, which both can ask.
func pair(t testing.TB, h *hub, away whitelist.Away, row whitelist.Listed, options ...func(*terminal.Config, *terminal.Parts)) (north, south *gate) {
	t.Helper()
	v := venue(away, "north", "south")
	rows := []whitelist.Listed{row}
	north, south = newGate(t, h, "north", v, rows, options...), newGate(t, h, "south", v, rows, options...)
	north.connected(true)
	south.connected(true)
	return north, south
}

func TestAnAnnulledEntryFreesTheTicketEverywhere(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	north, south := pair(t, h, whitelist.AwayAdmit, row)
	in := north.tap(t, img)
	want(t, in, terminal.Admit, terminal.OK)
	want(t, south.tap(t, img), terminal.Deny, terminal.AlreadyUsed)
	check(t, north.site.Journal.SettleBy(t.Context(), in.Reservation, 0, terminal.Staff{Name: "Sato", Role: terminal.Steward}, "went home"))
	north.told(t)
	south.hears(t, "t", 0)
	want(t, south.tap(t, img), terminal.Admit, terminal.OK)
	north.hears(t, "t", 1)
	want(t, north.tap(t, img), terminal.Deny, terminal.AlreadyUsed)
}

func TestWhoLeavesByOneGateComesBackByAnother(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", func(e *whitelist.Entitlement) { e.ReEntry = whitelist.ReEntryAfterExit })
	v := venue(whitelist.AwayAdmit, "north", "south")
	north := newGate(t, h, "north", v, []whitelist.Listed{row})
	south := newGate(t, h, "south", v, []whitelist.Listed{row}, func(c *terminal.Config, _ *terminal.Parts) { c.Direction = terminal.Exit })
	north.connected(true)
	south.connected(true)
	for range 3 {
		want(t, north.tap(t, img), terminal.Admit, terminal.OK)
		again := north.tap(t, img)
		want(t, again, terminal.Deny, terminal.ExitRequired)
		if again.Used.Gate != "north" || again.Used.Terminal != "" {
			t.Errorf("used %+v, want here", again.Used)
		}
		before := len(must(north.Log(t.Context(), "t"))(t).Passages)
		out := south.tap(t, img)
		want(t, out, terminal.Admit, terminal.Leaving)
		if out.Claim != "" {
			t.Errorf("an exit was claimed: %s", out.Claim)
		}
		eventually(t, "north hears of the exit", func() bool {
			l := must(north.Log(t.Context(), "t"))(t)
			last := len(l.Passages) - 1
			return last >= before && l.Passages[last].Direction == terminal.Exit && !l.Passages[last].Open
		})
	}
}

// The hub gets the claim, and its answer is lost on the way.
func TestALostAnswerIsRecognisedAsOnesOwn(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	north, south := pair(t, h, whitelist.AwayAdmit, row)
	north.link.lose(false, true)
	in := north.tap(t, img)
	want(t, in, terminal.Admit, terminal.OK)
	if in.Claim != terminal.ClaimUnconfirmed || !slices.Contains(in.Warnings, terminal.HubAway) || in.Cause == nil {
		t.Errorf("claim %q, warnings %v, cause %v", in.Claim, in.Warnings, in.Cause)
	}
	want(t, south.tap(t, img), terminal.Deny, terminal.AlreadyUsed)
	north.link.heal()
	north.told(t)
	if log := h.log("t"); len(log) != 2 || log[0].Record.Late || log[1].Record.Kind != claims.Settle || log[1].Record.Reservation != uint64(in.Reservation) {
		t.Errorf("log %+v", log)
	}
}

// The connection stands and nobody answers: a claim ends with its context all the same.
func TestNoClaimOutlastsItsTime(t *testing.T) {
	h := newHub(t)
	_, row := ticket(t, "t", nil)
	north, _ := pair(t, h, whitelist.AwayAdmit, row)
	north.link.lose(true, true)
	d := terminal.Decision{Verdict: terminal.Admit, Entitlement: "t", People: 1, ClaimID: "X", Instant: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), terminal.ClaimBudget)
	defer cancel()
	if err := north.Claim(ctx, d, 1); err == nil {
		t.Error("it was claimed")
	}
	if l := must(north.Log(t.Context(), "t"))(t); !l.Apart {
		t.Error("the next tap would wait as well")
	}
	// And a connection that is known to be away is not waited for at all.
	if err := north.Claim(context.Background(), d, 1); err == nil {
		t.Error("it was claimed")
	}
	north.Done("X")
	north.link.heal()
	north.connected(true)
}

func TestPoliciesWhenTheHubIsAway(t *testing.T) {
	for _, tc := range []struct {
		away    whitelist.Away
		verdict terminal.Verdict
		reason  terminal.Reason
	}{
		{whitelist.AwayAdmit, terminal.Admit, terminal.OK},
		{whitelist.AwayAttend, terminal.Attend, terminal.Attention},
		{whitelist.AwayDeny, terminal.Deny, terminal.HubAway},
	} {
		t.Run(tc.away.String(), func(t *testing.T) {
			h := newHub(t)
			img, row := ticket(t, "t", nil)
			north, south := pair(t, h, tc.away, row, func(_ *terminal.Config, p *terminal.Parts) { p.Checker = yes{} })
			h.stop()
			north.connected(false)
			south.connected(false)
			d := north.tap(t, img)
			want(t, d, tc.verdict, tc.reason)
			if d.Verdict == terminal.Attend {
				if !slices.Equal(d.Warnings, []terminal.Reason{terminal.HubAway}) {
					t.Errorf("staff is told %v", d.Warnings)
				}
				d = north.decision(t)
				want(t, d, terminal.Admit, terminal.OK)
			}
			if d.Admitted() != (d.Claim == terminal.ClaimUnconfirmed) {
				t.Errorf("%v, claim %q", d.Verdict, d.Claim)
			}
			h.start()
			for _, g := range []*gate{north, south} {
				g.link.setTo(h.address())
				g.connected(true)
				g.told(t)
			}
			if !d.Admitted() {
				want(t, south.tap(t, img), terminal.Admit, terminal.OK)
				return
			}
			south.hears(t, "t", 1)
			want(t, south.tap(t, img), terminal.Deny, terminal.AlreadyUsed)
			if log := h.log("t"); len(log) != 2 || !log[0].Record.Late {
				t.Errorf("log %+v", log)
			}
		})
	}
}

// yes is staff that confirms everybody.
type yes struct{}

func (yes) Check(context.Context, terminal.Decision) (bool, error) { return true, nil }

// Two gates that are apart let two people in by one ticket. When they meet again both
// entries are in the log, and nobody else comes in.
func TestWhatHappenedApartIsKnownAfterwards(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	north, south := pair(t, h, whitelist.AwayAdmit, row)
	for _, g := range []*gate{north, south} {
		g.link.setCut(true)
		g.connected(false)
		want(t, g.tap(t, img), terminal.Admit, terminal.OK)
		want(t, g.tap(t, img), terminal.Deny, terminal.AlreadyUsed)
	}
	for _, g := range []*gate{south, north} {
		g.link.heal()
		g.told(t)
	}
	north.hears(t, "t", 1)
	south.hears(t, "t", 1)
	var entries []string
	for _, l := range h.log("t") {
		if l.Record.Kind == claims.Entry {
			entries = append(entries, l.Record.Gate)
		}
	}
	if !slices.Equal(entries, []string{"south", "north"}) {
		t.Errorf("entries in the log at %q", entries)
	}
	want(t, north.tap(t, img), terminal.Deny, terminal.AlreadyUsed)
}

// What was heard of other gates outlasts the connection, and the program.
func TestATicketUsedElsewhereStaysUsedWithoutTheHub(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	north, south := pair(t, h, whitelist.AwayAdmit, row)
	want(t, north.tap(t, img), terminal.Admit, terminal.OK)
	south.hears(t, "t", 1)
	south.link.setCut(true)
	south.connected(false)
	d := south.tap(t, img)
	want(t, d, terminal.Deny, terminal.AlreadyUsed)
	if d.Used.Gate != "north" || d.Used.Terminal != "north" {
		t.Errorf("used %+v", d.Used)
	}
	peek := must(claimer.OpenCopy(t.Context(), filepath.Join(south.dir, "claims.db"), scope, "south", south.journal.Reader))(t)
	if l := must(peek.Log(t.Context(), "t"))(t); len(l.Passages) != 1 || l.Passages[0].Gate != "north" {
		t.Errorf("another program reads %+v", l)
	}
	check(t, peek.Close())
	south.post.stop()
	south.post.start(south.dir)
	if l := must(south.Log(t.Context(), "t"))(t); !l.Apart || len(l.Passages) != 1 {
		t.Errorf("after a restart: %+v", l)
	}
}

// A gate that is apart cannot know who left by another one: staff looks, and nobody is
// sent away for it.
func TestApartWhoMayHaveLeftIsShownToStaff(t *testing.T) {
	for away, verdict := range map[whitelist.Away]terminal.Verdict{
		whitelist.AwayAdmit: terminal.Attend, whitelist.AwayAttend: terminal.Attend, whitelist.AwayDeny: terminal.Deny,
	} {
		h := newHub(t)
		img, row := ticket(t, "t", func(e *whitelist.Entitlement) { e.ReEntry = whitelist.ReEntryAfterExit })
		north, _ := pair(t, h, away, row, func(_ *terminal.Config, p *terminal.Parts) { p.Checker = yes{} })
		want(t, north.tap(t, img), terminal.Admit, terminal.OK)
		north.told(t)
		north.link.setCut(true)
		north.connected(false)
		d := north.tap(t, img)
		if d.Verdict != verdict {
			t.Errorf("%v: %v %s", away, d.Verdict, d.Reason)
		}
		if d.Verdict != terminal.Attend {
			continue
		}
		if !slices.Equal(d.Warnings, []terminal.Reason{terminal.ExitRequired, terminal.HubAway}) {
			t.Errorf("staff is told %v", d.Warnings)
		}
		d = north.decision(t)
		want(t, d, terminal.Admit, terminal.OK)
		if d.Reentry != 1 {
			t.Error("coming back used the ticket up")
		}
	}
}

// Where staff compares every person, the hub may go away while they look.
func TestStaffLetsInWhomTheyLookedAt(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	checker := make(cutter, 1)
	v := venue(whitelist.AwayAttend, "north")
	north := newGate(t, h, "north", v, []whitelist.Listed{row}, func(c *terminal.Config, p *terminal.Parts) {
		c.HolderCheck = map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckStaff}
		p.Checker = checker
	})
	north.connected(true)
	checker <- func() { north.link.lose(true, true) }
	want(t, north.tap(t, img), terminal.Attend, terminal.ManualCheck)
	d := north.decision(t)
	want(t, d, terminal.Admit, terminal.OK)
	if d.Claim != terminal.ClaimUnconfirmed {
		t.Errorf("claim %q", d.Claim)
	}
}

// A cutter does something while staff looks.
type cutter chan func()

func (c cutter) Check(context.Context, terminal.Decision) (bool, error) {
	(<-c)()
	return true, nil
}

// broken is a relay that does not move.
type broken struct{ terminal.Gate }

func (broken) Open(context.Context, *terminal.Permit, uint32) error { return errors.New("no current") }

func TestAGateThatDoesNotOpenUsesNothingUp(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	v := venue(whitelist.AwayAdmit, "north", "south")
	north := newGate(t, h, "north", v, []whitelist.Listed{row}, func(_ *terminal.Config, p *terminal.Parts) { p.Gate = broken{p.Gate} })
	south := newGate(t, h, "south", v, []whitelist.Listed{row})
	north.connected(true)
	south.connected(true)
	want(t, north.tap(t, img), terminal.Deny, terminal.GateFault)
	north.told(t)
	south.hears(t, "t", 0)
	want(t, south.tap(t, img), terminal.Admit, terminal.OK)
}
