package terminal

import "fmt"

// A Verdict is what the gate does. The zero value denies.
type Verdict uint8

const (
	Deny   Verdict = iota
	Attend         // staff looks; the gate stays shut until they confirm
	Admit
)

var verdicts = [...]string{Deny: "deny", Attend: "attend", Admit: "admit"}

func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText gives the name that events carry.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText accepts the three names and nothing else.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, name := range verdicts {
		if name == string(b) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q: want deny, attend or admit", b)
}

// A Reason says why, in the words that the journal, the API and the metrics
// share. docs/reasons.md lists them all; the names are a promise.
type Reason string

// Reasons to admit.
const (
	OK       Reason = "ok"
	Party    Reason = "party" // further people of a ticket for several
	Leaving  Reason = "exit"
	Override Reason = "override" // staff opened the gate
)

// Reasons to let staff look.
const (
	Attention   Reason = "attention"
	ManualCheck Reason = "manual_check"
)

// Reasons to deny that concern the card.
const (
	CardRemoved     Reason = "card_removed"
	CardUnsupported Reason = "card_unsupported"
	MultipleCards   Reason = "multiple_cards"
	ReadTimeout     Reason = "read_timeout"
	AuthFailed      Reason = "auth_failed"
	CertUntrusted   Reason = "cert_untrusted"
	CertExpired     Reason = "cert_expired"
	CertRevoked     Reason = "cert_revoked"
	PINRequired     Reason = "pin_required"
)

// Reasons to deny that concern the list.
const (
	NotListed      Reason = "not_listed"
	Revoked        Reason = "revoked"
	Blocked        Reason = "blocked"
	InvalidTime    Reason = "invalid_time"
	WrongGate      Reason = "wrong_gate"
	AlreadyUsed    Reason = "already_used"
	AlreadyInside  Reason = "already_inside"
	ExitRequired   Reason = "exit_required"
	RulesDeny      Reason = "rules"
	DataStale      Reason = "data_stale"
	ClockUntrusted Reason = "clock_untrusted"
	HubAway        Reason = "hub_away" // the venue cannot be asked what its other gates let in
)

// Reasons that concern the gate itself.
const (
	GateFault     Reason = "gate_fault"
	OutOfOrder    Reason = "out_of_order"
	NoPassage     Reason = "no_passage"
	Tailgate      Reason = "tailgate"
	Annulled      Reason = "annulled"
	EmergencyOpen Reason = "emergency_open"
)
