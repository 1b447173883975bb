package publish

import (
	"crypto"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Signers are the keys that may sign the lists of a scope, and with a delegation
// what else it publishes.
type Signers struct {
	// Pinned are those that terminals pin; they do not count beside a delegation.
	Pinned []crypto.PublicKey
	// Delegation is what a root says of the scope, as it stands in front of a list;
	// none where keys are pinned.
	Delegation []byte
	// Root verifies the delegation. The zero Root does not: whoever publishes what
	// no terminal takes finds out there.
	Root roles.Root
}

// warrant is whose signatures count.
func (s Signers) warrant(scope, hierarchy string) (roles.Warrant, error) {
	if len(s.Delegation) == 0 {
		keys := make([]sign1.Key, len(s.Pinned))
		for i, k := range s.Pinned {
			keys[i] = sign1.Key{Public: k, Role: sign1.RoleList, Scope: scope}
		}
		set, err := sign1.NewKeys(keys...)
		return roles.Warrant{Keys: set}, err
	}
	d, err := roles.Peek(s.Delegation)
	if err == nil && !s.Root.IsZero() {
		d, err = s.Root.Verify(s.Delegation)
	}
	if err != nil {
		return roles.Warrant{}, fmt.Errorf("%w: %w", ErrSigner, err)
	}
	if d.Scope != scope || d.Hierarchy != hierarchy {
		return roles.Warrant{}, fmt.Errorf("%w: the delegation is for scope %q (%s), the list for %q (%s)", ErrSigner, d.Scope, d.Hierarchy, scope, hierarchy)
	}
	keys, err := d.Keys()
	return roles.Warrant{Keys: keys, Delegation: d}, err
}

// Follow refuses a delegation that is older than the one in place in a folder: no
// terminal that has seen that takes it any more.
func (s Signers) Follow(f *Folder) error {
	_, placed, _, err := f.Placed()
	if err != nil || len(placed) == 0 || len(s.Delegation) == 0 {
		return nil // what cannot be read is replaced
	}
	before, err := roles.Peek(placed)
	if err != nil {
		return nil
	}
	now, err := roles.Peek(s.Delegation)
	if err == nil && now.Version < before.Version {
		err = fmt.Errorf("delegation %d is older than delegation %d in front of the last list, and terminals take none that is: have a newer one signed", now.Version, before.Version)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSigner, err)
	}
	return nil
}

// Check verifies the delegation, as far as there is a root to do it, and that it is
// one for the scope.
func (s Signers) Check(scope registry.Scope) error {
	_, err := s.warrant(scope.Name, scope.Hierarchy)
	return err
}

// MaySign says until when a key may sign what a role signs of the scope; zero is for
// ever, as a pinned key may, which is one for lists. ErrSigner: it may not at this
// instant.
func (s Signers) MaySign(role sign1.Role, scope registry.Scope, public crypto.PublicKey, at time.Time) (until time.Time, err error) {
	w, err := s.warrant(scope.Name, scope.Hierarchy)
	if err != nil {
		return until, err
	}
	if len(s.Delegation) > 0 {
		if until, err = w.Delegation.May(public, role, at); err != nil {
			return until, fmt.Errorf("%w: %w", ErrSigner, err)
		}
		return until, nil
	}
	id, err := sign1.KeyID(public)
	if err != nil {
		return until, err
	}
	for _, k := range s.Pinned {
		if pinned, err := sign1.KeyID(k); err == nil && pinned == id {
			return until, nil
		}
	}
	return until, fmt.Errorf("%w: its public half is not the one in the configuration", ErrSigner)
}

// verify checks the signature of a manifest as a terminal that gets it now would.
func (s Signers) verify(m whitelist.Manifest, signed []byte, at time.Time) error {
	w, err := s.warrant(m.Scope, m.Hierarchy)
	if err != nil {
		return err
	}
	payload, err := w.Keys.Verify(sign1.RoleList, signed)
	if err == nil {
		err = w.Valid(payload, at)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSigner, err)
	}
	return nil
}
