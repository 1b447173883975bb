package main

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/terminal"
)

// Whether the keys are kept as they should be.

// keysInUse are the keys that the agent opens: those of the configuration, and while
// the external-authentication key is replaced the one that follows it.
func (s *site) keysInUse() (places []keyPlace, err error) {
	places = s.c.keysInUse()
	if !s.c.withMethodA() {
		return places, nil
	}
	r, err := s.c.readRotation()
	if err == nil && r != nil && !sameURI(r.Key, s.c.ExternalAuth.Key) {
		places = append(places, keyPlace{"the key of " + s.c.rotationPath(), r.Key, keystore.ExternalAuth, r.Certificates})
	}
	return places, err
}

func (s *site) open(k keyPlace) (err error) {
	if k.purpose == keystore.Wrap {
		_, err = s.c.openScopeKey()
		return s.heldByAgent(k, err)
	}
	_, err = s.signer(k)
	return err
}

// signer opens a key that signs. The keyring closes it.
func (s *site) signer(k keyPlace) (*keystore.Key, error) {
	key, err := s.c.keys.lost(k.name, k.uri, k.purpose)
	if err != nil {
		return nil, err
	}
	if err := s.c.checkPlace(s.ctx, k, key); err != nil {
		return nil, s.heldByAgent(k, fmt.Errorf("%s: %w", k.name, err))
	}
	return key, nil
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
	places, failed := s.keysInUse()
	for _, k := range places {
		failed = errors.Join(failed, s.open(k))
	}
	if failed != nil {
		return bad("see docs/keystore.md, “What an error means”", "%v", failed)
	}
	return fine("%d of %d open", len(places), len(places))
}

// eachTerminalKey looks at the external-authentication key, and at the one that is to
// follow it. The first one at which something is found is told.
func (s *site) eachTerminalKey(look func(k keyPlace, key *keystore.Key) finding) (f finding) {
	places, err := s.keysInUse()
	if err != nil {
		return unknown(err, "see docs/keys.md")
	}
	f = exempt("method A is not configured: there is no external-authentication key")
	said := ""
	for _, k := range places {
		if k.purpose != keystore.ExternalAuth {
			continue
		}
		key, err := s.signer(k)
		if err != nil {
			return unknown(err, "see docs/keystore.md")
		}
		if f = look(k, key); f.Result != isOK {
			return f
		}
		if said != "" {
			said += "; "
		}
		said += f.Evidence
		f.Evidence = said
	}
	return f
}

func (s *site) keyKind() finding {
	return s.eachTerminalKey(func(k keyPlace, key *keystore.Key) finding {
		public, ok := key.Public().(*rsa.PublicKey)
		if !ok || public.N.BitLen() != 2048 {
			return bad("make another one (docs/key-ceremony.md)", "%s is no RSA-2048 key", k.name)
		}
		kcv, err := keystore.KCV(public)
		if err != nil {
			return unknown(err, "look at the medium")
		}
		return fine("RSA-2048, KCV %s", kcv)
	})
}

func (s *site) keysApart() finding {
	places, err := s.keysInUse()
	if err != nil {
		return unknown(err, "see docs/keys.md")
	}
	for _, k := range places {
		if k.purpose == keystore.Wrap {
			continue // a secret has no public half, and the medium keeps its purpose with it
		}
		key, err := s.signer(k)
		if err != nil {
			return unknown(err, "see docs/keystore.md")
		}
		if err := s.c.keys.apart(k.name, key); err != nil {
			return bad("make a key for each (docs/keys.md)", "%v", err)
		}
	}
	return fine("%d keys, no two are one", len(places))
}

func (s *site) notExportable() finding {
	return s.eachTerminalKey(func(k keyPlace, key *keystore.Key) finding {
		return exportable(s.ctx, key, k.name, key.URI().Scheme())
	})
}

// exportable tries it.
func exportable(ctx context.Context, key interface {
	Exportable(context.Context) (bool, error)
}, name, medium string) finding {
	switch can, err := key.Exportable(ctx); {
	case err != nil:
		return unknown(err, "try it with gate-agent key test")
	case can:
		return bad("keep the key on a medium that does not give it out (docs/keys.md)", "%s is exportable: %s: gave the private key out", name, medium)
	}
	return fine("%s: did not give the private key out", medium)
}

func (s *site) custody() finding {
	places, err := s.keysInUse()
	if err != nil {
		return unknown(err, "see docs/keys.md")
	}
	var open, safe []string
	for _, k := range places {
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
