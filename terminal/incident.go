package terminal

import (
	"errors"
	"fmt"
	"time"
)

// An Incident is what happened at a gate without a card.
type Incident struct {
	At        time.Time
	Gate      string
	Direction Direction // of the lane
	Reason    Reason    // tailgate, emergency_open, gate_fault, out_of_order, data_stale, clock_untrusted
	State     State
	Staff     Staff  // who did it, the zero Staff when nobody did
	Note      string // why, in their words
	Cause     error  // for the log
}

// A State says whether an incident goes on.
type State string

// States. The zero State is an incident of a moment.
const (
	Begins State = "begin"
	Ends   State = "end"
)

// Staff is a member of the staff at a gate.
type Staff struct {
	Name string // as the staff file has it
	Role Role
}

// A Role is what staff may do.
type Role string

// Roles, each with all that those before it may do.
const (
	Steward    Role = "steward"    // compares people with cards, settles entries, takes the gate out of order, counts at a shelter
	Supervisor Role = "supervisor" // lets people in without a card, accepts a clock
)

// ErrRole says that staff may not do that.
var ErrRole = errors.New("not allowed in this role")

// May returns nil when staff has at least the role that something needs.
func (s Staff) May(need Role) error {
	if s.Name != "" && (s.Role == Supervisor || s.Role == Steward && need == Steward) {
		return nil
	}
	return fmt.Errorf("%w: it takes a %s", ErrRole, need)
}
