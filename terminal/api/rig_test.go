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

func second[T any](_ T, err error) error { return err }

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
