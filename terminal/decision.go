package terminal

import (
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
)

// A Decision is the outcome of one tap. The zero value denies.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	Method  jpki.Method // "" when none was reached

	Gate string // name of the gate

	// CardID is the pseudonym of the certificate under the scope key, in
	// hexadecimal; "" when no certificate head was read.
	CardID string

	// Entitlement is the one that was used or refused. It is set only after
	// the card proved to be genuine.
	Entitlement string
	Until       time.Time // when it ends; the zero time: never

	Direction Direction
	Zone      string // that people enter, or leave

	// People is how many may pass, Reentry how many of them use nothing up; 0
	// when nobody may.
	People, Reentry uint32

	// Reservation is that of an admission. Once it is settled, at a gate that
	// counts, Passed is how many went through.
	Reservation Reservation
	Settled     bool
	Passed      uint32

	// Others are the row's other entitlements, when none fits.
	Others []Refusal

	// Used is where and when the last who came in by the entitlement did, when that
	// is why nobody else does, or what staff is to look at.
	Used Use

	// Claim says whether the venue's log had the entry, under ClaimID, before the
	// gate opened.
	Claim   ClaimState
	ClaimID string

	// Message is the entitlement's, for staff.
	Message string

	// Staff is who confirmed the holder, or let people in without a card, and
	// Note why, in their words.
	Staff Staff
	Note  string

	// HolderCheck says what came of comparing the person with the card, ""
	// when nobody was asked.
	HolderCheck CheckOutcome

	Instant   time.Time // the one instant that every check of the tap used
	ListEpoch uint64    // which list decided; zero when there was none
	ListSeq   uint64

	Elapsed  time.Duration // card detection to relay command, or to the answer
	Stages   Stages
	Commands int // command APDUs
	Bytes    int // bytes of command and response APDUs

	// TerminalSignatures counts what the external-authentication key signed
	// in this tap: 0 or 1.
	TerminalSignatures int

	// BirthDateRefused says that the card refused the birth date of its row
	// at first use. It is never presented to this card again.
	BirthDateRefused bool

	// Warnings name conditions that the list's policy lets pass (data_stale,
	// clock_untrusted), and what staff is to look at (already_inside,
	// already_used, exit_required); hub_away.
	Warnings []Reason

	// Cause is what went wrong, for the log. It never names a person or card.
	Cause error
}

// A CheckOutcome is what came of a holder check.
type CheckOutcome string

// Outcomes of a holder check.
const (
	Confirmed   CheckOutcome = "confirmed"
	Refused     CheckOutcome = "refused"
	TimedOut    CheckOutcome = "timeout" // nobody answered
	CheckFailed CheckOutcome = "failed"  // whoever was to answer could not
)

// Admitted reports whether the gate may open.
func (d Decision) Admitted() bool { return d.Verdict == Admit }

// Stages says where the time of a tap went.
type Stages struct {
	Detect  time.Duration // report of the card to the first command
	Select  time.Duration // SELECT of the applications
	Read    time.Duration // certificate head, and the rest when needed
	Resolve time.Duration // CardID, list look-up, opening the row
	Auth    time.Duration // external authentication: certificates, challenge, the terminal's answer
	Key     time.Duration // the terminal's key: its medium signs, possibly beside Auth
	Sign    time.Duration // the card's own private key operation
	Verify  time.Duration // our check of what the card said
	Decide  time.Duration
	Claim   time.Duration // asking the venue
	Journal time.Duration // making the record durable
}
