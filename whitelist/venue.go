package whitelist

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gate-agent/gate-agent/whitelist/rules"
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
	// Away is what gates do where the claims of the venue cannot be asked.
	Away Away `json:",omitzero"` // registries that have none keep the text they had
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

// Away says what becomes of an entry while the gate cannot ask what the other gates of
// the venue let in: when the hub is away.
type Away uint8

// The zero Away lets people in; two who came by one ticket are found afterwards.
const (
	AwayAdmit  Away = iota
	AwayAttend      // staff looks
	AwayDeny
)

var aways = [...]string{AwayAdmit: "admit_and_reconcile", AwayAttend: "attend", AwayDeny: "deny"}

// String returns "admit_and_reconcile", "attend" or "deny".
func (a Away) String() string {
	if int(a) < len(aways) {
		return aways[a]
	}
	return "unknown"
}

// Limits of a venue.
const (
	MaxRules      = rules.MaxText // bytes
	MaxZones      = 64
	MaxVenueGates = 256 // gates of a venue
	MaxProducts   = 256
)

type wireVenue struct {
	TimeZone  string        `cbor:"1,keyasint,omitempty"`
	DayStarts uint16        `cbor:"2,keyasint,omitempty"` // minutes
	Tolerance uint32        `cbor:"3,keyasint,omitempty"` // seconds
	From      uint64        `cbor:"4,keyasint,omitempty"`
	To        uint64        `cbor:"5,keyasint,omitempty"`
	Admission uint64        `cbor:"6,keyasint,omitempty"`
	Postponed bool          `cbor:"7,keyasint,omitempty"`
	Zones     []wireZone    `cbor:"8,keyasint,omitempty"`
	Gates     []wireGate    `cbor:"9,keyasint,omitempty"`
	Products  []wireProduct `cbor:"10,keyasint,omitempty"`
	Rules     string        `cbor:"11,keyasint,omitempty"`
}

type wireZone struct {
	Name         string `cbor:"1,keyasint"`
	AntiPassback uint8  `cbor:"2,keyasint,omitempty"`
	Forgets      uint16 `cbor:"3,keyasint,omitempty"` // minutes
	Away         uint8  `cbor:"4,keyasint,omitempty"`
}

type wireGate struct {
	ID   uint32 `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	Zone string `cbor:"3,keyasint,omitempty"`
}

type wireProduct struct {
	ID        uint32 `cbor:"1,keyasint"`
	Name      string `cbor:"2,keyasint"`
	Postponed bool   `cbor:"3,keyasint,omitempty"`
}

func (w wireVenue) venue() Venue {
	return Venue{
		TimeZone: w.TimeZone, DayStarts: time.Duration(w.DayStarts) * time.Minute, Tolerance: time.Duration(w.Tolerance) * time.Second,
		From: fromUnix(w.From), To: fromUnix(w.To), Admission: fromUnix(w.Admission), Postponed: w.Postponed,
		Zones: each(w.Zones, func(z wireZone) Zone {
			return Zone{z.Name, AntiPassback(z.AntiPassback), time.Duration(z.Forgets) * time.Minute, Away(z.Away)}
		}),
		Gates:    each(w.Gates, func(g wireGate) Gate { return Gate(g) }),
		Products: each(w.Products, func(p wireProduct) Product { return Product(p) }),
		Rules:    w.Rules,
	}
}

// wire comes after check.
func (v Venue) wire() wireVenue {
	return wireVenue{
		TimeZone: v.TimeZone, DayStarts: uint16(v.DayStarts / time.Minute), Tolerance: uint32(v.Tolerance / time.Second),
		From: toUnix(v.From), To: toUnix(v.To), Admission: toUnix(v.Admission), Postponed: v.Postponed,
		Zones: each(v.Zones, func(z Zone) wireZone {
			return wireZone{z.Name, uint8(z.AntiPassback), uint16(z.Forgets / time.Minute), uint8(z.Away)}
		}),
		Gates:    each(v.Gates, func(g Gate) wireGate { return wireGate(g) }),
		Products: each(v.Products, func(p Product) wireProduct { return wireProduct(p) }),
		Rules:    v.Rules,
	}
}

// isZero reports whether v says nothing: an empty list is none.
func (v Venue) isZero() bool {
	return len(v.Zones)+len(v.Gates)+len(v.Products) == 0 && reflect.ValueOf(v.wire()).IsZero()
}

func (v Venue) check() error {
	if err := cmp.Or(
		checkTimeZone(v.TimeZone),
		checkDuration("day_starts", v.DayStarts, 24*time.Hour-time.Minute, time.Minute),
		checkDuration("tolerance", v.Tolerance, 24*time.Hour, time.Second),
		checkOptional("from", v.From), checkOptional("to", v.To), checkOptional("admission", v.Admission),
		checkNames("zone", each(v.Zones, Zone.name), MaxZones),
		checkNames("gate", each(v.Gates, Gate.name), MaxVenueGates),
		checkNames("product", each(v.Products, Product.name), MaxProducts),
		checkIDs("gate", each(v.Gates, Gate.id)),
		checkIDs("product", each(v.Products, Product.id)),
	); err != nil {
		return err
	}
	if !v.To.IsZero() {
		if toUnix(v.From) >= toUnix(v.To) {
			return fmt.Errorf("%w: from is not before to", ErrMalformed)
		}
		if toUnix(v.Admission) > toUnix(v.To) {
			return fmt.Errorf("%w: admission is after to", ErrMalformed)
		}
	}
	for _, z := range v.Zones {
		if z.AntiPassback > AntiPassbackHard {
			return fmt.Errorf("%w: zone %q has an unknown anti-passback", ErrMalformed, z.Name)
		}
		if z.Away > AwayDeny {
			return fmt.Errorf("%w: zone %q has an unknown policy for when the hub is away", ErrMalformed, z.Name)
		}
		if err := checkDuration("forgets", z.Forgets, 31*24*time.Hour, time.Minute); err != nil {
			return fmt.Errorf("zone %q: %w", z.Name, err)
		}
	}
	for _, g := range v.Gates {
		if g.Zone != "" && !v.hasZone(g.Zone) {
			return fmt.Errorf("gate %q: %w", g.Name, v.unknownZone(g.Zone))
		}
	}
	return v.checkRules()
}

// checkRules checks that the rules can be judged, whoever comes: what they name
// is there, and so are the times of the event that they need.
func (v Venue) checkRules() error {
	if !utf8.ValidString(v.Rules) {
		return fmt.Errorf("%w: the rules are not UTF-8", ErrMalformed)
	}
	compiled, err := rules.Compile(v.Rules) // MaxRules is its limit
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	named := compiled.IDs()
	for _, id := range named.Gates {
		if !slices.ContainsFunc(v.Gates, func(g Gate) bool { return g.ID == id }) {
			return fmt.Errorf("rules: %w", unknown("gate", fmt.Sprint(id), each(v.Gates, func(g Gate) string { return fmt.Sprint(g.ID) })))
		}
	}
	for _, id := range named.Products {
		if !slices.ContainsFunc(v.Products, func(p Product) bool { return p.ID == id }) {
			return fmt.Errorf("rules: %w", v.unknownProduct(id))
		}
	}
	if _, err := compiled.Evaluate(rules.Facts{Now: v.From, From: v.From, To: v.To, Admission: v.Admission}); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func (v Venue) unknownProduct(id uint32) error {
	return unknown("product", fmt.Sprint(id), each(v.Products, func(p Product) string { return fmt.Sprint(p.ID) }))
}

// checkRow holds a row against the venue of its list.
func (v Venue) checkRow(r Row) error {
	for i, e := range r.Entitlements {
		if err := v.fits(e); err != nil {
			return fmt.Errorf("entitlement %d: %w", i+1, err)
		}
	}
	return nil
}

// fits holds an entitlement against the venue of its list.
func (v Venue) fits(e Entitlement) error {
	if field := e.newField(); field != "" && v.isZero() {
		return fmt.Errorf("%w: %s in a list without a venue, which older programs read: give the list a venue, a time zone is enough", ErrMalformed, field)
	}
	for _, g := range e.Gates {
		if len(v.Gates) > 0 && !slices.ContainsFunc(v.Gates, func(h Gate) bool { return h.Name == g }) {
			return unknown("gate", strconv.Quote(g), each(v.Gates, func(g Gate) string { return strconv.Quote(g.Name) }))
		}
	}
	for _, z := range e.Zones {
		if !v.hasZone(z) {
			return v.unknownZone(z)
		}
	}
	if e.Product != 0 && !slices.ContainsFunc(v.Products, func(p Product) bool { return p.ID == e.Product }) {
		return v.unknownProduct(e.Product)
	}
	if e.UsesPerDay != 0 && v.TimeZone == "" {
		return fmt.Errorf("%w: uses_per_day, and the venue has no time zone: UTC is one", ErrMalformed)
	}
	return nil
}

// newField names a field of e that came with venues.
func (e Entitlement) newField() string {
	switch {
	case e.Status > Active:
		return "status"
	case len(e.Zones) > 0:
		return "zones"
	case e.UsesPerDay != 0:
		return "uses_per_day"
	case e.ReEntry != ReEntryNone:
		return "re_entry"
	case e.Party > 1:
		return "party"
	case e.Product != 0:
		return "product"
	case e.Attention:
		return "attention"
	}
	return "" // the others come only with these
}

func (v Venue) hasZone(name string) bool {
	return slices.ContainsFunc(v.Zones, func(z Zone) bool { return z.Name == name })
}

func (v Venue) unknownZone(name string) error {
	return unknown("zone", strconv.Quote(name), each(v.Zones, func(z Zone) string { return strconv.Quote(z.Name) }))
}

// unknown names the first few of those that are known.
func unknown(what, got string, known []string) error {
	const few = 8
	switch n := len(known); {
	case n == 0:
		return fmt.Errorf("%w: unknown %s %s: the list has no %ss", ErrMalformed, what, got, what)
	case n > few:
		known = append(known[:few], fmt.Sprintf("and %d more", n-few))
	}
	return fmt.Errorf("%w: unknown %s %s: the list's %ss are %s", ErrMalformed, what, got, what, strings.Join(known, ", "))
}

func (z Zone) name() string    { return z.Name }
func (g Gate) name() string    { return g.Name }
func (g Gate) id() uint32      { return g.ID }
func (p Product) name() string { return p.Name }
func (p Product) id() uint32   { return p.ID }

func checkIDs(what string, ids []uint32) error {
	for i, id := range ids {
		if id == 0 {
			return fmt.Errorf("%w: a %s has no ID", ErrMalformed, what)
		}
		if slices.Contains(ids[:i], id) {
			return fmt.Errorf("%w: %s ID %d comes twice", ErrMalformed, what, id)
		}
	}
	return nil
}

func checkDuration(name string, d, most, unit time.Duration) error {
	if d < 0 || d > most || d%unit != 0 {
		return fmt.Errorf("%w: %s is %v, allowed are 0 to %v in steps of %v", ErrMalformed, name, d, most, unit)
	}
	return nil
}

// checkTimeZone takes an IANA name. It refuses the names under which a machine's
// own choice, or clocks with leap seconds, lie among the zones of some systems:
// a list says the same everywhere.
func checkTimeZone(name string) error {
	if name == "" {
		return nil
	}
	if err := checkName("the time zone", name); err != nil {
		return err
	}
	_, err := time.LoadLocation(name)
	if err != nil || slices.Contains([]string{"Local", "localtime", "posixrules"}, name) ||
		strings.HasPrefix(name, "posix/") || strings.HasPrefix(name, "right/") {
		return fmt.Errorf("%w: time zone %q is no IANA name that this program knows", ErrMalformed, name)
	}
	return nil
}
