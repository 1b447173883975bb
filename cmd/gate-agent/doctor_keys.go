package main

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/terminal"
)

// Whether the keys are kept as they should be.

// keysInUse are the keys of the configuration that the agent opens.
func (s *site) keysInUse() (places []keyPlace) {
	for _, k := range s.c.keyPlaces() {
		if k.uri != "" && (k.purpose != keystore.ExternalAuth || s.withMethodA()) {
			places = append(places, k)
		}
	}
	return places
}

func (s *site) open(k keyPlace) (err error) {
	if k.purpose == keystore.Wrap {
		_, err = s.c.openScopeKey()
	} else {
		_, err = s.c.keys.signer(k.name, k.uri, k.purpose)
	}
	return s.heldByAgent(k, err)
}

// errHeld is no fault of the key.
var errHeld = errors.New("the running agent has the card for itself: stop it to look at this key")

// heldByAgent tells a card that is not there from one that the agent has.
func (s *site) heldByAgent(k keyPlace, err error) error {
	if u, bad := keystore.ParseURI(k.uri); err == nil || bad != nil || u.Scheme() != "scard" {
		return err
	}
	if _, gone := s.agent(); gone != nil {
		return err
	}
	return fmt.Errorf("%s: %w", k.name, errHeld)
}

func (s *site) keys() finding {
	var failed error
	places := s.keysInUse()
	for _, k := range places {
		failed = errors.Join(failed, s.open(k))
	}
	if failed != nil {
		return bad("see docs/keystore.md, “What an error means”", "%v", failed)
	}
	return fine("%d of %d open", len(places), len(places))
}

// terminalKey opens the external-authentication key; because is set when it is not to
// be had.
func (s *site) terminalKey() (key *keystore.Key, because *finding) {
	if !s.withMethodA() {
		f := exempt("method A is not configured: there is no external-authentication key")
		return nil, &f
	}
	k := keyPlace{"external_auth.key", s.c.ExternalAuth.Key, keystore.ExternalAuth}
	key, err := s.c.keys.signer(k.name, k.uri, k.purpose)
	if err = s.heldByAgent(k, err); err != nil {
		f := unknown(err, "see docs/keystore.md")
		return nil, &f
	}
	return key, nil
}

func (s *site) keyKind() finding {
	key, because := s.terminalKey()
	if because != nil {
		return *because
	}
	public, ok := key.Public().(*rsa.PublicKey)
	if !ok || public.N.BitLen() != 2048 {
		return bad("make another one (docs/key-ceremony.md)", "external_auth.key is no RSA-2048 key")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return unknown(err, "look at the medium")
	}
	return fine("RSA-2048, SHA-256 of its public key %x", sha256.Sum256(der))
}

func (s *site) keysApart() finding {
	for _, k := range s.keysInUse() {
		if k.purpose == keystore.Wrap {
			continue // a secret has no public half, and the medium keeps its purpose with it
		}
		key, err := s.c.keys.lost(k.name, k.uri, k.purpose)
		if err == nil {
			err = s.heldByAgent(k, key.Check(s.ctx))
		}
		if err != nil {
			return unknown(err, "see docs/keystore.md")
		}
	}
	if err := s.c.keys.apart(); err != nil {
		return bad("make a key for each (gate-agent key new)", "%v", err)
	}
	return fine("%d keys, no two are one", len(s.keysInUse()))
}

func (s *site) notExportable() finding {
	key, because := s.terminalKey()
	if because != nil {
		return *because
	}
	return exportable(s.ctx, key, key.URI().Scheme())
}

// exportable tries it. The rest of a check that took a key out is to say so.
func exportable(ctx context.Context, key interface {
	Exportable(context.Context) (bool, error)
}, medium string) finding {
	switch can, err := key.Exportable(ctx); {
	case err != nil:
		return unknown(err, "try it with gate-agent key test")
	case can:
		return bad("keep the key on a medium that does not give it out (docs/keys.md)", "external_auth.key is exportable: %s: gave the private key out", medium)
	}
	return fine("%s: did not give the private key out", medium)
}

func (s *site) custody() finding {
	var open, safe []string
	for _, k := range s.keysInUse() {
		custody, err := keystore.CustodyOf(k.uri)
		switch {
		case err != nil:
			return unknown(fmt.Errorf("%s: %w", k.name, err), "see docs/keystore.md")
		case custody.DiskOpens:
			open = append(open, k.name)
		default:
			safe = append(safe, k.name+" "+custody.Text)
		}
	}
	if open != nil {
		return bad("keep keys, or their key sources, where a copied disk has not got them (docs/keys.md)", "a copied disk opens %s", strings.Join(open, ", "))
	}
	return fine("%s", strings.Join(safe, "; "))
}

func (s *site) supervisors() finding {
	const next = "put a second supervisor into the roster (docs/staff.md)"
	roster, err := s.c.openRoster()
	switch {
	case err != nil:
		return unknown(err, "see docs/staff.md")
	case roster == nil:
		return bad(next, "no roster is configured")
	}
	if n := roster.With(terminal.Supervisor); n < 2 {
		return bad(next, "supervisors: %d", n)
	}
	return fine("supervisors: %d", roster.With(terminal.Supervisor))
}

// passcodes: a roster with a passcode in another form, or a weak hash, does not load.
func (s *site) passcodes() finding {
	roster, err := s.c.openRoster()
	switch {
	case err != nil:
		return bad("put the line there that gate-agent staff passcode prints", "%v", err)
	case roster == nil:
		return exempt("no roster, no passcodes")
	}
	return fine("%d, each an argon2id hash", roster.Len())
}
