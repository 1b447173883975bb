// Package whitelist is the signed list of holders: its types, its file format
// and the rules every list must keep.
//
// A list file is a CBOR sequence (RFC 8742): a COSE_Sign1 message over the
// manifest, then one sealed row for each certificate or order, in ascending
// order of CardID. The manifest holds the number of rows and the digest of all bytes
// behind it, so one signature covers the file and a million rows stream through
// bounded memory. docs/list-format.md has the CDDL (RFC 8610).
//
// It promises:
//
//   - A [Manifest] comes from a [sign1.Payload] and from nothing else: a list
//     that was not verified does not compile.
//   - What is parsed keeps every rule written at its type; there is one
//     encoding of each value, and any other is refused.
//   - A reader returns io.EOF only after count and digest were right.
//
// The package opens no file and knows no database: package listdb keeps lists
// on disk. So a terminal's core can use these types without SQLite behind them.
package whitelist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// Errors of lists, beside those of package sign1. Each comes wrapped with the
// place where it was found.
var (
	// ErrNotListed: the list has no row for this certificate or order head.
	ErrNotListed = errors.New("not listed")
	// ErrMalformed: not the format of docs/list-format.md, or a rule of a type broken.
	ErrMalformed = errors.New("malformed list")
	// ErrScope: the key that signed the list may not sign for the list's scope,
	// or the list is for another scope than the terminal.
	ErrScope = errors.New("list of another scope")
	// ErrTruncated: the file ends before its last row.
	ErrTruncated = errors.New("truncated list")
	// ErrTrailing: the file goes on after its last row.
	ErrTrailing = errors.New("bytes behind the last row")
	// ErrTampered: the rows are not those that were signed.
	ErrTampered = errors.New("rows differ from the signed digest")
	// ErrSet: deltas lead to other rows than the manifest's set.
	ErrSet = errors.New("rows differ from the signed set")
	// ErrScopeKey: the rows are sealed with another scope key than the terminal's.
	ErrScopeKey = errors.New("rows sealed with another scope key")
	// ErrOrder: rows are not strictly ascending by CardID, or one comes twice.
	ErrOrder = errors.New("rows out of order")
	// ErrTooLarge: a limit of the format is exceeded.
	ErrTooLarge = errors.New("list too large")
)

// A RefusedError says that a list was refused for what it is. Trying it again
// does not help; any other error of an import, such as a full disk or a medium
// that was pulled out, says nothing of the list.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the rule that the list breaks.
func (e *RefusedError) Unwrap() error { return e.Err }

// Hierarchies of trust, never mixed.
const (
	Production = "production"
	Test       = "test"
)

// A Manifest is the signed head of a list. Times are whole seconds, in UTC.
type Manifest struct {
	Scope     string // whom the list is for: one venue or operator
	Hierarchy string // [Production] or [Test]

	// Epoch and Seq, in this order, only ever grow. A new epoch says that the
	// numbering of a hub began again; rows are sealed anew for it.
	Epoch, Seq uint64

	IssuedAt time.Time // by the hub's clock; before NotAfter
	NotAfter time.Time // last second in which the list is fresh
	// RevocationAsOf is the instant up to which the hub knew revocations; not
	// after IssuedAt. Zero: it knew none.
	RevocationAsOf time.Time

	Policy Policy
	Venue  Venue

	// ScopeKeyCheck is cardid.ScopeKey.Check of the key the rows are sealed
	// with; Write fills it in, as it does the next two.
	ScopeKeyCheck [16]byte
	Rows          uint64   // number of rows
	RowsSHA256    [32]byte // SHA-256 of all bytes behind the manifest; none in a list that has a Set

	// Set, Snapshot and Deltas are of lists that are published as files of their
	// own (version 3): what the rows are, and how to come by them. A terminal that has
	// no set of this epoch begins with the snapshot.
	Set      SetID
	Snapshot Snapshot
	Deltas   []Delta // at most MaxDeltas, ascending by To, then From
}

// Digest is what the signature says of the rows: RowsSHA256 or Set.Digest.
func (m Manifest) Digest() [32]byte {
	if m.Published() {
		return m.Set.Digest
	}
	return m.RowsSHA256
}

// Compare orders manifests by (Epoch, Seq): -1 when m is older than other.
func (m Manifest) Compare(other Manifest) int {
	return cmp.Or(cmp.Compare(m.Epoch, other.Epoch), cmp.Compare(m.Seq, other.Seq))
}

// Policy says what a gate does when the list cannot be fully relied on.
// The zero Policy denies in every case.
type Policy struct {
	Expired         Action // NotAfter has passed
	StaleRevocation Action // RevocationAsOf is older than RevocationMaxAge
	UntrustedClock  Action // the terminal does not know the time
	// RevocationMaxAge is in whole seconds, at most ten years. Zero: any age is stale.
	RevocationMaxAge time.Duration
}

// An Action is what to do with an otherwise admissible holder.
type Action uint8

// Deny is the zero value.
const (
	Deny   Action = iota
	Attend        // staff decides
	Warn          // admit, and say so
)

var actions = [...]string{Deny: "deny", Attend: "attend", Warn: "warn"}

// String returns "deny", "attend" or "warn".
func (a Action) String() string {
	if int(a) < len(actions) {
		return actions[a]
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// A Row is what a list says about the holder of one certificate.
type Row struct {
	Status Status
	// Entitlements holds at least one, at most MaxEntitlements, with different IDs.
	Entitlements []Entitlement
	// AuthKey is the registered key of the user-authentication certificate,
	// CardKey that of the card itself (card surface application, internal
	// authentication). Each may be none.
	AuthKey, CardKey cardkey.Key
	// BirthDate is YYYYMMDD, or empty. Only first use needs it.
	BirthDate string
}

// Status of a row. What is revoked stays on the list as revoked: unknown is
// not good, and revoked is not unknown.
type Status uint8

// The zero Status is none of these.
const (
	Active  Status = iota + 1
	Blocked        // by the operator
	Revoked        // registration withdrawn by the operator, for good

	CertificateRevoked // by the certificate's issuer
)

var statuses = [...]string{Active: "active", Blocked: "blocked", Revoked: "revoked", CertificateRevoked: "certificate revoked"}

// String returns "active", "blocked", "revoked" or "certificate revoked".
func (s Status) String() string {
	if s >= Active && int(s) < len(statuses) {
		return statuses[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// An Entitlement is a right of entry. What was used of it is counted by ID,
// across cards, and for each zone apart.
type Entitlement struct {
	// ID is 1 to MaxName bytes of printable UTF-8.
	ID string
	// Status is Active (or zero), Blocked or Revoked: of this ticket alone.
	Status Status
	// Valid from NotBefore through NotAfter, both included, in whole seconds.
	// Zero is open; when both are set NotBefore is before NotAfter.
	NotBefore, NotAfter time.Time
	// Gates and Zones name what it opens, at most MaxGates of each, in no order,
	// each once; both empty is every gate.
	Gates, Zones []string

	// Uses is the number of uses in all, UsesPerDay on one day of the venue; 0 is
	// unlimited. A use is one entry of Party people, together or one by one.
	Uses, UsesPerDay uint32
	// ReEntry says which further entries use nothing up.
	ReEntry ReEntry
	// Party is how many people it admits; 0 and 1 are one person.
	Party uint32
	// Alone says that this card lets only its holder in: a companion's card of a
	// party, whose other cards have an entitlement of the same ID.
	Alone bool

	// Product and Variation are what was bought, as rules name it; 0 is none.
	Product, Variation uint32

	// Attention has staff look before the gate opens. Message, at most MaxMessage
	// bytes of printable UTF-8, tells them why.
	Attention bool
	Message   string
}

// Size is how many people one use is for, at least 1.
func (e Entitlement) Size() uint32 { return max(1, e.Party) }

// ReEntry says when somebody may come in again without using up another use.
type ReEntry uint8

// The zero ReEntry is the strictest.
const (
	ReEntryNone      ReEntry = iota // every entry is a use
	ReEntryAfterExit                // on the same day, whoever went out may come back
	ReEntryAlways                   // on the same day, after the first entry
)

var reEntries = [...]string{ReEntryNone: "none", ReEntryAfterExit: "after_exit", ReEntryAlways: "always"}

// String returns "none", "after_exit" or "always".
func (r ReEntry) String() string {
	if int(r) < len(reEntries) {
		return reEntries[r]
	}
	return fmt.Sprintf("ReEntry(%d)", uint8(r))
}

// Prefixes of what terminals count people by who have no entitlement; no ID of a
// list begins with one.
const (
	PersonPrefix = "person/" // and the pseudonym of a card that is on no list
	TokenPrefix  = "token/"  // and the number of somebody without a card
)

// Limits of a row.
const (
	MaxName         = 64 // bytes of a scope, an entitlement ID, a gate, a zone or a product
	MaxEntitlements = 16
	MaxGates        = 64
	MaxMessage      = 200   // bytes of a message to staff
	MaxParty        = 10000 // people of one entitlement
)

// A View is a list as one tap sees it: never mixed with its successor.
// Methods may be called from several goroutines.
type View interface {
	Manifest() Manifest
	// CardID is the pseudonym of a certificate head, listed or not.
	CardID(head []byte) cardid.CardID
	// Lookup returns the row of a certificate or order head, or ErrNotListed. A row that
	// is there but does not open or parse is any other error.
	Lookup(ctx context.Context, head []byte) (Row, error)
	// Release ends the use of the view; after it Lookup fails.
	Release()
}

func checkName(what, s string) error { return checkText(what, s, MaxName) }

func checkText(what, s string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("%w: %s has %d bytes, allowed are 1 to %d", ErrMalformed, what, len(s), most)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrMalformed, what)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: %s has a character that cannot be printed", ErrMalformed, what)
		}
	}
	return nil
}

// checkNames checks names of one kind that are different from each other.
func checkNames(what string, names []string, most int) error {
	if len(names) > most {
		return fmt.Errorf("%w: %d %ss, at most %d are allowed", ErrMalformed, len(names), what, most)
	}
	for i, n := range names {
		if err := checkName("a "+what, n); err != nil {
			return err
		}
		if slices.Contains(names[:i], n) {
			return fmt.Errorf("%w: %s %q comes twice", ErrMalformed, what, n)
		}
	}
	return nil
}

// each returns f of each element, and nil of none.
func each[T, U any](s []T, f func(T) U) (out []U) {
	for _, v := range s {
		out = append(out, f(v))
	}
	return out
}
