package api

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Who says who asks.
type Who struct {
	Staff    string   `json:"staff"`
	Passcode Passcode `json:"passcode"`
}

// A Passcode is printed as XX.
type Passcode string

// Format implements fmt.Formatter.
func (Passcode) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "XX") }

// Where says at which lane: by its label, or "" where the agent has one lane.
type Where struct {
	Lane string `json:"lane"`
}

func (w Where) where() string { return w.Lane }

// Why is who asks, and why, in their words, which go into the journal.
type Why struct {
	Reason string `json:"reason"`
	Who
}

// What is asked. Every member is needed.
type (
	// An Annulment: nobody passed for the reservation, or of an entry in doubt
	// only so many.
	Annulment struct {
		Reservation uint64 `json:"reservation"`
		Passed      uint32 `json:"passed"`
		Why
	}
	// An Override lets people in without a card and without a ticket.
	Override struct {
		People uint32 `json:"people"`
		Where
		Why
	}
	// An Admission lets somebody in by the number of their order.
	Admission struct {
		Order  string `json:"order"`
		Looked bool   `json:"looked"` // at what the ticket wants staff to look at
		Where
		Why
	}
	// A Mode takes a lane out of order, or back into it.
	Mode struct {
		OutOfOrder bool `json:"out_of_order"`
		Where
		Why
	}
	// A Clock says that the terminal's clock is right as it is.
	Clock struct{ Why }
	// A ShiftChange begins or ends the shift of who asks.
	ShiftChange struct {
		Begin bool `json:"begin"`
		Who
	}
)

// A request is one of them.
type request interface {
	who() Who
	check() error
}

func (w Who) who() Who     { return w }
func (w Who) check() error { return nil }

func (w Why) check() error {
	switch {
	case strings.TrimSpace(w.Reason) == "":
		return &Problem{kind: noReason, Detail: "say why, in a few words"}
	case len(w.Reason) > MaxReason:
		return malformed("reason has %d bytes, at most %d", len(w.Reason), MaxReason)
	case strings.ContainsFunc(w.Reason, func(r rune) bool { return !unicode.IsPrint(r) }):
		return malformed("reason has a character that cannot be printed")
	}
	return nil
}

func (o Override) check() error {
	if o.People < 1 || o.People > terminal.MaxAdmitted {
		return malformed("people is %d, want 1 to %d", o.People, terminal.MaxAdmitted)
	}
	return o.Why.check()
}

func (a Admission) check() error {
	if _, err := whitelist.OrderHead(a.Order); err != nil {
		return malformed("order: %v", err)
	}
	return a.Why.check()
}

// What is answered.
type (
	// Annulled names the reservation, and how many people it counts now.
	Annulled struct {
		Reservation uint64 `json:"reservation"`
		Passed      uint32 `json:"passed"`
	}
	// InMode says how the gate is now.
	InMode struct {
		OutOfOrder bool `json:"out_of_order"`
	}
	// ClockAccepted says what the clock showed.
	ClockAccepted struct {
		Now time.Time `json:"now"`
	}
	// OnDuty says who is on duty, null when nobody is.
	OnDuty struct {
		OnDuty *Person `json:"on_duty"`
	}
	// A Person of the staff.
	Person struct {
		Name string        `json:"name"`
		Role terminal.Role `json:"role"`
	}
	// A Decision is what came of an override or an admission.
	Decision struct {
		Verdict     terminal.Verdict  `json:"verdict"`
		Reason      terminal.Reason   `json:"reason"`
		People      uint32            `json:"people"`      // who may pass
		Reservation uint64            `json:"reservation"` // 0 when nobody may
		Others      []Refusal         `json:"others,omitempty"`
		Warnings    []terminal.Reason `json:"warnings,omitempty"`
		Message     string            `json:"message,omitempty"` // of the ticket, for staff
		Used        *terminal.UsedAt  `json:"used,omitempty"`    // the last entry, when that is why nobody may
	}
	// A Refusal is why another ticket of the same order does not admit.
	Refusal struct {
		Entitlement string          `json:"entitlement"`
		Reason      terminal.Reason `json:"reason"`
	}
)

// decided turns a decision into an answer. A person whom the list does not have
// was decided about; any other error is a fault.
func decided(d terminal.Decision, err error) (any, error) {
	if err != nil && !errors.Is(err, whitelist.ErrNotListed) {
		return nil, err
	}
	a := Decision{Verdict: d.Verdict, Reason: d.Reason, People: d.People, Reservation: uint64(d.Reservation), Warnings: d.Warnings, Message: d.Message, Used: d.Event().Used}
	for _, o := range d.Others {
		a.Others = append(a.Others, Refusal(o))
	}
	return a, nil
}

func person(s terminal.Staff) *Person {
	if s == (terminal.Staff{}) {
		return nil
	}
	return &Person{s.Name, s.Role}
}

// Status is how the agent and its lanes are.
type Status struct {
	Terminal string        `json:"terminal"`
	Lanes    []LaneStatus  `json:"lanes"` // in the order of the configuration
	List     *ListStatus   `json:"list"`  // null: none in force
	Clock    ClockStatus   `json:"clock"`
	Staff    bool          `json:"staff"`   // a roster is configured
	OnDuty   *Person       `json:"on_duty"` // null: nobody
	Journal  JournalStatus `json:"journal"`
	Operator *Operator     `json:"operator,omitempty"`
	Hub      *HubStatus    `json:"hub,omitempty"` // where the terminal is connected live
	Version  string        `json:"version"`
	UptimeS  int64         `json:"uptime_s"`
}

// ClaimsStatus is how the terminal stands to the log of its venue.
type ClaimsStatus struct {
	Apart  bool   `json:"apart"`            // nobody can be asked now: the zone's policy decides
	Untold uint64 `json:"untold"`           // events that the log has not been told of
	Loose  int    `json:"loose"`            // claims that came to nothing and are not given back yet
	Unread int    `json:"unread"`           // keys that cannot be read, or were written twice
	Detail string `json:"detail,omitempty"` // why that is not known
}

// HubStatus is the live connection to the hub.
type HubStatus struct {
	Connected bool          `json:"connected"`
	Server    string        `json:"server"`            // the last one; "" before the first connection
	Since     *time.Time    `json:"since"`             // it is so; null before the first connection
	Problem   string        `json:"problem,omitempty"` // why it is not connected, or what the hub refused
	Unsent    uint64        `json:"unsent"`            // events that the hub has not acknowledged
	Upload    string        `json:"upload,omitempty"`  // why they are not taken
	Claims    *ClaimsStatus `json:"claims,omitempty"`  // left out of a terminal that claims nothing
}

// LaneStatus is how one lane is.
type LaneStatus struct {
	Lane      string            `json:"lane"` // its label
	Gate      string            `json:"gate"`
	Direction string            `json:"direction"` // entry or exit
	Mode      terminal.Mode     `json:"mode"`
	Signal    string            `json:"signal"` // what the lamps show while nobody is served
	Why       []terminal.Reason `json:"why"`    // it is not ready
	Halts     []string          `json:"halts"`  // alarm, staff, sensor
	Reader    ReaderStatus      `json:"reader"`
}

// ListStatus is the list in force. Ages are whole seconds.
type ListStatus struct {
	Epoch          uint64     `json:"epoch"`
	Seq            uint64     `json:"seq"`
	IssuedAt       time.Time  `json:"issued_at"`
	AgeS           int64      `json:"age_s"`
	NotAfter       time.Time  `json:"not_after"`
	LeftS          int64      `json:"left_s"`           // negative: it has expired
	RevocationAsOf *time.Time `json:"revocation_as_of"` // null: it has no revocation data
	RevocationAgeS *int64     `json:"revocation_age_s"`
}

// ClockStatus is how the terminal's clock stands to what has surely passed.
type ClockStatus struct {
	Now     time.Time  `json:"now"`
	Trusted bool       `json:"trusted"`
	Latest  *time.Time `json:"latest"` // greatest instant in the journal, null when there is none
}

// ReaderStatus is whether cards can be read.
type ReaderStatus struct {
	Up     bool   `json:"up"`
	Detail string `json:"detail"` // names of the readers, or why there are none
}

// JournalStatus counts the reservations that are not settled.
type JournalStatus struct {
	Open    uint64 `json:"open"`
	InDoubt uint64 `json:"in_doubt"`         // for staff to settle
	Detail  string `json:"detail,omitempty"` // why they cannot be counted
}

// Operator is what the operator has ordered from afar.
type Operator struct {
	Scope      string       `json:"scope"`
	Command    uint64       `json:"command"`                // number of the last one in this scope, 0 when there was none
	OutOfOrder *Ordered     `json:"out_of_order,omitempty"` // by a command
	Lease      *LeaseStatus `json:"lease,omitempty"`        // where the scope key is leased
}

// Ordered is why the terminal is out of order.
type Ordered struct {
	Command uint64    `json:"command"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// LeaseStatus is the lease of the scope key.
type LeaseStatus struct {
	IssuedAt *time.Time `json:"issued_at"` // null: there is none
	NotAfter *time.Time `json:"not_after"`
	LeftS    int64      `json:"left_s"`
	EndsSoon bool       `json:"ends_soon"`        // less than a third is left
	Detail   string     `json:"detail,omitempty"` // why there is none
}
