package main

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// What a configuration names, opened one by one. Each error names the key of
// the configuration that it concerns.

func (c *config) openScopeKey() (key cardid.ScopeKey, err error) {
	if c.ScopeKey.Lease {
		_, key, err := c.storedLease(latestOf(time.Now(), c.memory.State().Seen))
		if err != nil {
			return cardid.ScopeKey{}, cli.ConfigError{Err: fmt.Errorf("%w: %w: gate-agent run and sync now fetch it from list.source", errNoScopeKey, err)}
		}
		return key, nil
	}
	wrapper, err := c.openWrapper()
	if err != nil {
		return cardid.ScopeKey{}, err
	}
	defer func() { err = errors.Join(err, wrapper.Close()) }()
	blob, err := readFile(c.path(c.ScopeKey.File))
	if err != nil {
		return cardid.ScopeKey{}, cli.ConfigError{Err: fmt.Errorf("scope_key.file: %w", err)}
	}
	secret, err := wrapper.Unwrap(blob, cardid.WrapLabel(c.Scope))
	if err != nil {
		return cardid.ScopeKey{}, cli.ConfigError{Err: fmt.Errorf("scope_key.file %s: %w (is it wrapped for scope %q and this wrapper?)", c.ScopeKey.File, err, c.Scope)}
	}
	if key, err = cardid.NewScopeKey(secret); err != nil {
		return cardid.ScopeKey{}, cli.ConfigError{Err: fmt.Errorf("scope_key.file %s: %w", c.ScopeKey.File, err)}
	}
	return key, nil
}

func (c *config) openAnchors() (anchor.Set, error) {
	pins, err := c.pins()
	if err != nil {
		return anchor.Set{}, cli.ConfigError{Err: err}
	}
	var files [][]byte
	for _, name := range c.Anchors.Files {
		b, err := readFile(c.path(name))
		if err != nil {
			return anchor.Set{}, cli.ConfigError{Err: fmt.Errorf("anchors.files: %w", err)}
		}
		files = append(files, b)
	}
	if len(files) == 0 && c.Mode == anchor.Test {
		return anchor.Set{}, nil // trusts nothing: registered keys need no anchor
	}
	set, err := anchor.Load(c.Mode, pins, files...)
	if err != nil {
		return anchor.Set{}, cli.ConfigError{Err: fmt.Errorf("anchors: %w", err)}
	}
	return set, nil
}

// openSurfaceKeys opens the card-surface authorities, nil where none are named.
func (c *config) openSurfaceKeys() ([]cardauth.CVAuthority, error) {
	switch name := c.Anchors.SurfaceKeys; name {
	case "":
		return nil, nil
	case builtinKeys:
		return anchor.BuiltinSurface(c.Mode), nil
	default:
		b, err := readFile(c.path(name))
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("anchors.surface_keys: %w", err)}
		}
		authorities, err := anchor.LoadSurface(c.Mode, b)
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("anchors.surface_keys: %s: %w", name, err)}
		}
		return authorities, nil
	}
}

// A proof is what a card is spoken to and checked with.
type proof struct {
	dialogue *jpki.Dialogue
	keys     *terminalKeys // of method A, nil without
	anchors  anchor.Set
	surface  []cardauth.CVAuthority
}

func (c *config) openProof() (p proof, err error) {
	if p.anchors, err = c.openAnchors(); err != nil {
		return p, err
	}
	if p.surface, err = c.openSurfaceKeys(); err != nil {
		return p, err
	}
	if p.dialogue, p.keys, err = c.openDialogue(); err != nil {
		return p, err
	}
	return p, c.checkFirstUse(p.dialogue, p.anchors, p.surface)
}

// checkFirstUse checks that what first use needs is there, if it is configured.
func (c *config) checkFirstUse(d *jpki.Dialogue, anchors anchor.Set, surface []cardauth.CVAuthority) error {
	switch {
	case !c.TapUse.FirstUse:
		return nil
	case !d.CanFirstUse():
		return cli.ConfigError{Err: errors.New("tap_use.first_use: the card profile has no [first_use]")}
	case len(anchors.Certificates()) == 0:
		return cli.ConfigError{Err: errors.New("tap_use.first_use: anchors.files names no certificate that could vouch for a card")}
	case len(surface) == 0:
		return cli.ConfigError{Err: errors.New("tap_use.first_use: anchors.surface_keys names no key")}
	}
	return nil
}

// openLists puts the list store into use, unless its key is leased: then the lease does.
func (c *config) openLists(list *listSwitch) error {
	if err := c.makeState(); err != nil {
		return cli.ConfigError{Err: fmt.Errorf("state: %w", err)}
	}
	if c.ScopeKey.Lease {
		return list.drop(errNoLease)
	}
	key, err := c.openScopeKey()
	if err != nil {
		return err
	}
	store, err := c.openList(key)
	if err != nil {
		return err
	}
	return list.put(store)
}

func (c *config) openList(key cardid.ScopeKey) (*listdb.Store, error) {
	trust, err := c.trust()
	if err != nil {
		return nil, err
	}
	store, err := listdb.Open(listdb.Config{
		Dir: c.scopeFolder(c.Scope), Scope: c.Scope, Hierarchy: c.Mode.String(), Trust: trust, ScopeKey: key,
	})
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return store, nil
}

func (c *config) journalPath() string { return filepath.Join(c.path(c.State), "journal.db") }

func (c *config) openJournal(now func() time.Time) (*journal.Journal, error) {
	j, err := journal.Open(c.journalPath(), now)
	if err != nil {
		return nil, journalError(err)
	}
	return j, nil
}

func (c *config) openProfile() (jpki.Profile, error) {
	switch c.Card.Profile {
	case "":
		return jpki.DefaultProfile(), nil
	case builtinChallengeFirst:
		return jpki.ChallengeFirst(jpki.DefaultProfile()), nil
	}
	profile, err := readProfile(c.path(c.Card.Profile))
	if err != nil {
		return profile, cli.ConfigError{Err: fmt.Errorf("card.profile: %w", err)}
	}
	return profile, nil
}

func readProfile(path string) (jpki.Profile, error) {
	text, err := readFile(path)
	if err != nil {
		return jpki.Profile{}, err
	}
	profile, err := jpki.ParseProfile(text)
	if err != nil {
		return profile, fmt.Errorf("%s: %w", path, err)
	}
	return profile, nil
}

// openDialogue opens what a card is spoken to with. keys are nil without method A.
func (c *config) openDialogue() (d *jpki.Dialogue, keys *terminalKeys, err error) {
	profile, err := c.openProfile()
	if err != nil {
		return nil, nil, err
	}
	if keys, err = c.openTerminalKeys(profile); err != nil {
		return nil, nil, err
	}
	d, err = newDialogue(profile, keys)
	return d, keys, err
}

func newDialogue(profile jpki.Profile, keys *terminalKeys) (*jpki.Dialogue, error) {
	if keys == nil {
		return jpki.NewDialogue(profile, nil, rand.Reader)
	}
	return jpki.NewDialogue(profile, keys, rand.Reader)
}

// openIdentity opens the key with which this terminal signs what it reports.
func (c *config) openIdentity() (crypto.Signer, error) {
	if c.Identity.Key == "" {
		return nil, cli.ConfigError{Err: errors.New("identity.key is missing: name the key with which this terminal signs (docs/registration.md, docs/journal.md)")}
	}
	return c.keys.signer("identity.key", c.Identity.Key, keystore.Identity)
}

// openCheckpointKey opens the key that signs checkpoints, nil where none is configured.
func (c *config) openCheckpointKey() (crypto.Signer, error) {
	if c.Checkpoint.Key == "" {
		return nil, nil
	}
	return c.keys.signer("checkpoint.key", c.Checkpoint.Key, keystore.Checkpoint)
}

// custody says, for each key medium in use, what it protects against.
func (c *config) custody() ([]string, error) {
	var said []string
	var failed error
	for _, k := range c.keysInUse() {
		custody, err := keystore.CustodyOf(k.uri)
		failed = errors.Join(failed, err)
		if !slices.Contains(said, custody.Text) {
			said = append(said, custody.Text)
		}
	}
	return said, failed
}

// maxFile bounds the files that a configuration names, and itself, in bytes.
const maxFile = 1 << 20

// readFile reads a small regular file.
func readFile(path string) ([]byte, error) { return smallfile.Read(path, maxFile, 0) }
