// Package lease is the scope key of a terminal, with an end.
//
// A hub seals the scope key for one terminal (HPKE, RFC 9180, base mode) and signs
// what it has sealed, with the instant at which it ends. The file may lie on any
// web server or stick: only that terminal's delivery key opens it. Whoever gets a
// terminal, or a copy of its disk, has a scope key until the lease ends, and no
// longer: a hub that knows of the loss issues no other one.
//
// It promises that a [Lease] exists only because a key that is trusted for leases
// of its scope signed it, and that [Lease.Open] returns the scope key that was
// leased or none. It does not look at a clock; see [Lease.Valid] and [Lease.NotAfter].
//
// docs/terminal-commands.md has the CDDL.
package lease

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// Errors, beside those of packages roles and sign1.
var (
	// ErrMalformed: not the format of docs/terminal-commands.md, or a rule of it broken.
	ErrMalformed = errors.New("malformed lease")
	// ErrNotOurs: for another scope, hierarchy or terminal.
	ErrNotOurs = errors.New("lease of another terminal")
	// ErrFar: it ends too late.
	ErrFar = errors.New("lease ends too late")
	// ErrSealed: it does not open with this delivery key, or not as the key it names.
	ErrSealed = errors.New("lease does not open")
)

// MaxFile is how long the file of a lease is at most, in bytes.
const MaxFile = roles.MaxSize + 4<<10

// MaxTerm is how long a lease lasts at most.
const MaxTerm = 366 * 24 * time.Hour

const maxName = 64 // bytes of a scope's or terminal's name

// File is where a hub publishes the lease of a terminal, below the folder of its scope.
func File(terminal string) string { return "lease/" + filename.Of(terminal) }

// Terms are whom a lease is for, and for how long. Times are whole seconds.
type Terms struct {
	Scope     string
	Hierarchy string // "production" or "test"
	Terminal  string

	IssuedAt time.Time // before NotAfter
	NotAfter time.Time // last second in which the scope key may be used
}

// A Lease is verified.
type Lease struct {
	Terms
	Check [16]byte // of the scope key, cardid.ScopeKey.Check

	sealed  []byte
	payload sign1.Payload
	warrant roles.Warrant
}

// Issue seals a scope key's secret for a terminal and signs it, behind the
// delegation that justifies the signer, where there is one.
func Issue(signer crypto.Signer, delegation []byte, to *ecdh.PublicKey, secret []byte, t Terms) ([]byte, error) {
	failed := func(err error) ([]byte, error) { return nil, fmt.Errorf("issuing a lease: %w", err) }
	key, err := cardid.NewScopeKey(secret)
	if err != nil {
		return failed(err)
	}
	public, err := hpke.NewDHKEMPublicKey(to)
	if err != nil {
		return failed(err)
	}
	info, err := t.info()
	if err != nil {
		return failed(err)
	}
	sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, secret)
	if err != nil {
		return failed(err)
	}
	payload, err := encode(t, key.Check(), sealed)
	if err != nil {
		return failed(err)
	}
	signed, err := sign1.Sign(nil, sign1.RoleLease, signer, payload)
	if err != nil {
		return failed(err)
	}
	return append(bytes.Clone(delegation), signed...), nil
}

// Read reads and verifies the file of a lease.
func Read(b []byte, trust roles.Trust) (Lease, error) {
	if len(b) > MaxFile {
		return Lease{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(b), MaxFile)
	}
	delegation, signed, err := roles.Cut(b)
	if err != nil {
		return Lease{}, fmt.Errorf("reading a lease: %w", err)
	}
	warrant, err := trust.Warrant(delegation)
	if err != nil {
		return Lease{}, fmt.Errorf("verifying a lease: %w", err)
	}
	payload, err := warrant.Keys.Verify(sign1.RoleLease, signed)
	if err != nil {
		return Lease{}, fmt.Errorf("verifying a lease: %w", err)
	}
	l, err := decode(payload.Bytes())
	if err != nil {
		return Lease{}, err
	}
	if d := warrant.Delegation; payload.Scope() != l.Scope || d.Version > 0 && d.Hierarchy != l.Hierarchy {
		return Lease{}, fmt.Errorf("%w: its key may not sign leases of scope %q (%s)", ErrNotOurs, l.Scope, l.Hierarchy)
	}
	l.payload, l.warrant = payload, warrant
	return l, nil
}

// Valid says whether the lease may be taken over at an instant: the key that signed it
// may do so then, and it ends within MaxTerm of then, give or take what clocks do. So one
// that is issued in a far future does not last until there. A lease that came while it
// might lasts until its own end.
func (l Lease) Valid(at time.Time) error {
	if l.NotAfter.Sub(at) > MaxTerm+clocks {
		return fmt.Errorf("%w: on %s, more than %d days from now: is the clock right, here and at the hub?", ErrFar, l.NotAfter.Format(time.RFC3339), MaxTerm/(24*time.Hour))
	}
	return l.warrant.Valid(l.payload, at)
}

// clocks is how far those of a hub and of a terminal are apart and still right.
const clocks = 24 * time.Hour

// Delegation is the version of the delegation, 0 where keys are pinned.
func (l Lease) Delegation() uint64 { return l.warrant.Delegation.Version }

// NotBefore says whether that version is not older than one that was seen before.
func (l Lease) NotBefore(seen uint64) error { return l.warrant.NotBefore(seen) }

// For says whether the lease is for a terminal.
func (l Lease) For(scope, hierarchy, terminal string) error {
	if l.Scope != scope || l.Hierarchy != hierarchy || l.Terminal != terminal {
		return fmt.Errorf("%w: it is for %q in scope %q (%s)", ErrNotOurs, l.Terminal, l.Scope, l.Hierarchy)
	}
	return nil
}

// Ended reports whether the scope key may no longer be used.
func (l Lease) Ended(at time.Time) bool { return at.Unix() > l.NotAfter.Unix() }

// Open returns the leased scope key.
func (l Lease) Open(k DeliveryKey) (cardid.ScopeKey, error) {
	if k.key == nil {
		return cardid.ScopeKey{}, errNoKey
	}
	info, err := l.info()
	if err != nil {
		return cardid.ScopeKey{}, err
	}
	secret, err := hpke.Open(*k.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, l.sealed)
	if err != nil {
		return cardid.ScopeKey{}, fmt.Errorf("%w: it is sealed for another delivery key", ErrSealed)
	}
	defer clear(secret)
	key, err := cardid.NewScopeKey(secret)
	if err != nil {
		return cardid.ScopeKey{}, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if key.Check() != l.Check {
		return cardid.ScopeKey{}, fmt.Errorf("%w: what is inside is another scope key than it names", ErrSealed)
	}
	return key, nil
}

// The wire form.

const version = 1

type wire struct {
	Version   uint64 `cbor:"0,keyasint"`
	Scope     string `cbor:"1,keyasint"`
	Hierarchy string `cbor:"2,keyasint"`
	Terminal  string `cbor:"3,keyasint"`
	IssuedAt  uint64 `cbor:"4,keyasint"`
	NotAfter  uint64 `cbor:"5,keyasint"`
	Check     []byte `cbor:"6,keyasint"`
	Sealed    []byte `cbor:"7,keyasint"`
}

// sealedSize is an encapsulated key, a scope key and a tag.
const sealedSize = 32 + cardid.ScopeKeySize + 16

var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

// info is the info of HPKE: what is sealed for these terms opens with no others.
func (t Terms) info() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return codec.Marshal([]any{"gate-agent/lease/v1", version, t.Scope, t.Hierarchy, t.Terminal, t.IssuedAt.Unix(), t.NotAfter.Unix()})
}

func encode(t Terms, check [16]byte, sealed []byte) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return codec.Marshal(wire{version, t.Scope, t.Hierarchy, t.Terminal, uint64(t.IssuedAt.Unix()), uint64(t.NotAfter.Unix()), check[:], sealed})
}

func decode(b []byte) (Lease, error) {
	var w wire
	if err := codec.UnmarshalVersion(b, &w, version); err != nil {
		return Lease{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if len(w.Check) != 16 || len(w.Sealed) != sealedSize {
		return Lease{}, fmt.Errorf("%w: check value of %d bytes, sealed key of %d", ErrMalformed, len(w.Check), len(w.Sealed))
	}
	l := Lease{Terms: Terms{w.Scope, w.Hierarchy, w.Terminal, fromUnix(w.IssuedAt), fromUnix(w.NotAfter)}, Check: [16]byte(w.Check), sealed: w.Sealed}
	again, err := encode(l.Terms, l.Check, l.sealed)
	if err != nil {
		return Lease{}, err
	}
	if !bytes.Equal(again, b) {
		return Lease{}, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return l, nil
}

func (t Terms) check() error {
	for _, n := range []struct{ what, name string }{{"scope", t.Scope}, {"terminal", t.Terminal}} {
		if err := strictcbor.CheckText(n.name, 1, maxName); err != nil {
			return fmt.Errorf("%w: the %s %w", ErrMalformed, n.what, err)
		}
	}
	if t.Hierarchy != "production" && t.Hierarchy != "test" {
		return fmt.Errorf("%w: hierarchy is neither \"production\" nor \"test\"", ErrMalformed)
	}
	switch issued, end := t.IssuedAt.Unix(), t.NotAfter.Unix(); {
	case issued <= 0 || end > lastSecond:
		return fmt.Errorf("%w: a time is not between 1970 and 9999", ErrMalformed)
	case issued >= end:
		return fmt.Errorf("%w: it ends before it begins", ErrMalformed)
	case end-issued > int64(MaxTerm/time.Second):
		return fmt.Errorf("%w: it lasts longer than %d days", ErrMalformed, MaxTerm/(24*time.Hour))
	}
	return nil
}

const lastSecond = 253402300799 // 9999-12-31T23:59:59Z

func fromUnix(s uint64) time.Time { return time.Unix(int64(min(s, lastSecond+1)), 0).UTC() }
