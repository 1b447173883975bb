package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Kind says what an event records.
type Kind string

// Kinds. A reader passes over kinds that it does not know.
const (
	KindDecision Kind = "decision" // a tap that did not open the gate
	KindReserve  Kind = "reserve"  // an admission, before the relay moves
	KindPassed   Kind = "passed"   // some of the people of a reservation went through
	KindCommit   Kind = "commit"   // as many as ever will have
	KindAnnul    Kind = "annul"    // nobody did; the entry does not count
	KindDoubt    Kind = "doubt"    // nobody can tell; the entry counts until staff settles it
	KindIncident Kind = "incident" // what happened at the gate without a card
	KindStart    Kind = "start"    // the agent started
	KindList     Kind = "list"     // which list is in force
	KindCommand  Kind = "command"  // a command of the operator, before it is carried out
	KindTrace    Kind = "trace"    // a session with a card that was no tap, and used something up

	KindCheckpoint Kind = "checkpoint" // the head of the chain, signed by the terminal
	KindPrune      Kind = "prune"      // the oldest events were deleted
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{
		KindDecision, KindReserve, KindPassed, KindCommit, KindAnnul, KindDoubt, KindIncident, KindShift,
		KindStart, KindList, KindCommand, KindTrace, KindClock, KindCheckpoint, KindPrune,
	}
}

// An Event is one line of the journal. docs/journal.md says which fields each
// kind has; a field that is zero is left out.
type Event struct {
	Seq  uint64  `json:"seq"` // from 1, without gaps
	Kind Kind    `json:"kind"`
	At   Instant `json:"at"`

	// Reservation is the Seq of the reserve event that is settled.
	Reservation uint64 `json:"reservation,omitempty"`

	Terminal           string                `json:"terminal,omitempty"`
	Gate               string                `json:"gate,omitempty"`
	Verdict            string                `json:"verdict,omitempty"`
	Reason             terminal.Reason       `json:"reason,omitempty"`
	Method             string                `json:"method,omitempty"`
	CardID             string                `json:"card_id,omitempty"` // pseudonym, hexadecimal
	Entitlement        string                `json:"entitlement,omitempty"`
	HolderCheck        terminal.CheckOutcome `json:"holder_check,omitempty"`
	Scope              string                `json:"scope,omitempty"`
	ListEpoch          uint64                `json:"list_epoch,omitempty"`
	ListSeq            uint64                `json:"list_seq,omitempty"`
	RowsSHA256         string                `json:"rows_sha256,omitempty"` // of the list, hexadecimal
	ElapsedMS          int64                 `json:"elapsed_ms,omitempty"`
	TerminalSignatures int                   `json:"terminal_signatures,omitempty"`
	BirthDateRefused   bool                  `json:"birth_date_refused,omitempty"`
	Warnings           []terminal.Reason     `json:"warnings,omitempty"`
	Version            string                `json:"version,omitempty"` // of the agent

	Direction string         `json:"direction,omitempty"` // "exit"; left out of an entry
	Zone      string         `json:"zone,omitempty"`
	People    uint32         `json:"people,omitempty"`
	Reentry   uint32         `json:"reentry,omitempty"` // of them, who used nothing up
	State     terminal.State `json:"state,omitempty"`
	Staff     string         `json:"staff,omitempty"` // name of the member of staff
	Role      terminal.Role  `json:"role,omitempty"`
	Note      string         `json:"note,omitempty"` // why, in the words of staff
	Until     Instant        `json:"until,omitzero"` // end of the entitlement

	Claim   terminal.ClaimState `json:"claim,omitempty"`
	ClaimID string              `json:"claim_id,omitempty"` // what it is called in the venue's log

	Command uint64 `json:"command,omitempty"` // its number
	Action  string `json:"action,omitempty"`  // what it says

	Checkpoint    []byte  `json:"checkpoint,omitempty"`     // as it was signed, base64
	Through       uint64  `json:"through,omitempty"`        // the last event that was deleted
	ThroughHash   string  `json:"through_hash,omitempty"`   // its hash, hexadecimal
	Deleted       uint64  `json:"deleted,omitempty"`        // how many, this time
	Cutoff        Instant `json:"cutoff,omitzero"`          // they are all older
	Carried       uint64  `json:"carried,omitempty"`        // passages that outlive their events
	CarriedSHA256 string  `json:"carried_sha256,omitempty"` // of all that outlives its events, hexadecimal
}

const instantFormat = "2006-01-02T15:04:05.000Z"

// An Instant is a time in an event: UTC, whole milliseconds, and a year of
// four digits, so that instants in text sort like instants in time.
type Instant struct{ time.Time }

// instant rounds down, so that the clock that gave t never stands behind it.
func instant(t time.Time) Instant {
	return Instant{time.UnixMilli(t.UnixMilli()).UTC()}
}

// MarshalJSON writes RFC 3339 with three decimals and Z.
func (i Instant) MarshalJSON() ([]byte, error) {
	if y := i.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("instant has year %d", y)
	}
	return []byte(i.Format(`"` + instantFormat + `"`)), nil
}

// UnmarshalJSON accepts what MarshalJSON writes.
func (i *Instant) UnmarshalJSON(b []byte) (err error) {
	if i.Time, err = time.Parse(`"`+instantFormat+`"`, string(b)); err != nil {
		return err
	}
	if again, err := i.MarshalJSON(); err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("instant %s: want the form %s", b, instantFormat)
	}
	return nil
}

// direction is that of the people of the event.
func (e *Event) direction() terminal.Direction {
	if e.Direction == terminal.Exit.String() {
		return terminal.Exit
	}
	return terminal.Entry
}

// decisionEvent turns a decision into an event of a kind. The cause stays
// behind: it is for the log.
func decisionEvent(kind Kind, d terminal.Decision) *Event {
	e := &Event{
		Kind: kind, At: instant(d.Instant),
		Gate: d.Gate, Verdict: d.Verdict.String(), Reason: d.Reason, Method: string(d.Method),
		CardID: d.CardID, Entitlement: d.Entitlement, HolderCheck: d.HolderCheck,
		ListEpoch: d.ListEpoch, ListSeq: d.ListSeq,
		ElapsedMS: d.Elapsed.Milliseconds(), TerminalSignatures: d.TerminalSignatures,
		BirthDateRefused: d.BirthDateRefused, Warnings: d.Warnings,
		Zone: d.Zone, People: d.People, Reentry: d.Reentry, Staff: d.Staff.Name, Role: d.Staff.Role, Note: d.Note,
	}
	if d.Direction == terminal.Exit {
		e.Direction = terminal.Exit.String()
	}
	return e
}

// encode gives the bytes that are stored and chained: one JSON object (RFC
// 8259) without white space, members in the order of Event, without a newline.
func (e *Event) encode() ([]byte, error) {
	if e.At.IsZero() {
		return nil, errors.New("event has no instant")
	}
	for _, s := range []string{e.Method, e.CardID, e.Entitlement, string(e.HolderCheck), e.Scope, e.RowsSHA256, e.Version, e.Terminal, e.Gate, string(e.Reason), e.Zone, e.Staff, string(e.State), string(e.Role), e.Note, e.Action, e.ClaimID} {
		if !utf8.ValidString(s) { // it would be stored as another string
			return nil, errors.New("event holds text that is not UTF-8")
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseEvent reads the bytes of an event. Members that it does not know are
// passed over: a later program of the same schema version may add some.
func parseEvent(b []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("event is not what this program writes: %w", err)
	}
	if e.Seq == 0 || e.Kind == "" || e.At.IsZero() {
		return Event{}, errors.New("event lacks seq, kind or at")
	}
	return e, nil
}
