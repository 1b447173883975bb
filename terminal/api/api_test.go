package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/staff"
	"github.com/gate-agent/gate-agent/whitelist"
)

const passcode = "a good one"

var roster = sync.OnceValue(func() string {
	hash, err := staff.Hash([]byte(passcode))
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("[[staff]]\nname=\"kei\"\nrole=\"steward\"\npasscode=%q\n[[staff]]\nname=\"mori\"\nrole=\"supervisor\"\npasscode=%[1]q\n", hash)
})

// A rig is a server at a socket, with a gate and a journal that only note what
// is asked of them.
type rig struct {
	t      *testing.T
	socket string
	client *Client
	clock  time.Time

	mu     sync.Mutex
	done   []string // by the gate and the journal
	fails  error    // of both
	denies terminal.Reason
	halted bool
	busy   bool // the gate serves somebody, for ever
	list   error
}

func newRig(t *testing.T, change func(*Parts)) *rig {
	t.Helper()
	r := &rig{t: t, socket: filepath.Join(shortDir(t), SocketName), clock: time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)}
	members, err := staff.Parse([]byte(roster()), func() time.Time { return r.clock })
	if err != nil {
		t.Fatal(err)
	}
	parts := Parts{
		Terminal: "gate-1-left", Version: "v1", Lanes: []Lane{r.lane(terminal.Entry)}, Journal: r, List: r,
		Staff: &Staff{members, staff.NewShift(r, time.Now)},
		Now:   func() time.Time { return r.clock },
	}
	if change != nil {
		change(&parts)
	}
	l, err := Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, New(parts), l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(r.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	r.client = NewClient(r.socket)
	return r
}

// lane is a lane of the rig's gate.
func (r *rig) lane(d terminal.Direction) Lane {
	return Lane{
		Gate: "gate-1", Direction: d, Mode: terminal.Venue, Desk: desk{r, d},
		Readers: func(context.Context) (string, bool) { return "Reader 1", true },
	}
}

// A desk notes what is asked of one lane.
type desk struct {
	*rig
	direction terminal.Direction
}

// note is that of the rig; what is done at an exit says so.
func (r desk) note(format string, a ...any) error {
	if r.direction == terminal.Exit {
		format = "exit: " + format
	}
	return r.rig.note(format, a...)
}

func (r *rig) note(format string, a ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails == nil {
		r.done = append(r.done, fmt.Sprintf(format, a...))
	}
	return r.fails
}

func (r desk) Idle() (terminal.Signal, []terminal.Reason) {
	if r.halted {
		return terminal.ShowOutOfOrder, nil
	}
	return terminal.ShowCaution, []terminal.Reason{terminal.DataStale}
}

func (r desk) Halted() []string {
	if r.halted {
		return []string{"staff"}
	}
	return []string{}
}

func (r *rig) turn(ctx context.Context) error {
	if r.busy {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (r desk) Override(ctx context.Context, by terminal.Staff, note string, people uint32) (terminal.Decision, error) {
	d := terminal.Decision{Verdict: terminal.Admit, Reason: terminal.Override, People: people, Reservation: 7}
	if err := errors.Join(by.May(terminal.Supervisor), r.turn(ctx)); err != nil {
		return d, err
	}
	return d, r.note("override %d by %s: %s", people, by.Name, note)
}

func (r desk) AdmitOrder(ctx context.Context, by terminal.Staff, note, order string, _ bool) (terminal.Decision, error) {
	if err := by.May(terminal.Supervisor); err != nil {
		return terminal.Decision{}, err
	}
	if order == "NONE" {
		return terminal.Decision{Reason: terminal.NotListed}, whitelist.ErrNotListed
	}
	d := terminal.Decision{
		Reason: r.denies, Entitlement: "a", Others: []terminal.Refusal{{Entitlement: "b", Reason: terminal.InvalidTime}}, CardID: "0123", Message: "wheelchair",
	}
	if r.denies == "" {
		d.Verdict, d.Reason, d.People, d.Reservation, d.Others = terminal.Admit, terminal.OK, 2, 9, nil
	}
	return d, r.note("admit by %s: %s", by.Name, note)
}

func (r desk) SetOutOfOrder(_ context.Context, by terminal.Staff, note string, on bool) error {
	return errors.Join(by.May(terminal.Steward), r.note("out of order %v by %s: %s", on, by.Name, note))
}

func (r desk) Expect(e terminal.Expectation) error {
	if r.fails == nil && time.Until(e.Until) > Expects {
		r.t.Errorf("expected until %v", e.Until)
	}
	return r.note("expects birth date %v, token %d by %s", !e.BirthDate.IsZero(), e.Token, e.By.Name)
}

func (r desk) TokenLeaves(_ context.Context, by terminal.Staff, token uint32) (terminal.Decision, error) {
	if token == 404 {
		return terminal.Decision{}, terminal.ErrToken
	}
	return terminal.Decision{Verdict: terminal.Admit, Reason: terminal.Leaving, Reservation: 13}, errors.Join(by.May(terminal.Steward), r.note("number %d leaves, says %s", token, by.Name))
}

func (r desk) Clock() (time.Time, bool) { return r.clock, true }

func (r desk) GiveToken(_ context.Context, by terminal.Staff, note string) (terminal.Decision, uint32, error) {
	return terminal.Decision{Reservation: 11}, 3, r.note("token by %s: %s", by.Name, note)
}

func (r *rig) History(_ context.Context, entitlement string) (h terminal.History, err error) {
	if entitlement == terminal.TokenEntitlement(3) {
		h.Passages = make([]terminal.Passage, 1)
	}
	return h, nil
}

func (r desk) AcceptClock(_ context.Context, by terminal.Staff, note string) error {
	return errors.Join(by.May(terminal.Supervisor), r.note("clock accepted by %s: %s", by.Name, note))
}

func (r desk) ClockAccepted(context.Context) { _ = r.note("clock taken over") }

func (r *rig) SettleBy(_ context.Context, n terminal.Reservation, _ uint32, by terminal.Staff, note string) error {
	if n == 404 {
		return fmt.Errorf("%w: %d", terminal.ErrSettled, n)
	}
	return r.note("annul %d by %s: %s", n, by.Name, note)
}

func (r *rig) Shift(_ context.Context, _ time.Time, by terminal.Staff, begins bool) error {
	return r.note("shift %v of %s", begins, by.Name)
}

func (r *rig) Unsettled(context.Context) (open, inDoubt uint64, err error) { return 1, 2, r.fails }
func (r *rig) Latest() time.Time                                           { return r.clock.Add(-time.Minute) }
func (r *rig) Current() (whitelist.View, error)                            { return view{now: r.clock}, r.list }

type view struct {
	whitelist.View // nil: nobody is looked up
	now            time.Time
}

func (v view) Manifest() whitelist.Manifest {
	return whitelist.Manifest{Epoch: 1, Seq: 2, IssuedAt: v.now.Add(-time.Hour), NotAfter: v.now.Add(time.Hour)}
}
func (view) Release() {}

// post sends a body as it is, and returns what comes back.
func (r *rig) post(path, contentType, body string) (status int, p Problem, header http.Header) {
	r.t.Helper()
	answer, err := r.client.http.Post("http://agent"+path, contentType, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if bytes.Contains(text, []byte(passcode)) {
		r.t.Errorf("the passcode is answered: %s", text)
	}
	if answer.StatusCode != http.StatusOK {
		if err := json.Unmarshal(text, &p); err != nil || answer.Header.Get("Content-Type") != "application/problem+json" {
			r.t.Errorf("%v: %s", err, text)
		}
		if p.Type == "" || p.Title == "" || p.Detail == "" || p.Status != answer.StatusCode {
			r.t.Errorf("problem %s", text)
		}
	}
	return answer.StatusCode, p, answer.Header
}

// nothing fails the test when anything was done.
func (r *rig) nothing() {
	r.t.Helper()
	if len(r.done) > 0 {
		r.t.Errorf("done: %q", r.done)
	}
}

func why(name string) Why { return Why{"because", Who{name, passcode}} }

func refused(t *testing.T, err error, kind string, status int) *Problem {
	t.Helper()
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Type != "/problems/"+kind || p.Status != status {
		t.Fatalf("%+v, want problem %s with status %d", err, kind, status)
	}
	return p
}

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

func second[T any](_ T, err error) error { return err }

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

// newStopped serves the rig once more, until ctx ends.
func newStopped(t *testing.T, ctx context.Context, r *rig) *Client {
	t.Helper()
	path := filepath.Join(filepath.Dir(r.socket), "second.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	members, err := staff.Parse([]byte(roster()), nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	server := New(Parts{Lanes: []Lane{r.lane(terminal.Entry)}, Journal: r, List: r, Staff: &Staff{members, staff.NewShift(r, time.Now)}, Now: time.Now})
	go func() { served <- Serve(ctx, server, l) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return NewClient(path)
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
