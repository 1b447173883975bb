// Package roles is the delegation of a hub's roles by an offline root.
//
// A root is a set of keys of which a number has to agree (the threshold), as in
// The Update Framework (TUF 1.0 §2.1). It signs a [Delegation]: which keys may sign
// lists, leases and commands for one scope, each from when to when. A key that is
// online in a hub is so worth little for long, and is replaced without touching a
// terminal: two keys of one role may overlap.
//
// A delegation travels in front of what it justifies, as an intermediate
// certificate does: one file, nothing that could get out of step. Its encoding is
// an array of COSE_Sign1 messages over one payload, each by another root key.
//
// It promises that a Delegation which [Root.Verify] returns was signed by as many
// keys of the root as its threshold says. docs/list-distribution.md has the CDDL.
package roles

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// Errors of delegations, beside those of package sign1.
var (
	// ErrMalformed: not the format of docs/list-distribution.md, or a rule of a type broken.
	ErrMalformed = errors.New("malformed delegation")
	// ErrThreshold: fewer root keys signed than the threshold says.
	ErrThreshold = errors.New("delegation signed by too few root keys")
	// ErrMissing: a root is trusted, and nothing says what it delegates.
	ErrMissing = errors.New("no delegation by the root")
	// ErrExpired: the key may not sign any more, or not yet.
	ErrExpired = errors.New("role not valid now")
)

// Limits of a delegation.
const (
	MaxSize   = 16 << 10 // bytes of an encoded delegation
	MaxRoots  = 8        // keys of a root
	MaxGrants = 16
	maxScope  = 64 // bytes of a scope's name
)

// A Root is who may delegate. The zero Root is nobody.
type Root struct {
	keys      sign1.Keys
	threshold int
}

// anyScope is the scope of a root key: which scope is delegated stands in the
// delegation.
const anyScope = "*"

// NewRoot returns a root of 1 to MaxRoots different keys, threshold of which have
// to agree.
func NewRoot(threshold int, public ...crypto.PublicKey) (Root, error) {
	if n := len(public); n == 0 || n > MaxRoots {
		return Root{}, fmt.Errorf("a root of %d keys: 1 to %d are allowed", n, MaxRoots)
	}
	if threshold < 1 || threshold > len(public) {
		return Root{}, fmt.Errorf("a threshold of %d with %d root keys: want 1 to %d", threshold, len(public), len(public))
	}
	keys := make([]sign1.Key, len(public))
	for i, p := range public {
		keys[i] = sign1.Key{Public: p, Role: sign1.RoleRoot, Scope: anyScope}
	}
	set, err := sign1.NewKeys(keys...)
	if err != nil {
		return Root{}, fmt.Errorf("root: %w", err)
	}
	return Root{set, threshold}, nil
}

// IsZero reports whether r is nobody.
func (r Root) IsZero() bool { return r.threshold == 0 }

// A Delegation is what a root says of one scope. Times are whole seconds.
type Delegation struct {
	Scope     string
	Hierarchy string // "production" or "test"

	// Version only ever grows: a terminal refuses an older delegation than it has seen.
	Version uint64

	IssuedAt time.Time // before NotAfter
	NotAfter time.Time // last second in which it justifies anything new

	Grants []Grant // 1 to MaxGrants, of different keys
}

// A Grant is one key that may sign for one role.
type Grant struct {
	Key                 crypto.PublicKey // as package sign1 takes them
	Role                sign1.Role       // RoleList, RoleLease or RoleCommand
	NotBefore, NotAfter time.Time        // both included
}

// Verify reads a delegation that enough keys of the root have signed. It does not
// look at a clock; see [Warrant.Valid].
func (r Root) Verify(b []byte) (Delegation, error) {
	if r.IsZero() {
		return Delegation{}, errors.New("verifying a delegation: no root is trusted")
	}
	messages, err := split(b)
	if err != nil {
		return Delegation{}, err
	}
	var payload []byte
	signed := make(map[[32]byte]bool)
	for i, m := range messages {
		p, err := r.keys.Verify(sign1.RoleRoot, m)
		if errors.Is(err, sign1.ErrUnknownKey) {
			continue // a root that changes is signed by old and new keys
		}
		if err != nil {
			return Delegation{}, fmt.Errorf("verifying a delegation: signature %d: %w", i+1, err)
		}
		if payload != nil && !bytes.Equal(payload, p.Bytes()) {
			return Delegation{}, fmt.Errorf("%w: its signatures are over different contents", ErrMalformed)
		}
		payload = p.Bytes()
		signed[p.KeyID()] = true
	}
	if len(signed) < r.threshold {
		return Delegation{}, fmt.Errorf("%w: %d, %d are needed", ErrThreshold, len(signed), r.threshold)
	}
	return decode(payload)
}

// Encode returns what the keys of a root sign, which Decode reads.
func (d Delegation) Encode() ([]byte, error) { return d.encode() }

// Decode reads a delegation that nobody has signed yet.
func Decode(payload []byte) (Delegation, error) { return decode(payload) }

// Sign signs d as one key of a root. Join makes a delegation of several of these.
func (d Delegation) Sign(rand io.Reader, signer crypto.Signer) ([]byte, error) {
	payload, err := d.encode()
	if err != nil {
		return nil, err
	}
	m, err := sign1.Sign(rand, sign1.RoleRoot, signer, payload)
	if err != nil {
		return nil, fmt.Errorf("signing a delegation: %w", err)
	}
	return Join([][]byte{m})
}

// Join joins the signatures of one delegation, each from Sign or Join. A signature
// that is there twice stays once. It verifies nothing.
func Join(delegations [][]byte) ([]byte, error) {
	var all [][]byte
	for _, d := range delegations {
		if len(d) > 0 && d[0] == tag18 { // one message, as a signer of its own makes it
			d = append([]byte{arrayOf(1)}, d...)
		}
		messages, err := split(d)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if !contains(all, m) {
				all = append(all, m)
			}
		}
	}
	if n := len(all); n == 0 || n > MaxRoots {
		return nil, fmt.Errorf("%w: %d signatures, 1 to %d are allowed", ErrMalformed, n, MaxRoots)
	}
	b := []byte{arrayOf(len(all))}
	for _, m := range all {
		b = append(b, m...)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(b), MaxSize)
	}
	return b, nil
}

// Peek reads a delegation whose signatures nobody has verified: to show it to
// people who are asked to sign it.
func Peek(b []byte) (Delegation, error) {
	messages, err := split(b)
	if err != nil {
		return Delegation{}, err
	}
	payload, err := sign1.UnverifiedPayload(messages[0])
	if err != nil {
		return Delegation{}, fmt.Errorf("reading a delegation: %w", err)
	}
	return decode(payload)
}

const tag18 = 0xD2 // of COSE_Sign1, RFC 9052 §2

// arrayOf is the head of a CBOR array of n ≤ MaxRoots items.
func arrayOf(n int) byte { return 0x80 | byte(n) }

// Begins says whether b begins with a delegation, rather than with what a
// delegation would justify.
func Begins(b []byte) bool {
	return len(b) > 0 && b[0] >= arrayOf(1) && b[0] <= arrayOf(MaxRoots)
}

// Cut gives the delegation with which b begins, none if it does not, and the
// rest. The error is io.ErrUnexpectedEOF when b ends within it.
func Cut(b []byte) (delegation, rest []byte, err error) {
	if !Begins(b) {
		return nil, b, nil
	}
	d, err := codec.First(b)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) && len(b) <= MaxSize {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if len(d) > MaxSize {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(d), MaxSize)
	}
	return d, b[len(d):], nil
}

// split gives the messages of an encoded delegation.
func split(b []byte) (messages [][]byte, err error) {
	if !Begins(b) || len(b) > MaxSize {
		return nil, fmt.Errorf("%w: not an array of 1 to %d signed messages in %d bytes", ErrMalformed, MaxRoots, MaxSize)
	}
	n, rest := int(b[0]&^arrayOf(0)), b[1:]
	for range n {
		m, err := codec.First(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		messages, rest = append(messages, m), rest[len(m):]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: bytes behind it", ErrMalformed)
	}
	return messages, nil
}

func contains(all [][]byte, m []byte) bool {
	for _, a := range all {
		if bytes.Equal(a, m) {
			return true
		}
	}
	return false
}

// The wire form.

const version = 1

type wireDelegation struct {
	Version   uint64      `cbor:"0,keyasint"`
	Scope     string      `cbor:"1,keyasint"`
	Hierarchy string      `cbor:"2,keyasint"`
	Number    uint64      `cbor:"3,keyasint"`
	IssuedAt  uint64      `cbor:"4,keyasint"`
	NotAfter  uint64      `cbor:"5,keyasint"`
	Grants    []wireGrant `cbor:"6,keyasint"`
}

type wireGrant struct {
	Key       []byte `cbor:"1,keyasint"`
	Role      string `cbor:"2,keyasint"`
	NotBefore uint64 `cbor:"3,keyasint"`
	NotAfter  uint64 `cbor:"4,keyasint"`
}

// codec: an array of messages, each an array; a payload holds grants.
var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: MaxGrants, Map: 16})

func decode(b []byte) (Delegation, error) {
	var w wireDelegation
	if err := codec.UnmarshalVersion(b, &w, version); err != nil {
		return Delegation{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	d := Delegation{
		Scope: w.Scope, Hierarchy: w.Hierarchy, Version: w.Number,
		IssuedAt: fromUnix(w.IssuedAt), NotAfter: fromUnix(w.NotAfter),
	}
	for _, g := range w.Grants {
		key, err := parseKey(g.Key)
		if err != nil {
			return Delegation{}, fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		d.Grants = append(d.Grants, Grant{key, sign1.Role(g.Role), fromUnix(g.NotBefore), fromUnix(g.NotAfter)})
	}
	again, err := d.encode()
	if err != nil {
		return Delegation{}, err
	}
	if !bytes.Equal(again, b) {
		return Delegation{}, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return d, nil
}

// encode checks and encodes d.
func (d Delegation) encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	w := wireDelegation{
		Version: version, Scope: d.Scope, Hierarchy: d.Hierarchy, Number: d.Version,
		IssuedAt: toUnix(d.IssuedAt), NotAfter: toUnix(d.NotAfter),
	}
	for _, g := range d.Grants {
		key, err := marshalKey(g.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		w.Grants = append(w.Grants, wireGrant{key, string(g.Role), toUnix(g.NotBefore), toUnix(g.NotAfter)})
	}
	return codec.Marshal(w)
}

func (d Delegation) check() error {
	if err := strictcbor.CheckText(d.Scope, 1, maxScope); err != nil {
		return fmt.Errorf("%w: the scope %w", ErrMalformed, err)
	}
	if d.Hierarchy != "production" && d.Hierarchy != "test" {
		return fmt.Errorf("%w: hierarchy is neither \"production\" nor \"test\"", ErrMalformed)
	}
	if d.Version == 0 {
		return fmt.Errorf("%w: version 0, they begin with 1", ErrMalformed)
	}
	if err := checkSpan("the delegation", d.IssuedAt, d.NotAfter); err != nil {
		return err
	}
	if n := len(d.Grants); n == 0 || n > MaxGrants {
		return fmt.Errorf("%w: %d keys, 1 to %d are allowed", ErrMalformed, n, MaxGrants)
	}
	for i, g := range d.Grants {
		if g.Role != sign1.RoleList && g.Role != sign1.RoleLease && g.Role != sign1.RoleCommand {
			return fmt.Errorf("%w: key %d has role %q: %q, %q and %q are delegated", ErrMalformed, i+1, g.Role, sign1.RoleList, sign1.RoleLease, sign1.RoleCommand)
		}
		if err := checkSpan(fmt.Sprintf("key %d", i+1), g.NotBefore, g.NotAfter); err != nil {
			return err
		}
	}
	_, err := d.keys() // a key that comes twice, or that cannot sign
	return err
}

func (d Delegation) keys() (sign1.Keys, error) {
	keys := make([]sign1.Key, len(d.Grants))
	for i, g := range d.Grants {
		keys[i] = sign1.Key{Public: g.Key, Role: g.Role, Scope: d.Scope}
	}
	set, err := sign1.NewKeys(keys...)
	if err != nil {
		return sign1.Keys{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return set, nil
}

const lastSecond = 253402300799 // 9999-12-31T23:59:59Z

func checkSpan(what string, from, to time.Time) error {
	for _, t := range []time.Time{from, to} {
		if s := t.Unix(); s <= 0 || s > lastSecond {
			return fmt.Errorf("%w: a time of %s is not between 1970 and 9999", ErrMalformed, what)
		}
	}
	if from.Unix() >= to.Unix() {
		return fmt.Errorf("%w: %s ends before it begins", ErrMalformed, what)
	}
	return nil
}

func toUnix(t time.Time) uint64   { return uint64(t.Unix()) } // checkSpan comes first
func fromUnix(s uint64) time.Time { return time.Unix(int64(min(s, lastSecond+1)), 0).UTC() }

// A Trust says whose signatures count: of pinned keys, or of those that a root
// delegates to. Where a root is trusted pinned keys are not asked.
type Trust struct {
	Pinned sign1.Keys
	Root   Root
}

// A Warrant is whose signatures count for one file.
type Warrant struct {
	Keys sign1.Keys
	// Delegation is what the root says; with pinned keys its Version is 0.
	Delegation Delegation
}

// Warrant returns whose signatures count for a file of a scope that begins with
// this delegation, which may be none where keys are pinned.
func (t Trust) Warrant(delegation []byte) (Warrant, error) {
	if t.Root.IsZero() {
		return Warrant{Keys: t.Pinned}, nil
	}
	if len(delegation) == 0 {
		return Warrant{}, ErrMissing
	}
	d, err := t.Root.Verify(delegation)
	if err != nil {
		return Warrant{}, err
	}
	keys, err := d.keys()
	return Warrant{keys, d}, err
}

// Ends is the last second in which the key that signed p may do so by this
// delegation. It is zero for pinned keys, and for a key that is not delegated.
func (w Warrant) Ends(p sign1.Payload) time.Time {
	for _, g := range w.Delegation.Grants {
		if id, err := sign1.KeyID(g.Key); err == nil && id == p.KeyID() {
			if g.NotAfter.Before(w.Delegation.NotAfter) {
				return g.NotAfter
			}
			return w.Delegation.NotAfter
		}
	}
	return time.Time{}
}

// Valid says whether the key that signed p may do so at an instant. Pinned keys
// always may.
func (w Warrant) Valid(p sign1.Payload, at time.Time) error {
	if w.Delegation.Version == 0 {
		return nil
	}
	now := at.Unix()
	if end := w.Delegation.NotAfter; now > end.Unix() {
		return fmt.Errorf("%w: the delegation ended on %s: the root keys have to sign a new one", ErrExpired, end.Format(time.RFC3339))
	}
	for _, g := range w.Delegation.Grants {
		id, err := sign1.KeyID(g.Key)
		if err != nil {
			return err
		}
		if id != p.KeyID() {
			continue
		}
		if now < g.NotBefore.Unix() || now > g.NotAfter.Unix() {
			return fmt.Errorf("%w: the %s key %x was delegated from %s to %s", ErrExpired, g.Role, id[:8],
				g.NotBefore.Format(time.RFC3339), g.NotAfter.Format(time.RFC3339))
		}
		return nil
	}
	return fmt.Errorf("%w: the delegation does not name it", sign1.ErrUnknownKey)
}
