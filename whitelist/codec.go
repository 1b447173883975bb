package whitelist

import (
	"bytes"
	"cmp"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// The wire forms of docs/list-format.md. Decoding is strict, and what was
// decoded is encoded again and compared: one value has one encoding
// (RFC 8949 §4.2.1), and a field that is null, empty or cut short shows.

// A manifest that names a set of rows is of version 3, any other with a venue of
// version 2. One without is written as before there were venues, so that every
// program reads it.
const versionPublished, version, versionWithoutVenue = 3, 2, 1

type wireManifest struct {
	Version        uint64     `cbor:"0,keyasint"`
	Scope          string     `cbor:"1,keyasint"`
	Hierarchy      string     `cbor:"2,keyasint"`
	Epoch          uint64     `cbor:"3,keyasint"`
	Seq            uint64     `cbor:"4,keyasint"`
	IssuedAt       uint64     `cbor:"5,keyasint"`
	NotAfter       uint64     `cbor:"6,keyasint"`
	RevocationAsOf uint64     `cbor:"7,keyasint,omitempty"`
	Policy         wirePolicy `cbor:"8,keyasint"`
	ScopeKeyCheck  [16]byte   `cbor:"9,keyasint"`
	Rows           uint64     `cbor:"10,keyasint"`
	RowsSHA256     []byte     `cbor:"11,keyasint,omitempty"`
	Venue          wireVenue  `cbor:"12,keyasint,omitempty"`

	Set      *wireSet      `cbor:"13,keyasint,omitempty"`
	Snapshot *wireSnapshot `cbor:"14,keyasint,omitempty"`
	Deltas   []wireDelta   `cbor:"15,keyasint,omitempty"`
}

type wirePolicy struct {
	Expired          uint8  `cbor:"1,keyasint"`
	StaleRevocation  uint8  `cbor:"2,keyasint"`
	UntrustedClock   uint8  `cbor:"3,keyasint"`
	RevocationMaxAge uint64 `cbor:"4,keyasint"`
}

// codec: a row holds entitlements, each of them gates; a manifest a venue, which
// holds gates.
var codec = strictcbor.New(strictcbor.Limits{Nested: 5, Array: max(MaxEntitlements, MaxGates, MaxZones, MaxVenueGates, MaxProducts, MaxDeltas), Map: 16})

// ParseManifest reads a manifest that was signed for [sign1.RoleList] by a key
// of the manifest's own scope. It checks every rule written at [Manifest].
func ParseManifest(p sign1.Payload) (Manifest, error) {
	if p.Role() != sign1.RoleList {
		return Manifest{}, fmt.Errorf("reading manifest: %w", sign1.ErrRole)
	}
	m, err := decodeManifest(p.Bytes())
	if err != nil {
		return Manifest{}, fmt.Errorf("reading manifest: %w", err)
	}
	if m.Scope != p.Scope() {
		return Manifest{}, fmt.Errorf("reading manifest: %w: it is for %q, its key may sign for %q", ErrScope, m.Scope, p.Scope())
	}
	return m, nil
}

func decodeManifest(b []byte) (Manifest, error) {
	var w wireManifest
	err := codec.UnmarshalVersion(b, &w, versionPublished)
	for v := uint64(version); err != nil && v >= versionWithoutVenue; v-- {
		w = wireManifest{}
		if codec.UnmarshalVersion(b, &w, v) == nil {
			err = nil
		}
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if n := len(w.RowsSHA256); n != 0 && n != 32 {
		return Manifest{}, fmt.Errorf("%w: rows_sha256 has %d bytes, want 32", ErrMalformed, n)
	}
	m := Manifest{
		Scope: w.Scope, Hierarchy: w.Hierarchy, Epoch: w.Epoch, Seq: w.Seq,
		IssuedAt: fromUnix(w.IssuedAt), NotAfter: fromUnix(w.NotAfter), RevocationAsOf: fromUnix(w.RevocationAsOf),
		Policy: Policy{
			Expired: Action(w.Policy.Expired), StaleRevocation: Action(w.Policy.StaleRevocation), UntrustedClock: Action(w.Policy.UntrustedClock),
			RevocationMaxAge: time.Duration(min(w.Policy.RevocationMaxAge, uint64(maxAge/time.Second)+1)) * time.Second,
		},
		Venue:         w.Venue.venue(),
		ScopeKeyCheck: w.ScopeKeyCheck, Rows: w.Rows,
	}
	copy(m.RowsSHA256[:], w.RowsSHA256)
	m.published(w)
	if w.Version != m.version() {
		return Manifest{}, fmt.Errorf("%w: version %d has no venue, version %d has one, and version %d names a set", ErrMalformed,
			versionWithoutVenue, version, versionPublished)
	}
	again, err := m.encode()
	if err != nil {
		return Manifest{}, err
	}
	if !bytes.Equal(again, b) {
		return Manifest{}, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return m, nil
}

// encode checks and encodes m.
func (m Manifest) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	w := wireManifest{
		Version: m.version(),
		Scope:   m.Scope, Hierarchy: m.Hierarchy, Epoch: m.Epoch, Seq: m.Seq,
		IssuedAt: toUnix(m.IssuedAt), NotAfter: toUnix(m.NotAfter), RevocationAsOf: toUnix(m.RevocationAsOf),
		Policy: wirePolicy{
			Expired: uint8(m.Policy.Expired), StaleRevocation: uint8(m.Policy.StaleRevocation), UntrustedClock: uint8(m.Policy.UntrustedClock),
			RevocationMaxAge: uint64(m.Policy.RevocationMaxAge / time.Second),
		},
		Venue:         m.Venue.wire(),
		ScopeKeyCheck: m.ScopeKeyCheck, Rows: m.Rows,
	}
	w.wirePublished(m)
	return codec.Marshal(w)
}

func (m Manifest) version() uint64 {
	if m.Published() {
		return versionPublished
	}
	if m.Venue.isZero() {
		return versionWithoutVenue
	}
	return version
}

const maxAge = 10 * 366 * 24 * time.Hour

func (m Manifest) check() error {
	if err := checkName("the scope", m.Scope); err != nil {
		return err
	}
	if m.Hierarchy != Production && m.Hierarchy != Test {
		return fmt.Errorf("%w: hierarchy is neither %q nor %q", ErrMalformed, Production, Test)
	}
	if err := cmp.Or(
		checkTime("issued_at", m.IssuedAt), checkTime("not_after", m.NotAfter), checkOptional("revocation_as_of", m.RevocationAsOf),
	); err != nil {
		return err
	}
	if toUnix(m.IssuedAt) >= toUnix(m.NotAfter) {
		return fmt.Errorf("%w: not_after is not behind issued_at", ErrMalformed)
	}
	if toUnix(m.RevocationAsOf) > toUnix(m.IssuedAt) {
		return fmt.Errorf("%w: revocation_as_of is behind issued_at", ErrMalformed)
	}
	for _, a := range []Action{m.Policy.Expired, m.Policy.StaleRevocation, m.Policy.UntrustedClock} {
		if a > Warn {
			return fmt.Errorf("%w: policy has an unknown action", ErrMalformed)
		}
	}
	if d := m.Policy.RevocationMaxAge; d < 0 || d > maxAge {
		return fmt.Errorf("%w: revocation_max_age is not within 0 and ten years", ErrMalformed)
	}
	if err := m.Venue.check(); err != nil {
		return fmt.Errorf("venue: %w", err)
	}
	return m.checkPublished()
}

func checkTime(name string, t time.Time) error {
	if err := strictcbor.CheckTime(t); err != nil {
		return fmt.Errorf("%w: %s %w", ErrMalformed, name, err)
	}
	return nil
}

// checkOptional is checkTime for what may be zero.
func checkOptional(name string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	return checkTime(name, t)
}

// toUnix drops fractions of a second; the zero time is 0. checkTime comes first.
func toUnix(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return strictcbor.Seconds(t)
}

func fromUnix(s uint64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return strictcbor.Time(s)
}
