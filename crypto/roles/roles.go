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
	// ErrOlder: a newer delegation of the scope was seen before. The keys of this one may
	// be ones that the root has taken back.
	ErrOlder = errors.New("delegation older than one before")
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
	return sign1.ArrayOf(m), nil
}

// Join joins the signatures of one delegation, each from Sign or Join, or one message as
// a signer of its own makes it. A signature that is there twice stays once. It verifies
// nothing.
func Join(delegations [][]byte) ([]byte, error) {
	arrays := make([][]byte, len(delegations))
	for i, d := range delegations {
		if arrays[i] = d; len(d) > 0 && d[0] == tag18 {
			arrays[i] = sign1.ArrayOf(d)
		}
	}
	b, err := sign1.JoinArrays(arrays, MaxRoots)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(b), MaxSize)
	}
	return b, nil
}

const tag18 = 0xD2 // of COSE_Sign1, RFC 9052 §2

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

// Begins says whether b begins with a delegation, rather than with what a
// delegation would justify.
func Begins(b []byte) bool { return sign1.BeginsArray(b, MaxRoots) }

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
func split(b []byte) ([][]byte, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(b), MaxSize)
	}
	messages, err := sign1.SplitArray(b, MaxRoots)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return messages, nil
}
