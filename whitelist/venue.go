package whitelist

import (
	"time"
)

// A Venue is what a list says of the place and the event that it is for. The
// zero Venue has one zone without a name, names no gate, and lives in UTC: it is
// that of a list of format 1.
type Venue struct {
	// TimeZone is an IANA name; "" is UTC. Days are those of this zone.
	TimeZone string
	// DayStarts is when a day begins, after local midnight: whole minutes below 24
	// hours. An event that goes on past midnight has one day.
	DayStarts time.Duration
	// Tolerance widens the window of every entitlement on both sides: whole
	// seconds, at most a day.
	Tolerance time.Duration

	// From, To and Admission are when the event begins and ends and when doors
	// open, in whole seconds; zero is unknown. From is before To, and Admission
	// not after To.
	From, To, Admission time.Time
	// Postponed says that the event is: nobody enters until a list says otherwise.
	Postponed bool

	// Zones, Gates and Products are the places and tickets there are; names and
	// IDs are different from each other. Entitlements, rules and gates name no
	// other. Where Gates is empty any gate may be named.
	Zones    []Zone
	Gates    []Gate
	Products []Product

	// Rules is pretix's check-in logic in JsonLogic (docs/rules.md), at most
	// MaxRules bytes; "" lets everybody pass.
	Rules string
}

// A Zone is an area that gates lead into.
type Zone struct {
	Name         string
	AntiPassback AntiPassback
	// Forgets is how long after an entry somebody counts as inside, in whole
	// minutes, at most 31 days; 0 is until the exit.
	Forgets time.Duration
}

// A Gate leads into a zone, and its exit out of it.
type Gate struct {
	ID   uint32 // as rules name it, not 0
	Name string // as configurations and entitlements name it
	Zone string // "" is the venue itself
}

// A Product is a kind of ticket.
type Product struct {
	ID        uint32 // not 0
	Name      string
	Postponed bool // its event is postponed
}

// AntiPassback says what happens to somebody who is inside and comes in again:
// with a card that was handed back over the fence.
type AntiPassback uint8

// The zero AntiPassback leaves it to the ticket.
const (
	AntiPassbackOff  AntiPassback = iota
	AntiPassbackSoft              // staff looks
	AntiPassbackHard              // denied
)

var antiPassbacks = [...]string{AntiPassbackOff: "off", AntiPassbackSoft: "soft", AntiPassbackHard: "hard"}

// String returns "off", "soft" or "hard".
func (a AntiPassback) String() string {
	if int(a) < len(antiPassbacks) {
		return antiPassbacks[a]
	}
	return "unknown"
}

// Limits of a venue.
const (
	MaxRules    = 16 << 10 // bytes
	MaxZones    = 64
	MaxVenue    = 256 // gates of a venue
	MaxProducts = 256
)
