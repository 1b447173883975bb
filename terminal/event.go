package terminal

import (
	"time"
)

// An Event is a decision as the outside sees it, one JSON object on a line.
// docs/events.md describes it; its names are a promise. It names no person:
// the card is a pseudonym under the scope key.
type Event struct {
	Verdict            Verdict      `json:"verdict"`
	Reason             Reason       `json:"reason"`
	Method             string       `json:"method"`
	Gate               string       `json:"gate"`
	CardID             string       `json:"card_id"`
	ListEpoch          uint64       `json:"list_epoch"`
	ListSeq            uint64       `json:"list_seq"`
	At                 time.Time    `json:"at"`
	ElapsedMS          float64      `json:"elapsed_ms"`
	Stages             StagesMS     `json:"stages"`
	Commands           int          `json:"commands"`
	Bytes              int          `json:"bytes"`
	TerminalSignatures int          `json:"terminal_signatures"`
	HolderCheck        CheckOutcome `json:"holder_check,omitempty"`
	Warnings           []Reason     `json:"warnings,omitempty"`

	Direction   string     `json:"direction"`
	Zone        string     `json:"zone,omitempty"`
	People      uint32     `json:"people,omitempty"`
	Reservation uint64     `json:"reservation,omitempty"`
	Passed      *uint32    `json:"passed,omitempty"`
	Others      []Reason   `json:"others,omitempty"`
	Used        *UsedAt    `json:"used,omitempty"`
	Claim       ClaimState `json:"claim,omitempty"`
	Message     string     `json:"message,omitempty"`
}

// UsedAt is a Use.
type UsedAt struct {
	Gate     string    `json:"gate,omitempty"`
	Terminal string    `json:"terminal,omitempty"`
	At       time.Time `json:"at"`
}

// StagesMS is Stages in milliseconds.
type StagesMS struct {
	Detect  float64 `json:"detect"`
	Select  float64 `json:"select"`
	Read    float64 `json:"read"`
	Resolve float64 `json:"resolve"`
	Auth    float64 `json:"auth"`
	Key     float64 `json:"key"`
	Sign    float64 `json:"sign"`
	Verify  float64 `json:"verify"`
	Decide  float64 `json:"decide"`
	Claim   float64 `json:"claim"`
	Journal float64 `json:"journal"`
}

// Event gives the decision as the outside sees it.
func (d Decision) Event() Event {
	s := d.Stages
	e := Event{
		Verdict: d.Verdict, Reason: d.Reason, Method: string(d.Method), Gate: d.Gate, CardID: d.CardID,
		ListEpoch: d.ListEpoch, ListSeq: d.ListSeq,
		At: d.Instant.UTC().Truncate(time.Millisecond), ElapsedMS: ms(d.Elapsed),
		Stages: StagesMS{
			Detect: ms(s.Detect), Select: ms(s.Select), Read: ms(s.Read), Resolve: ms(s.Resolve),
			Auth: ms(s.Auth), Key: ms(s.Key), Sign: ms(s.Sign), Verify: ms(s.Verify), Decide: ms(s.Decide), Claim: ms(s.Claim), Journal: ms(s.Journal),
		},
		Commands: d.Commands, Bytes: d.Bytes, TerminalSignatures: d.TerminalSignatures,
		HolderCheck: d.HolderCheck, Warnings: d.Warnings,
		Direction: d.Direction.String(), Zone: d.Zone, People: d.People, Reservation: uint64(d.Reservation), Message: d.Message,
		Used: d.Used.told(), Claim: d.Claim,
	}
	if d.Settled {
		e.Passed = &d.Passed
	}
	for _, o := range d.Others {
		e.Others = append(e.Others, o.Reason)
	}
	return e
}

func (u Use) told() *UsedAt {
	if u == (Use{}) {
		return nil
	}
	return &UsedAt{u.Gate, u.Terminal, u.At.UTC().Truncate(time.Millisecond)}
}

// ms is d in milliseconds, to the microsecond.
func ms(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }
