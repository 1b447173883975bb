package terminal

import "time"

// An Incident is what happened at a gate without a card.
type Incident struct {
	At     time.Time
	Gate   string
	Reason Reason // tailgate, emergency_open, gate_fault, out_of_order, data_stale, clock_untrusted
	State  State
	Staff  Staff  // who did it, the zero Staff when nobody did
	Note   string // why, in their words
	Cause  error  // for the log
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
	Steward    Role = "steward"    // compares people with cards, annuls what did not happen
	Supervisor Role = "supervisor" // opens the gate without a card, takes it out of order
)
