package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/staff"
)

func TestWhatStaffCanDo(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	d, err := r.client.Override(ctx, Override{3, Where{}, why("mori")})
	if err != nil || d.Verdict != terminal.Admit || d.Reason != terminal.Override || d.People != 3 || d.Reservation != 7 {
		t.Errorf("%+v, %v", d, err)
	}
	d, err = r.client.Admit(ctx, Admission{"A1", false, Where{}, why("mori")})
	if err != nil || d.Verdict != terminal.Admit || d.People != 2 || d.Reservation != 9 || d.Message != "wheelchair" {
		t.Errorf("%+v, %v", d, err)
	}
	if a, err := r.client.Annul(ctx, Annulment{7, 0, why("kei")}); err != nil || a.Reservation != 7 {
		t.Errorf("%+v, %v", a, err)
	}
	if m, err := r.client.SetMode(ctx, Mode{true, Where{}, why("kei")}); err != nil || !m.OutOfOrder {
		t.Errorf("%+v, %v", m, err)
	}
	if s, err := r.client.ChangeShift(ctx, ShiftChange{true, Who{"kei", passcode}}); err != nil || *s.OnDuty != (Person{"kei", terminal.Steward}) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := r.client.ChangeShift(ctx, ShiftChange{false, Who{"kei", passcode}}); err != nil || s.OnDuty != nil {
		t.Errorf("%+v, %v", s, err)
	}
	want := []string{
		"override 3 by mori: because", "admit by mori: because", "annul 7 by kei: because", "out of order true by kei: because",
		"shift true of kei", "shift false of kei",
	}
	if fmt.Sprint(r.done) != fmt.Sprint(want) {
		t.Errorf("done: %q", r.done)
	}
}

// That the list denies is an answer, and not a problem.
func TestDenialIsAnAnswer(t *testing.T) {
	r := newRig(t, nil)
	r.denies = terminal.AlreadyUsed
	d, err := r.client.Admit(t.Context(), Admission{"A1", false, Where{}, why("mori")})
	if err != nil || d.Verdict != terminal.Deny || d.Reason != terminal.AlreadyUsed || d.People != 0 || len(d.Others) != 1 || d.Others[0] != (Refusal{"b", terminal.InvalidTime}) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = r.client.Admit(t.Context(), Admission{"NONE", false, Where{}, why("mori")}); err != nil || d.Verdict != terminal.Deny || d.Reason != terminal.NotListed {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestStewardLetsNobodyIn(t *testing.T) {
	r := newRig(t, nil)
	_, err := r.client.Override(t.Context(), Override{1, Where{}, why("kei")})
	if p := refused(t, err, "role", http.StatusForbidden); !p.Refused() || !strings.Contains(p.Detail, "it takes a supervisor") {
		t.Errorf("%+v", p)
	}
	_, err = r.client.Admit(t.Context(), Admission{"A1", false, Where{}, why("kei")})
	refused(t, err, "role", http.StatusForbidden)
	r.nothing()
}

func TestWrongPasscodeIsRefusedAndSlowedDown(t *testing.T) {
	r := newRig(t, nil)
	guess := func() error {
		w := why("mori")
		w.Passcode = "a guess"
		_, err := r.client.Override(t.Context(), Override{1, Where{}, w})
		return err
	}
	for range staff.FreeTries {
		refused(t, guess(), "wrong-passcode", http.StatusForbidden)
	}
	if p := refused(t, guess(), "too-many-tries", http.StatusTooManyRequests); !p.Refused() || !strings.Contains(p.Detail, "wait 30 s") {
		t.Errorf("%+v", p)
	}
	// The right one has to wait as well.
	body := fmt.Sprintf(`{"lane":"","people":1,"staff":"mori","passcode":%q,"reason":"x"}`, passcode)
	if status, _, header := r.post("/v1/overrides", "application/json", body); status != http.StatusTooManyRequests || header.Get("Retry-After") != "30" {
		t.Errorf("status %d, Retry-After %q", status, header.Get("Retry-After"))
	}
	r.nothing()
	r.clock = r.clock.Add(staff.Wait)
	if status, p, _ := r.post("/v1/overrides", "application/json", body); status != http.StatusOK {
		t.Errorf("%+v", p)
	}
}

func TestNobodyActsWhereNoStaffIsConfigured(t *testing.T) {
	r := newRig(t, func(p *Parts) { p.Staff = nil })
	_, err := r.client.Annul(t.Context(), Annulment{7, 0, why("kei")})
	if p := refused(t, err, "no-staff", http.StatusConflict); !strings.Contains(p.Detail, "staff.file") {
		t.Errorf("%+v", p)
	}
	_, err = r.client.ChangeShift(t.Context(), ShiftChange{true, Who{"kei", passcode}})
	refused(t, err, "no-staff", http.StatusConflict)
	if s, err := r.client.Status(t.Context()); err != nil || s.Staff || s.OnDuty != nil {
		t.Errorf("%+v, %v", s, err)
	}
	r.nothing()
}

// What is not exactly what is asked for is refused before anybody is identified,
// and nothing is done.
func TestMalformedRequestsAreRefused(t *testing.T) {
	r := newRig(t, nil)
	const who = `"staff":"mori","passcode":"` + passcode + `","reason":"x"`
	long := strings.Repeat("a", MaxReason+1)
	for _, c := range []struct{ path, body, want string }{
		{"/v1/overrides", ``, "want one JSON object"},
		{"/v1/overrides", `[]`, "want one JSON object"},
		{"/v1/overrides", `{"lane":"","people":1,` + who, "the object does not end"},
		{"/v1/overrides", `{"lane":"","people":1,` + who + `}{}`, "something comes behind"},
		{"/v1/overrides", `{"lane":"","people":1,` + who + `,"force":true}`, `unknown member "force"`},
		{"/v1/overrides", `{"People":1,` + who + `}`, `unknown member "People"`},
		{"/v1/overrides", `{"lane":"","people":1,"people":2,` + who + `}`, `"people" comes twice`},
		{"/v1/overrides", `{"lane":"",` + who + `}`, `"people" is missing`},
		{"/v1/overrides", `{"lane":"","people":null,` + who + `}`, `"people" is null`},
		{"/v1/overrides", `{"lane":"","people":"1",` + who + `}`, `"people" is a string`},
		{"/v1/overrides", `{"lane":"","people":-1,` + who + `}`, `"people" is a number, want uint32`},
		{"/v1/overrides", `{"lane":"","people":1.5,` + who + `}`, `"people" is a number, want uint32`},
		{"/v1/overrides", `{"lane":"","people":0,` + who + `}`, "people is 0, want 1 to 100"},
		{"/v1/overrides", `{"lane":"","people":101,` + who + `}`, "people is 101, want 1 to 100"},
		{"/v1/overrides", `{"lane":"","people":1,"staff":"mori","passcode":"` + passcode + `"}`, `"reason" is missing`},
		{"/v1/overrides", `{"lane":"","people":1,"staff":"mori","passcode":"` + passcode + `","reason":" "}`, "say why"},
		{"/v1/overrides", `{"lane":"","people":1,"staff":"mori","passcode":"` + passcode + `","reason":"` + long + `"}`, "reason has 301 bytes"},
		{"/v1/overrides", `{"lane":"","people":1,"staff":"mori","passcode":"` + passcode + `","reason":"a\u001b[2J"}`, "cannot be printed"},
		{"/v1/admissions", `{"lane":"","order":"A B","looked":false,` + who + `}`, "order: an order number has letters"},
		{"/v1/mode", `{"lane":"",` + who + `}`, `"out_of_order" is missing`},
		{"/v1/mode", `{"lane":"","out_of_order":null,` + who + `}`, `"out_of_order" is null`},
		{"/v1/overrides", `{"people":1,` + who + `}`, `"lane" is missing`},
		{"/v1/overrides", `{"lane":"gate-1","people":1,` + who + `}`, `lane is "gate-1", want one of ["gate-1/entry"]`},
		{"/v1/clock", `{"lane":"",` + who + `}`, `unknown member "lane"`},
		{"/v1/shift", `{"begin":true,` + who + `}`, `unknown member "reason"`},
		{"/v1/annulments", `{"reservation":-1,"passed":0,` + who + `}`, `"reservation" is a number, want uint64`},
	} {
		if status, p, _ := r.post(c.path, "application/json", c.body); status != http.StatusBadRequest || !strings.Contains(p.Detail, c.want) {
			t.Errorf("%s %.60s: status %d, %+v; want %q", c.path, c.body, status, p, c.want)
		}
	}
	good := `{"lane":"","people":1,` + who + `}`
	if status, _, _ := r.post("/v1/overrides", "text/plain", good); status != http.StatusBadRequest {
		t.Errorf("text/plain: status %d", status)
	}
	if status, p, _ := r.post("/v1/overrides", "application/json", good+strings.Repeat(" ", MaxBody)); status != http.StatusRequestEntityTooLarge || p.Type != "/problems/too-large" {
		t.Errorf("65 KiB: status %d, %+v", status, p)
	}
	for _, path := range []string{"/", "/v1/status", "/v1/overrides/", "/v2/overrides"} {
		if status, p, _ := r.post(path, "application/json", good); status != http.StatusNotFound || p.Type != "/problems/no-such-resource" {
			t.Errorf("POST %s: status %d, %+v", path, status, p)
		}
	}
	r.nothing()
}

func TestAnnulmentOfNothing(t *testing.T) {
	r := newRig(t, nil)
	_, err := r.client.Annul(t.Context(), Annulment{404, 0, why("kei")})
	refused(t, err, "settled", http.StatusConflict)
}

func TestShiftOfSomebodyElse(t *testing.T) {
	r := newRig(t, nil)
	_, err := r.client.ChangeShift(t.Context(), ShiftChange{false, Who{"kei", passcode}})
	refused(t, err, "shift", http.StatusConflict)
	r.nothing()
}

// A gate that cannot is no refusal: it is told with the gate's reason.
func TestFaultsHaveTheReasonOfTheGate(t *testing.T) {
	r := newRig(t, nil)
	r.fails = errors.New("disk full")
	for name, err := range map[string]error{
		"override": second(r.client.Override(t.Context(), Override{1, Where{}, why("mori")})),
		"annul":    second(r.client.Annul(t.Context(), Annulment{7, 0, why("kei")})),
		"mode":     second(r.client.SetMode(t.Context(), Mode{true, Where{}, why("kei")})),
		"shift":    second(r.client.ChangeShift(t.Context(), ShiftChange{true, Who{"kei", passcode}})),
	} {
		if p := refused(t, err, "fault", http.StatusServiceUnavailable); p.Reason != terminal.OutOfOrder || p.Refused() || !strings.Contains(p.Detail, "disk full") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if s, err := r.client.Status(t.Context()); err != nil || s.Journal.Detail != "disk full" {
		t.Errorf("%+v, %v", s.Journal, err)
	}
}

func TestStatus(t *testing.T) {
	r := newRig(t, nil)
	if _, err := r.client.ChangeShift(t.Context(), ShiftChange{true, Who{"mori", passcode}}); err != nil {
		t.Fatal(err)
	}
	s, err := r.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := s.Lanes[0]
	if l.Lane != "gate-1/entry" || l.Gate != "gate-1" || l.Direction != "entry" || l.Mode != terminal.Venue || l.Signal != "caution" || len(l.Why) != 1 || l.Why[0] != terminal.DataStale ||
		len(l.Halts) != 0 || !l.Reader.Up || l.Reader.Detail != "Reader 1" || len(s.Lanes) != 1 || s.Terminal != "gate-1-left" || s.List.Epoch != 1 || s.List.Seq != 2 || s.List.AgeS != 3600 || s.List.LeftS != 3600 || s.List.RevocationAsOf != nil ||
		!s.Clock.Trusted || !s.Clock.Now.Equal(r.clock) || !s.Clock.Latest.Equal(r.clock.Add(-time.Minute)) ||
		!s.Staff || *s.OnDuty != (Person{"mori", terminal.Supervisor}) || s.Journal != (JournalStatus{Open: 1, InDoubt: 2}) || s.Version != "v1" {
		t.Errorf("%+v", s)
	}
	r.halted, r.list = true, errors.New("no list")
	if s, err = r.client.Status(t.Context()); err != nil || s.Lanes[0].Signal != "out_of_order" || len(s.Lanes[0].Halts) != 1 || s.List != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// Requests end when the agent does, before its gate is shut.
func TestAgentThatStopsWaitsForNoTurn(t *testing.T) {
	r := newRig(t, nil)
	r.busy = true
	ctx, stop := context.WithCancel(t.Context())
	other := newStopped(t, ctx, r)
	asked := make(chan error, 1)
	go func() { asked <- second(other.Override(t.Context(), Override{1, Where{}, why("mori")})) }()
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	stop()
	err := <-asked
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err == nil {
		t.Error("somebody was let in")
	}
	r.nothing()
}

func TestPasscodeIsNotPrinted(t *testing.T) {
	w := why("kei")
	for _, text := range []string{fmt.Sprint(w), fmt.Sprintf("%+v %#v %s %q %x", w, w, w, w, w.Passcode)} {
		if strings.Contains(text, passcode) || strings.Contains(text, fmt.Sprintf("%x", passcode)) || !strings.Contains(text, "XX") {
			t.Error(text)
		}
	}
}

// Whatever is sent, what is taken has every member once.
func FuzzDecode(f *testing.F) {
	f.Add(`{"lane":"","people":1,"staff":"mori","passcode":"x","reason":"x"}`)
	f.Add(`{"lane":"","people":1,"people":1,"staff":"mori","passcode":"x","reason":"x"}`)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		var o Override
		if decode(r, &o) != nil {
			return
		}
		all, err := members([]byte(body))
		if err != nil || len(all) != 5 {
			t.Errorf("%q is taken: %v", body, err)
		}
	})
}
