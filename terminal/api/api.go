// Package api is the door of a running agent for staff and for programs on the
// same machine: HTTP with JSON on a Unix socket in the state folder.
//
// It promises: only who owns the folder gets to the socket; whoever changes
// something names a member of the staff, with their passcode, and why; what is
// refused changes nothing, and says so as problem details (RFC 9457); and no
// answer names a visitor: cards and tickets are pseudonyms. A checkpoint is signed
// for whoever asks: it changes nothing of what was recorded.
//
// docs/staff.md lists what can be asked. Paths, members and problem types are a
// promise: things are added, not changed.
package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Lane is one of the lanes of the agent.
type Lane struct {
	Gate      string
	Direction terminal.Direction
	Mode      terminal.Mode

	Desk    Desk
	Readers func(ctx context.Context) (names string, up bool)
}

// Label names a lane among those of its agent: "gate-1/exit". A gate has one lane
// in a direction.
func Label(gate string, d terminal.Direction) string { return gate + "/" + d.String() }

func (l Lane) label() string { return Label(l.Gate, l.Direction) }

// A Desk is what staff can do at a lane. *terminal.Lane is one.
type Desk interface {
	Idle() (terminal.Signal, []terminal.Reason)
	Halted() []string
	Override(ctx context.Context, by terminal.Staff, note string, people uint32) (terminal.Decision, error)
	AdmitOrder(ctx context.Context, by terminal.Staff, note, order string, looked bool) (terminal.Decision, error)
	SetOutOfOrder(ctx context.Context, by terminal.Staff, note string, on bool) error
	AcceptClock(ctx context.Context, by terminal.Staff, note string) error
	ClockAccepted(ctx context.Context)
	Expect(e terminal.Expectation) error
	GiveToken(ctx context.Context, by terminal.Staff, note string) (terminal.Decision, uint32, error)
	TokenLeaves(ctx context.Context, by terminal.Staff, token uint32) (terminal.Decision, error)
	Clock() (shown time.Time, trusted bool)
}

// A Journal is what the record is asked for.
type Journal interface {
	// SettleBy is as in terminal.Journal.
	SettleBy(ctx context.Context, r terminal.Reservation, people uint32, by terminal.Staff, note string) error

	// Unsettled counts the reservations that are open, and those in doubt.
	Unsettled(ctx context.Context) (open, inDoubt uint64, err error)

	// History and Latest are as in terminal.Journal.
	History(ctx context.Context, entitlement string) (terminal.History, error)
	Latest() time.Time
}

// A Roster tells who somebody is. *staff.Roster is one.
type Roster interface {
	Identify(name, passcode string) (terminal.Staff, error)
}

// A Shift is who is on duty. *staff.Shift is one.
type Shift interface {
	Begin(ctx context.Context, by terminal.Staff) error
	End(ctx context.Context, by terminal.Staff) error
	OnDuty() terminal.Staff
}

// Parts are what a server works with.
type Parts struct {
	Terminal, Version string

	Lanes   []Lane // at least one; all have the same journal and list
	Journal Journal
	List    terminal.List

	// Operator is what the operator has ordered from afar; nil where nobody can.
	Operator func() Operator

	// Hub is the live connection to the hub; nil where there is none.
	Hub func() HubStatus

	// Staff is nil where no roster is configured: then nothing can be changed.
	Staff *Staff

	// Checkpoint signs the head of the journal; nil where no key is configured.
	Checkpoint func(ctx context.Context) ([]byte, error)

	// Now is the wall clock.
	Now func() time.Time
}

// Staff is a roster, and who of it is on duty.
type Staff struct {
	Roster
	Shift
}

// Limits of a request.
const (
	MaxBody   = 64 << 10 // bytes
	MaxReason = 300      // bytes

	patience = 20 * time.Second // for the gate to be free
)

// New makes a server for Serve. Its ErrorLog may be set.
func New(p Parts) *http.Server {
	s := &server{Parts: p, started: time.Now()}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", answer(s.status))
	mux.Handle("POST /v1/annulments", act(s, s.annul))
	mux.Handle("POST /v1/overrides", act(s, s.override))
	mux.Handle("POST /v1/admissions", act(s, s.admit))
	mux.Handle("POST /v1/mode", act(s, s.mode))
	mux.Handle("POST /v1/clock", act(s, s.clock))
	mux.Handle("POST /v1/shift", act(s, s.shift))
	mux.Handle("POST /v1/muster/tokens", act(s, s.token))
	mux.Handle("POST /v1/muster/departures", act(s, s.depart))
	mux.Handle("POST /v1/muster/expectations", act(s, s.expect))
	mux.Handle("POST /v1/checkpoints", answer(s.checkpoint))
	mux.Handle("/", answer(unknown))
	return &http.Server{
		Handler: mux, MaxHeaderBytes: 8 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
		WriteTimeout: 10*time.Second + patience + terminal.Grace + 10*time.Second, // a deadline of a lane is at most 10 s
	}
}

type server struct {
	Parts
	started time.Time // with a monotonic reading
}

// act answers what staff asks, once it is known who they are.
func act[R request](s *server, do func(context.Context, terminal.Staff, R) (any, error)) http.Handler {
	return answer(func(r *http.Request) (any, error) {
		var asked R
		if err := decode(r, &asked); err != nil {
			return nil, err
		}
		if err := asked.check(); err != nil {
			return nil, err
		}
		if at, ok := any(asked).(interface{ where() string }); ok {
			if _, err := s.desk(at.where()); err != nil {
				return nil, err
			}
		}
		by, err := s.identify(asked.who())
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeoutCause(r.Context(), patience, errBusy)
		defer cancel()
		return do(ctx, by, asked)
	})
}

func (s *server) identify(w Who) (terminal.Staff, error) {
	if s.Staff == nil {
		return terminal.Staff{}, &Problem{kind: noStaff, Detail: "the configuration names no roster: set staff.file and restart the agent"}
	}
	return s.Staff.Identify(w.Staff, string(w.Passcode))
}

func (s *server) annul(ctx context.Context, by terminal.Staff, r Annulment) (any, error) {
	if err := by.May(terminal.Steward); err != nil {
		return nil, err
	}
	// Not cancelled: a write that is given up half-way might stand after all.
	err := s.Journal.SettleBy(context.WithoutCancel(ctx), terminal.Reservation(r.Reservation), r.Passed, by, r.Reason)
	return Annulled{r.Reservation, r.Passed}, err
}

// desk finds the lane of a request. It need not be named where there is one.
func (s *server) desk(label string) (Desk, error) {
	if label == "" && len(s.Lanes) == 1 {
		return s.Lanes[0].Desk, nil
	}
	var labels []string
	for _, l := range s.Lanes {
		if l.label() == label {
			return l.Desk, nil
		}
		labels = append(labels, l.label())
	}
	return nil, malformed("lane is %q, want one of %q", label, labels)
}

// clock is the same for all lanes, and accepted once.
func (s *server) clock(ctx context.Context, by terminal.Staff, c Clock) (any, error) {
	accepted := ClockAccepted{s.Now().UTC()}
	if err := s.Lanes[0].Desk.AcceptClock(ctx, by, c.Reason); err != nil {
		return nil, err
	}
	for _, l := range s.Lanes[1:] {
		l.Desk.ClockAccepted(ctx)
	}
	return accepted, nil
}

func (s *server) override(ctx context.Context, by terminal.Staff, r Override) (any, error) {
	desk, err := s.desk(r.Lane)
	if err != nil {
		return nil, err
	}
	return decided(desk.Override(ctx, by, r.Reason, r.People))
}

func (s *server) admit(ctx context.Context, by terminal.Staff, r Admission) (any, error) {
	desk, err := s.desk(r.Lane)
	if err != nil {
		return nil, err
	}
	return decided(desk.AdmitOrder(ctx, by, r.Reason, r.Order, r.Looked))
}

func (s *server) mode(ctx context.Context, by terminal.Staff, r Mode) (any, error) {
	desk, err := s.desk(r.Lane)
	if err != nil {
		return nil, err
	}
	return InMode{r.OutOfOrder}, desk.SetOutOfOrder(ctx, by, r.Reason, r.OutOfOrder)
}

func (s *server) shift(ctx context.Context, by terminal.Staff, r ShiftChange) (any, error) {
	change := s.Staff.End
	if r.Begin {
		change = s.Staff.Begin
	}
	err := change(ctx, by)
	return OnDuty{person(s.Staff.OnDuty())}, err
}

func unknown(r *http.Request) (any, error) {
	return nil, &Problem{kind: noResource, Detail: r.Method + " " + r.URL.Path + ": docs/staff.md lists what there is"}
}
