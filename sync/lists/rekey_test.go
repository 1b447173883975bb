package lists_test

import (
	"bytes"
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// A rekeyed is a store whose scope key changes.
type rekeyed struct{ lists.Store }

// A list that is sealed with a new scope key has that looked for once in its round, and
// comes into force in the same one when it is there.
func TestNewScopeKeyIsLookedForOnceInARound(t *testing.T) {
	s := newSite(t, nil)
	s.publish(t, 1, s.rows, nil)
	s.brings(t, 1, lists.BySnapshot)

	var err error
	if s.world.ScopeKey, err = cardid.NewScopeKey(bytes.Repeat([]byte{7}, cardid.ScopeKeySize)); err != nil {
		t.Fatal(err)
	}
	s.world.Manifest.Epoch = 2
	s.publish(t, 1, s.rows, nil)

	store, asked := &rekeyed{s.store}, 0
	var comes func() error
	s.Updater = s.from(t, s.server.URL, func(c *lists.Config, _ *fetch.Options) {
		c.Store = store
		c.Rekey = func(context.Context) error { asked++; return comes() }
	})
	round := func() lists.Round {
		t.Helper()
		asked = 0
		r := s.Round(t.Context())
		if asked != 1 {
			t.Errorf("it was looked for %d times in a round", asked)
		}
		return r
	}

	comes = func() error { return nil } // without a key
	for range 2 {
		if r := round(); !errors.Is(r.Err, whitelist.ErrScopeKey) || !r.Refused() || r.Contact {
			t.Errorf("no key: %s", said(r))
		}
	}
	// A hub that is not reached is left alone by Follow as by any other file of it.
	comes = func() error { return syscall.ECONNREFUSED }
	if r := round(); !errors.Is(r.Err, syscall.ECONNREFUSED) || r.Refused() {
		t.Errorf("out of reach: %s", said(r))
	}
	s.inForce(t, 1)
	if s.status(t, 7) != whitelist.Active {
		t.Error("the old list is not in force")
	}

	comes = func() error {
		keys, err := s.world.ListKeys()
		if err != nil {
			return err
		}
		if err := s.store.Close(); err != nil {
			return err
		}
		s.store, err = listdb.Open(listdb.Config{Dir: s.state, Scope: world.Scope, Hierarchy: whitelist.Test, Trust: roles.Trust{Pinned: keys}, ScopeKey: s.world.ScopeKey})
		store.Store = s.store
		return err
	}
	if r := round(); r.Err != nil || r.Came != lists.BySnapshot || r.Manifest.Epoch != 2 {
		t.Errorf("with the key: %s", said(r))
	}
	asked = 0
	if r := s.Round(t.Context()); r.Err != nil || asked != 0 {
		t.Errorf("looked for %d times once it is there: %s", asked, said(r))
	}
}
