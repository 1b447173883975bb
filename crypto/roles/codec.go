package roles

import (
	"bytes"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// The wire form of docs/list-distribution.md. Decoding is strict, and what was decoded is
// encoded again and compared.

const version = 1 // of the form

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
		IssuedAt: strictcbor.Time(w.IssuedAt), NotAfter: strictcbor.Time(w.NotAfter),
	}
	for _, g := range w.Grants {
		key, err := parseKey(g.Key)
		if err != nil {
			return Delegation{}, fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		d.Grants = append(d.Grants, Grant{key, sign1.Role(g.Role), strictcbor.Time(g.NotBefore), strictcbor.Time(g.NotAfter)})
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
		IssuedAt: strictcbor.Seconds(d.IssuedAt), NotAfter: strictcbor.Seconds(d.NotAfter),
	}
	for _, g := range d.Grants {
		key, err := marshalKey(g.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		w.Grants = append(w.Grants, wireGrant{key, string(g.Role), strictcbor.Seconds(g.NotBefore), strictcbor.Seconds(g.NotAfter)})
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
	_, err := d.Keys() // a key that comes twice, or that cannot sign
	return err
}

func checkSpan(what string, from, to time.Time) error {
	for _, t := range []time.Time{from, to} {
		if err := strictcbor.CheckTime(t); err != nil {
			return fmt.Errorf("%w: a time of %s %w", ErrMalformed, what, err)
		}
	}
	if from.Unix() >= to.Unix() {
		return fmt.Errorf("%w: %s ends before it begins", ErrMalformed, what)
	}
	return nil
}
