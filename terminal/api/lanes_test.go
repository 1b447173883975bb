package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// withExit gives the rig a second lane.
func withExit(p *Parts) { p.Lanes = append(p.Lanes, p.Lanes[0].Desk.(desk).lane(terminal.Exit)) }

func TestStaffNamesTheLane(t *testing.T) {
	r := newRig(t, withExit)
	ctx, exit := t.Context(), Where{"gate-1/exit"}
	_, err := r.client.Override(ctx, Override{3, exit, why("mori")})
	check(t, err)
	_, err = r.client.Admit(ctx, Admission{"A1", false, exit, why("mori")})
	check(t, err)
	_, err = r.client.SetMode(ctx, Mode{true, exit, why("kei")})
	check(t, err)
	_, err = r.client.SetMode(ctx, Mode{true, Where{"gate-1/entry"}, why("kei")})
	check(t, err)
	_, err = r.client.GiveToken(ctx, NewToken{exit, Why{"", Who{"kei", passcode}}})
	check(t, err)
	_, err = r.client.Expect(ctx, Expectation{"", 3, exit, Who{"kei", passcode}})
	check(t, err)
	want := []string{
		"exit: override 3 by mori: because", "exit: admit by mori: because", "exit: out of order true by kei: because",
		"out of order true by kei: because", "exit: token by kei: ", "exit: expects birth date false, token 3 by kei",
	}
	if fmt.Sprint(r.done) != fmt.Sprint(want) {
		t.Errorf("done: %q", r.done)
	}
}

// Nobody's gate opens because another one was meant. The labels are told before
// anybody is identified.
func TestLaneThatIsNotNamedIsRefused(t *testing.T) {
	r := newRig(t, withExit)
	ctx := t.Context()
	for _, lane := range []string{"", "gate-1", "exit", "gate-1/Exit", "gate-2/entry"} {
		nobody, at := Who{"nobody", "wrong"}, Where{lane}
		because := Why{"because", nobody}
		for name, err := range map[string]error{
			"override":    second(r.client.Override(ctx, Override{1, at, because})),
			"admit":       second(r.client.Admit(ctx, Admission{"A1", false, at, because})),
			"mode":        second(r.client.SetMode(ctx, Mode{true, at, because})),
			"token":       second(r.client.GiveToken(ctx, NewToken{at, because})),
			"expectation": second(r.client.Expect(ctx, Expectation{"", 3, at, nobody})),
		} {
			if p := refused(t, err, "malformed", http.StatusBadRequest); !strings.Contains(p.Detail, `want one of ["gate-1/entry" "gate-1/exit"]`) {
				t.Errorf("%s at %q: %+v", name, lane, p)
			}
		}
	}
	r.nothing()
}

// The record says once that a clock was accepted, and every lane takes it over; none
// does when it could not be recorded.
func TestClockIsAcceptedOnceForAllLanes(t *testing.T) {
	r := newRig(t, withExit)
	_, err := r.client.AcceptClock(t.Context(), Clock{why("kei")})
	refused(t, err, "role", http.StatusForbidden)
	r.done = nil // the rig notes what it refuses
	_, err = r.client.AcceptClock(t.Context(), Clock{why("mori")})
	check(t, err)
	if want := []string{"clock accepted by mori: because", "exit: clock taken over"}; fmt.Sprint(r.done) != fmt.Sprint(want) {
		t.Errorf("done: %q", r.done)
	}
}

func TestStatusHasEveryLane(t *testing.T) {
	r := newRig(t, withExit)
	s, err := r.client.Status(t.Context())
	check(t, err)
	if len(s.Lanes) != 2 || s.Lanes[0].Lane != "gate-1/entry" || s.Lanes[1].Lane != "gate-1/exit" || s.Lanes[1].Direction != "exit" {
		t.Errorf("%+v", s.Lanes)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
