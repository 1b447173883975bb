package roles

import (
	"crypto"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
)

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
	keys, err := d.Keys()
	return Warrant{keys, d}, err
}

// Ends is the last second in which the key that signed p may do so by this
// delegation. It is zero for pinned keys, and for a key that is not delegated.
func (w Warrant) Ends(p sign1.Payload) time.Time {
	if g, ok := w.Delegation.grant(p.KeyID()); ok {
		return w.Delegation.ends(g)
	}
	return time.Time{}
}

// Valid says whether the key that signed p may do so at an instant. Pinned keys
// always may.
func (w Warrant) Valid(p sign1.Payload, at time.Time) error {
	if w.Delegation.Version == 0 {
		return nil
	}
	_, err := w.Delegation.may(p.KeyID(), p.Role(), at)
	return err
}

// NotBefore says whether the delegation is at least as new as the newest version that
// was seen of its scope. With pinned keys it always is.
func (w Warrant) NotBefore(seen uint64) error {
	if v := w.Delegation.Version; v > 0 && v < seen {
		return fmt.Errorf("%w: version %d, after %d", ErrOlder, v, seen)
	}
	return nil
}

// Keys are those that the delegation names, each for its role and the scope.
func (d Delegation) Keys() (sign1.Keys, error) {
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

// May says until when a key may sign for a role. The error is ErrExpired when it may not
// at this instant, and one of package sign1 when it is not delegated for the role at all.
func (d Delegation) May(key crypto.PublicKey, role sign1.Role, at time.Time) (until time.Time, err error) {
	id, err := sign1.KeyID(key)
	if err != nil {
		return time.Time{}, err
	}
	return d.may(id, role, at)
}

func (d Delegation) may(id [32]byte, role sign1.Role, at time.Time) (until time.Time, err error) {
	now := at.Unix()
	g, ok := d.grant(id)
	switch {
	case now > d.NotAfter.Unix():
		return until, fmt.Errorf("%w: the delegation ended on %s: the root keys have to sign a new one", ErrExpired, d.NotAfter.Format(time.RFC3339))
	case !ok:
		return until, fmt.Errorf("%w: delegation %d does not name key %x", sign1.ErrUnknownKey, d.Version, id[:8])
	case g.Role != role:
		return until, fmt.Errorf("%w: delegation %d gives key %x the role %q, not %q", sign1.ErrRole, d.Version, id[:8], g.Role, role)
	case now < g.NotBefore.Unix() || now > g.NotAfter.Unix():
		return until, fmt.Errorf("%w: the %s key %x was delegated from %s to %s", ErrExpired, g.Role, id[:8],
			g.NotBefore.Format(time.RFC3339), g.NotAfter.Format(time.RFC3339))
	}
	return d.ends(g), nil
}

// grant is what the delegation says of a key.
func (d Delegation) grant(id [32]byte) (Grant, bool) {
	for _, g := range d.Grants {
		if other, err := sign1.KeyID(g.Key); err == nil && other == id {
			return g, true
		}
	}
	return Grant{}, false
}

// ends is when a grant ends: with its own time or with the delegation's.
func (d Delegation) ends(g Grant) time.Time {
	if g.NotAfter.Before(d.NotAfter) {
		return g.NotAfter
	}
	return d.NotAfter
}
