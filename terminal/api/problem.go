package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/staff"
)

// A Problem is why a request was refused (RFC 9457).
type Problem struct {
	Type   string          `json:"type"` // one of those below, a relative reference; a promise
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Detail string          `json:"detail"`
	Reason terminal.Reason `json:"reason,omitempty"` // of the gate, where it has one

	kind  kind
	retry time.Duration
}

// Error tells what happened and then what about it.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// Refused reports whether the request was understood and not granted: asking in
// the same way again does not help.
func (p *Problem) Refused() bool {
	return p.Status == http.StatusForbidden || p.Status == http.StatusConflict || p.Status == http.StatusTooManyRequests
}

// A kind is a type of problem with what is the same of all of them.
type kind struct {
	name   string
	status int
	title  string
}

var (
	malformedRequest = kind{"malformed", http.StatusBadRequest, "the request is not what is asked for"}
	tooLarge         = kind{"too-large", http.StatusRequestEntityTooLarge, "the request is too large"}
	noResource       = kind{"no-such-resource", http.StatusNotFound, "there is no such thing here"}
	noReason         = kind{"reason-missing", http.StatusBadRequest, "a reason is missing"}
	noStaff          = kind{"no-staff", http.StatusConflict, "no staff is configured"}
	wrongPasscode    = kind{"wrong-passcode", http.StatusForbidden, "the staff is not known"}
	tooManyTries     = kind{"too-many-tries", http.StatusTooManyRequests, "the staff has to wait"}
	wrongRole        = kind{"role", http.StatusForbidden, "the staff may not do that"}
	settled          = kind{"settled", http.StatusConflict, "there is nothing to settle: it was annulled before, or never made, or people are passing"}
	wrongPeople      = kind{"people", http.StatusConflict, "the reservation is not for so many people"}
	wrongShift       = kind{"shift", http.StatusConflict, "the shift is not theirs"}
	notForThat       = kind{"mode", http.StatusConflict, "the terminal is not for that"}
	noToken          = kind{"token", http.StatusConflict, "there is no such token"}
	noCheckpointKey  = kind{"no-checkpoint-key", http.StatusConflict, "no checkpoint key is configured"}
	busy             = kind{"busy", http.StatusServiceUnavailable, "the gate serves somebody"}
	fault            = kind{"fault", http.StatusServiceUnavailable, "the gate could not do it"}
)

var errBusy = fmt.Errorf("nobody could be let in within %v: try again when the person at the gate is gone", patience)

func malformed(format string, a ...any) *Problem {
	return &Problem{kind: malformedRequest, Detail: fmt.Sprintf(format, a...)}
}

// problem finds what an error is to whoever asks. What is not known here is a
// fault, and the gate's reason tells which.
func problem(err error) *Problem {
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		p = &Problem{kind: fault, Detail: err.Error()}
		wait, waits := errors.AsType[*staff.WaitError](err)
		switch {
		case waits:
			p.kind, p.retry = tooManyTries, wait.For
		case errors.Is(err, staff.ErrPasscode):
			p.kind = wrongPasscode
		case errors.Is(err, staff.ErrNotOnDuty):
			p.kind = wrongShift
		case errors.Is(err, terminal.ErrRole):
			p.kind = wrongRole
		case errors.Is(err, terminal.ErrMode):
			p.kind = notForThat
		case errors.Is(err, terminal.ErrSettled):
			p.kind = settled
		case errors.Is(err, terminal.ErrPeople):
			p.kind = wrongPeople
		case errors.Is(err, errBusy):
			p.kind = busy
		case errors.Is(err, context.Canceled):
			p.Detail = "the agent is stopping, or whoever asked went away"
		default:
			p.Reason = terminal.ReasonOf(err)
		}
	}
	p.Type, p.Title, p.Status = "/problems/"+p.kind.name, p.kind.title, p.kind.status
	return p
}

// head sets what a problem says beside its body.
func (p *Problem) head(h http.Header) {
	h.Set("Content-Type", "application/problem+json")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
}
