// Package registration is the record of what a terminal read when somebody
// registered a card, and its verification by a hub that trusts no terminal's
// judgement.
//
// It promises that a [Registration] exists only after every check that the
// terminal made was made again: that the record is this terminal's, that a
// pinned authority certified the authentication key, that this key answered the
// terminal's challenge, and, where the card has a key of its own, that a
// card-surface authority stands behind it and that it answered afterwards. What
// rests on the terminal's word alone is said in docs/registration.md: that both
// keys answered in one session with one chip, that the PIN was typed by the
// holder, and when it was.
//
// A record holds the certificate and the birth date: it is personal data.
package registration

import (
	"bytes"
	"errors"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// A Record is what a terminal read of a card. Nothing in it is verified: Sign
// makes a message of it, and only Trust.Verify makes a Registration.
type Record struct {
	Scope     string    // as in the terminal's configuration
	Hierarchy string    // Production or Test
	Terminal  string    // who read the card
	Ticket    string    // what it was read for, "" for nothing
	At        time.Time // when, in whole seconds
	Nonce     [32]byte  // of both challenges

	Token  string // label of the token information, "" when the card has none
	Marked []byte // EF 0008, 3 bytes, or nil

	Certificate    []byte // user-authentication certificate, DER
	Authentication Signed // over Challenge

	Surface *Surface // nil: the card has no key of its own
}

// Signed is a signature of the card.
type Signed struct {
	Scheme    cardkey.Scheme
	Signature []byte
}

// A Surface is what the card-surface application told of the card's own key.
type Surface struct {
	SignerCertificate []byte // EF 0004
	AgeRecord         []byte // EF 0001
	Card              Signed // over Challenge.ForCardKey of the authentication signature
}

// Hierarchies of a record.
const (
	Production = "production"
	Test       = "test"
)

// Challenge is what the authentication key was asked to sign.
func (r Record) Challenge() cardauth.Challenge {
	return cardauth.Challenge{Scope: r.Scope, Terminal: r.Terminal, Purpose: cardauth.PurposeRegistration, Ticket: r.Ticket, Nonce: r.Nonce}
}

// Errors of Verify, beside those of packages sign1 and cardauth.
var (
	// ErrMalformed: not a record of this version, or not encoded in the one way.
	ErrMalformed = errors.New("malformed registration record")
	// ErrScope: of another scope than the terminal may sign for.
	ErrScope = errors.New("registration record of another scope")
	// ErrTerminal: signed by another terminal than it names.
	ErrTerminal = errors.New("registration record of another terminal")
	// ErrHierarchy: of test cards where production counts, or the reverse.
	ErrHierarchy = errors.New("registration record of another hierarchy")
	// ErrAge: too old, or from the future.
	ErrAge = errors.New("registration record of another time")
)

// A Registration is a verified record: it ties a credential to the keys that
// answered. Only Trust.Verify makes one; the zero Registration is nobody's.
type Registration struct {
	record   Record
	head     cardauth.Head
	authKey  cardkey.Key
	cardKey  cardkey.Key
	born     cardauth.BirthDate
	verified bool
}

// IsZero reports whether r is nobody's.
func (r Registration) IsZero() bool { return !r.verified }

// Scope is the scope that it was made in.
func (r Registration) Scope() string { return r.record.Scope }

// Terminal is who read the card.
func (r Registration) Terminal() string { return r.record.Terminal }

// Ticket is what it was read for, "" for nothing.
func (r Registration) Ticket() string { return r.record.Ticket }

// At is when the terminal says that it was, in whole seconds.
func (r Registration) At() time.Time { return r.record.At }

// Nonce is that of both challenges: no two registrations have one.
func (r Registration) Nonce() [32]byte { return r.record.Nonce }

// Token is the label that the card gives itself, which nobody certifies.
func (r Registration) Token() string { return r.record.Token }

// Head names the credential; a list finds its row by it.
func (r Registration) Head() cardauth.Head { return r.head }

// Certificate is the user-authentication certificate in DER.
func (r Registration) Certificate() []byte { return bytes.Clone(r.record.Certificate) }

// AuthKey is the certified authentication key, for method A.
func (r Registration) AuthKey() cardkey.Key { return r.authKey }

// CardKey is the card's own key, for method B; none when the card has none.
func (r Registration) CardKey() cardkey.Key { return r.cardKey }

// BirthDate is what the age record says, zero where there is none.
func (r Registration) BirthDate() cardauth.BirthDate { return r.born }
