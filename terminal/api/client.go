package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Client asks the agent at a socket.
type Client struct {
	path string
	http http.Client
}

// ErrNotRunning says that nobody answers at the socket.
var ErrNotRunning = errors.New("no agent is running")

// NewClient makes a client for the socket at path.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{path, http.Client{
		Timeout: patience + 30*time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
		},
	}}
}

// A Process is one that answers at a socket.
type Process struct{ PID, UID int }

// Process tells who answers: the kernel has noted it when the socket was made
// (unix(7), SO_PEERCRED). PID is 0 when it is out of sight, in a container of its own.
func (c *Client) Process(ctx context.Context) (p Process, err error) {
	if err := CheckPath(c.path); err != nil {
		return p, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
	if err != nil {
		return p, c.unanswered(err)
	}
	defer conn.Close() // nothing was written
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return p, err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || failed != nil {
		return p, fmt.Errorf("asking who answers at %s: %w", c.path, errors.Join(err, failed))
	}
	return Process{int(peer.Pid), int(peer.Uid)}, nil
}

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Annul settles a reservation for which nobody passed.
func (c *Client) Annul(ctx context.Context, a Annulment) (done Annulled, err error) {
	return done, c.ask(ctx, http.MethodPost, "/v1/annulments", a, &done)
}

// Override lets people in without a card. A decision that denies is no error.
func (c *Client) Override(ctx context.Context, o Override) (d Decision, err error) {
	return d, c.ask(ctx, http.MethodPost, "/v1/overrides", o, &d)
}

// Admit lets somebody in by their order. A decision that denies is no error.
func (c *Client) Admit(ctx context.Context, a Admission) (d Decision, err error) {
	return d, c.ask(ctx, http.MethodPost, "/v1/admissions", a, &d)
}

// SetMode takes a lane out of order, or back into it.
func (c *Client) SetMode(ctx context.Context, m Mode) (now InMode, err error) {
	return now, c.ask(ctx, http.MethodPost, "/v1/mode", m, &now)
}

// AcceptClock says that the terminal's clock is right as it is.
func (c *Client) AcceptClock(ctx context.Context, w Clock) (now ClockAccepted, err error) {
	return now, c.ask(ctx, http.MethodPost, "/v1/clock", w, &now)
}

// ChangeShift begins or ends a shift.
func (c *Client) ChangeShift(ctx context.Context, s ShiftChange) (now OnDuty, err error) {
	return now, c.ask(ctx, http.MethodPost, "/v1/shift", s, &now)
}

// TokenLeaves counts out somebody who has only a number.
func (c *Client) TokenLeaves(ctx context.Context, d Departure) (t Token, err error) {
	return t, c.ask(ctx, http.MethodPost, "/v1/muster/departures", d, &t)
}

// GiveToken counts somebody without a card.
func (c *Client) GiveToken(ctx context.Context, n NewToken) (t Token, err error) {
	return t, c.ask(ctx, http.MethodPost, "/v1/muster/tokens", n, &t)
}

// Expect says something of whoever comes next.
func (c *Client) Expect(ctx context.Context, e Expectation) (until Expected, err error) {
	return until, c.ask(ctx, http.MethodPost, "/v1/muster/expectations", e, &until)
}

// Checkpoint has the head of the journal signed.
func (c *Client) Checkpoint(ctx context.Context) (msg []byte, err error) {
	var s Signed
	err = c.ask(ctx, http.MethodPost, "/v1/checkpoints", struct{}{}, &s)
	return s.Checkpoint, err
}

// ask sends a request and reads its answer. What the agent refuses is a *Problem.
func (c *Client) ask(ctx context.Context, method, path string, body, into any) error {
	if err := CheckPath(c.path); err != nil {
		return err
	}
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return c.unanswered(err)
	}
	defer answer.Body.Close() // only read
	limited := io.LimitReader(answer.Body, 1<<20)
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/problem+json") {
		p := new(Problem)
		if err := json.NewDecoder(limited).Decode(p); err != nil {
			return fmt.Errorf("reading what the agent at %s answered: %w", c.path, err)
		}
		return p
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent at %s answered %s", c.path, answer.Status)
	}
	if err := json.NewDecoder(limited).Decode(into); err != nil {
		return fmt.Errorf("reading what the agent at %s answered: %w", c.path, err)
	}
	return nil
}

// unanswered says why nobody answered.
func (c *Client) unanswered(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody answers at %s: start it with gate-agent run, or see whether it fails (journalctl -u gate-agent)", ErrNotRunning, c.path)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("asking the agent at %s: %w: run this as the owner of the state folder", c.path, err)
	}
	return fmt.Errorf("asking the agent at %s: %w", c.path, err)
}
