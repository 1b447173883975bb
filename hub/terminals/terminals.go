// Package terminals publishes what a hub has for each terminal by itself: the lease of
// its scope key, and its commands.
//
// It promises that a terminal which was retired is issued no lease, that a lease is
// renewed long before it ends, and that two commands of a terminal never have one number.
package terminals

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/command"
)

// RenewEvery is how old a lease gets before it is renewed, unless a tenth of its term is
// less.
const RenewEvery = 24 * time.Hour

// A state is what the registry keeps of a terminal for this package.
type state struct {
	Number     uint64    `json:"number"`     // of the last command
	LeasedTo   string    `json:"leased_to"`  // SHA-256 of the delivery key, hexadecimal
	IssuedAt   time.Time `json:"issued_at"`  // of the last lease
	NotAfter   time.Time `json:"not_after"`  // of the last lease
	Delegation string    `json:"delegation"` // SHA-256 of the one before it, hexadecimal
	ScopeKey   string    `json:"scope_key"`  // check value, hexadecimal
}

func stateOf(t registry.Terminal) (s state, err error) {
	if len(t.State) > 0 {
		if err = json.Unmarshal(t.State, &s); err != nil {
			err = fmt.Errorf("state of terminal %q: %w", t.Name, err)
		}
	}
	return s, err
}

// A Standing is how far a hub is with a terminal. Zero times: no lease was issued.
type Standing struct {
	IssuedAt time.Time // of the last lease
	NotAfter time.Time // its last second
	Command  uint64    // number of the last command, 0 for none
}

// StandingOf is how far the hub is with a terminal.
func StandingOf(t registry.Terminal) (Standing, error) {
	s, err := stateOf(t)
	return Standing{s.IssuedAt, s.NotAfter, s.Number}, err
}

// A Lessor issues the leases of a scope.
type Lessor struct {
	Registry *registry.Registry
	Folder   *publish.Folder
	Scope    registry.Scope
	Signer   crypto.Signer
	Signers  publish.Signers // says whether the signer may, where there is a delegation
	Secret   []byte          // of the scope key
	Check    [16]byte
}

// may says whether terminals would take a lease of the signer.
func (l Lessor) may(at time.Time) error {
	if len(l.Signers.Delegation) == 0 {
		return nil // terminals pin the key
	}
	if err := l.Signers.Follow(l.Folder); err != nil {
		return err
	}
	_, err := l.Signers.MaySign(sign1.RoleLease, l.Scope, l.Signer.Public(), at)
	return err
}

// Renew issues the leases that are due at an instant, of all terminals that have a
// delivery key, and removes those of terminals that were retired. all says that every one
// is due. It returns the names of the terminals that got one.
func (l Lessor) Renew(ctx context.Context, at time.Time, all bool) (issued []string, err error) {
	unlock, err := l.Folder.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	terminals, err := l.Registry.Terminals(ctx, l.Scope.Name)
	if err != nil {
		return nil, err
	}
	at = at.Truncate(time.Second)
	var failed error
	for _, t := range terminals {
		if t.Retired || len(t.Delivery) == 0 {
			if err := l.Folder.Remove(lease.File(t.Name)); err != nil {
				failed = errors.Join(failed, fmt.Errorf("lease of terminal %q: %w", t.Name, err))
			}
			continue
		}
		done, err := l.renew(ctx, t, at, all)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("lease of terminal %q: %w", t.Name, err))
		} else if done {
			issued = append(issued, t.Name)
		}
	}
	return issued, failed
}

func (l Lessor) renew(ctx context.Context, t registry.Terminal, at time.Time, force bool) (bool, error) {
	s, err := stateOf(t)
	if err != nil {
		return false, err
	}
	term := time.Duration(l.Scope.LeaseDays) * 24 * time.Hour
	next := s
	next.IssuedAt, next.NotAfter = at, at.Add(term)
	next.LeasedTo, next.Delegation, next.ScopeKey = digest(t.Delivery), digest(l.Signers.Delegation), hex.EncodeToString(l.Check[:])
	_, missing := l.Folder.Get(lease.File(t.Name), lease.MaxFile)
	changed := s.LeasedTo != next.LeasedTo || s.Delegation != next.Delegation || s.ScopeKey != next.ScopeKey
	if !force && missing == nil && !changed && at.Sub(s.IssuedAt) < min(RenewEvery, term/10) && at.Before(s.NotAfter) {
		return false, nil
	}
	if err := l.may(at); err != nil {
		return false, err
	}
	if !at.After(s.IssuedAt) { // a terminal takes none that is older than the last one
		next.IssuedAt = s.IssuedAt.Add(time.Second)
	}
	key, err := x509.ParsePKIXPublicKey(t.Delivery)
	if err != nil {
		return false, err
	}
	public, ok := key.(*ecdh.PublicKey)
	if !ok {
		return false, errors.New("its delivery key is not one of X25519: gate-agent key delivery prints it")
	}
	file, err := lease.Issue(l.Signer, l.Signers.Delegation, public, l.Secret, lease.Terms{
		Scope: l.Scope.Name, Hierarchy: l.Scope.Hierarchy, Terminal: t.Name, IssuedAt: next.IssuedAt, NotAfter: next.NotAfter,
	})
	if err != nil {
		return false, err
	}
	// First what is remembered: a lease that is lost is issued again, newer.
	if err := keep(ctx, l.Registry, l.Scope.Name, t.Name, next); err != nil {
		return false, err
	}
	return true, l.Folder.Put(lease.File(t.Name), file, at)
}

func digest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

func keep(ctx context.Context, r *registry.Registry, scope, name string, s state) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return r.SetTerminalState(ctx, scope, name, b)
}

func find(ctx context.Context, r *registry.Registry, scope, name string) (registry.Terminal, state, error) {
	all, err := r.Terminals(ctx, scope)
	if err != nil {
		return registry.Terminal{}, state{}, err
	}
	for _, t := range all {
		if t.Name == name {
			s, err := stateOf(t)
			return t, s, err
		}
	}
	return registry.Terminal{}, state{}, fmt.Errorf("%w: terminal %q in scope %q", registry.ErrNotFound, name, scope)
}

// Refresh puts another delegation in front of the commands that are published: a
// terminal that has seen it takes none under an older one, and a command that waits for
// a terminal would be lost.
func Refresh(ctx context.Context, r *registry.Registry, f *publish.Folder, scope registry.Scope, signers publish.Signers, at time.Time) (err error) {
	unlock, err := f.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := errors.Join(signers.Check(scope), signers.Follow(f)); err != nil {
		return err
	}
	terminals, err := r.Terminals(ctx, scope.Name)
	if err != nil {
		return err
	}
	for _, t := range terminals {
		name := command.File(t.Name)
		old, err := f.Get(name, command.MaxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var fresh []byte
		if err == nil {
			fresh, err = command.Under(old, signers.Delegation)
		}
		if err == nil && !bytes.Equal(old, fresh) {
			err = f.Put(name, fresh, at)
		}
		if err != nil {
			return fmt.Errorf("commands of terminal %q: %w", t.Name, err)
		}
	}
	return nil
}

// NextNumber is the number of the next command to a terminal. A retired one can be
// commanded too: it is the one to wipe.
func NextNumber(ctx context.Context, r *registry.Registry, f *publish.Folder, scope, name string) (uint64, error) {
	_, s, err := find(ctx, r, scope, name)
	if err != nil {
		return 0, err
	}
	file, err := f.Get(command.File(name), command.MaxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	published, err := command.Commands(file)
	for _, c := range published {
		s.Number = max(s.Number, c.Number)
	}
	return s.Number + 1, err
}

// Publish verifies a signed command as its terminal will, and puts it behind those that
// are published.
func Publish(ctx context.Context, r *registry.Registry, f *publish.Folder, trust roles.Trust, delegation, item []byte, at time.Time) (c command.Command, err error) {
	if c, err = command.Peek(item); err != nil {
		return c, err
	}
	unlock, err := f.Lock(ctx)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	_, s, err := find(ctx, r, c.Scope, c.Terminal)
	if err != nil {
		return c, err
	}
	old, err := f.Get(command.File(c.Terminal), command.MaxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	alone, err := command.Append(nil, delegation, item, at)
	if err != nil {
		return c, err
	}
	got, _, err := command.Terminal{Scope: c.Scope, Hierarchy: c.Hierarchy, Name: c.Terminal, Trust: trust, Floor: s.Number, At: at}.Read(alone)
	if err == nil {
		err = got[0].Err
	}
	if err != nil {
		return c, err
	}
	file, err := command.Append(old, delegation, item, at)
	if err != nil {
		return c, err
	}
	s.Number = c.Number
	if err := keep(ctx, r, c.Scope, c.Terminal, s); err != nil {
		return c, err
	}
	return c, f.Put(command.File(c.Terminal), file, at)
}
