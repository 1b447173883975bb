package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
)

// A keyring opens the keys that a configuration names, for one command, and closes
// them at its end.
type keyring struct {
	ctx   context.Context
	store keystore.Store

	mu   sync.Mutex
	keys []namedKey // none is removed before the end

	// patient lets a program start while the medium of the external-authentication
	// key is absent.
	patient bool

	// lenient lets one start with a rotation whose key does not open, as long as it
	// is not in force: followRotation tells, and tries again.
	lenient bool

	// places are those of the configuration, for apart.
	places []keyPlace
}

// A namedKey is a key and the place of the configuration that names it.
type namedKey struct {
	name string
	*keystore.Key
}

func newKeyring(ctx context.Context) *keyring {
	return &keyring{ctx: ctx, store: keystore.Store{Card: connectCard}}
}

// signer opens a key. The error names its place in the configuration.
func (r *keyring) signer(name, uri string, p keystore.Purpose) (*keystore.Key, error) {
	k, err := r.lost(name, uri, p)
	if err != nil {
		return nil, err
	}
	if err := k.Check(r.ctx); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	return k, r.apart(name, k)
}

// lost is a key that nobody has looked for yet.
func (r *keyring) lost(name, uri string, p keystore.Purpose) (*keystore.Key, error) {
	k, err := r.store.Signer(uri, p)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, have := range r.keys {
		if have.name == name && have.URI().String() == k.URI().String() {
			return have.Key, nil
		}
	}
	r.keys = append(r.keys, namedKey{name, k})
	return k, nil
}

// apart refuses a key that is in another place too: what is signed for one purpose
// could be shown for the other. A command does not open every key of the
// configuration; those of other purposes that may be the same one under another URI
// are looked at. A sealed key has its purpose inside.
func (r *keyring) apart(name string, k *keystore.Key) error {
	r.mu.Lock()
	others := slices.Clone(r.keys)
	r.mu.Unlock()
	opened := make(map[string]bool)
	for _, other := range others {
		opened[other.name] = true
		if other.name != name && keystore.SameKey(k.Public(), other.Public()) {
			return oneKey(other.name, name)
		}
	}
	for _, p := range r.places {
		u, err := keystore.ParseURI(p.uri)
		if err != nil || opened[p.name] || u.Scheme() == "sealed" || u.Scheme() != k.URI().Scheme() ||
			p.purpose != keystore.Identity && p.purpose != keystore.Checkpoint {
			continue
		}
		other, err := r.store.OpenSigner(r.ctx, p.uri, p.purpose)
		if err != nil {
			continue // whoever uses that key is told, and looks at this one
		}
		same := keystore.SameKey(k.Public(), other.Public())
		if err := other.Close(); err != nil {
			return err
		}
		if same {
			return oneKey(p.name, name)
		}
	}
	return nil
}

func oneKey(a, b string) error {
	return cli.ConfigError{Err: fmt.Errorf("%s and %s are one key: each purpose has a key of its own (docs/keys.md)", a, b)}
}

func (r *keyring) close() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keys {
		err = errors.Join(err, k.Close())
	}
	return errors.Join(err, r.store.Close())
}

// cardWait is how long a card with a key may take until it is powered, and its
// reader until it is listed.
const cardWait = 5 * time.Second

// connectCard powers the card in a reader, and connects to it exclusively.
func connectCard(ctx context.Context, reader string) (keystore.Card, error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: []string{literally(reader)}, Present: true})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cardWait, fmt.Errorf("%w: no card in reader %q", keystore.ErrAbsent, reader))
	defer cancel()
	card, err := lane.Next(ctx)
	if err != nil {
		if _, ok := errors.AsType[*nfc.CardError](err); ok {
			err = fmt.Errorf("%w: %w", keystore.ErrAbsent, err)
		}
		return nil, errors.Join(err, lane.Close())
	}
	return keyCard{card, lane}, nil
}

// literally is a pattern of path.Match for one name alone: a key lies in that
// reader, and no person's card does.
func literally(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// A keyCard is a card that holds a key, with the lane that is there for it alone.
type keyCard struct {
	nfc.Card
	lane *pcsc.Lane
}

func (c keyCard) Release() error { return errors.Join(c.Card.Release(), c.lane.Close()) }

// checkKeyReaders wants that no lane looks for people's cards in the reader of a
// card that holds a key: it would take that card for one of theirs.
func (c *config) checkKeyReaders() error {
	for _, k := range c.keyPlaces() {
		if err := c.checkKeyReader(k.name, k.uri); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) checkKeyReader(name, uri string) error {
	u, err := keystore.ParseURI(uri)
	if err != nil { // told elsewhere
		return nil
	}
	reader, where := "", "in a reader"
	switch {
	case u.Scheme() == "scard":
		reader = u.Get("reader")
	case u.Scheme() == "pkcs11" && strings.Contains(filepath.Base(u.Get("module-path")), "opensc-pkcs11"):
		reader = u.Get("slot-description") // "": the module looks through all of them
	default:
		return nil
	}
	if reader != "" {
		where = fmt.Sprintf("in reader %q", reader)
	}
	for _, l := range c.lanes() {
		if len(l.Reader.Slots) == 0 {
			return fmt.Errorf("%s lies on a card %s: name the readers of people's cards in reader.slots, or that card is taken for one of theirs", name, where)
		}
		for _, pattern := range l.Reader.Slots {
			if matched, _ := path.Match(pattern, reader); reader != "" && (matched || pattern == reader) {
				return fmt.Errorf("%s lies on a card %s, which reader.slots has for people's cards with %q", name, where, pattern)
			}
		}
	}
	return nil
}

// A keyPlace is a key that the configuration names.
type keyPlace struct {
	name, uri string
	purpose   keystore.Purpose

	certificates []cvObject // of the key of a rotation
}

// keyPlaces are all of them.
func (c *config) keyPlaces() []keyPlace {
	all := []keyPlace{
		{name: "scope_key.wrapper", uri: c.ScopeKey.Wrapper, purpose: keystore.Wrap},
		{name: "external_auth.key", uri: c.ExternalAuth.Key, purpose: keystore.ExternalAuth},
		{name: "identity.key", uri: c.Identity.Key, purpose: keystore.Identity},
		{name: "checkpoint.key", uri: c.Checkpoint.Key, purpose: keystore.Checkpoint},
	}
	return slices.DeleteFunc(all, func(k keyPlace) bool { return k.uri == "" })
}

// keysInUse are those that the agent opens: not the key of method A without it.
func (c *config) keysInUse() []keyPlace {
	return slices.DeleteFunc(c.keyPlaces(), func(k keyPlace) bool {
		return k.purpose == keystore.ExternalAuth && !c.withMethodA()
	})
}

// withMethodA is whether cards are proved with the terminal's key.
func (c *config) withMethodA() bool { return slices.Contains(c.Methods, jpki.ExternalAuth) }

// expected is the public half that the key of a place must have, nil where nobody
// knows. A card in the reader of the terminal's own may be a person's: told what to
// expect, the medium sends it no PIN.
func (c *config) expected(k keyPlace) (crypto.PublicKey, error) {
	if k.purpose != keystore.ExternalAuth {
		return nil, nil
	}
	certificates := k.certificates
	if certificates == nil {
		var err error
		if certificates, err = c.terminalCertificates(); errors.Is(err, fs.ErrNotExist) {
			return nil, nil // asked for, and not there yet
		} else if err != nil {
			return nil, err
		}
	}
	if len(certificates) == 0 {
		return nil, nil
	}
	last, err := cardauth.ParseCVCertificate(certificates[len(certificates)-1])
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", k.name, err)}
	}
	return publicKey(last.PublicKey())
}

// openPlace opens the key of a place, one that signs. The caller closes it.
func (c *config) openPlace(ctx context.Context, s *keystore.Store, k keyPlace) (*keystore.Key, error) {
	key, err := s.Signer(k.uri, k.purpose)
	if err != nil {
		return nil, err
	}
	if err := c.checkPlace(ctx, k, key); err != nil {
		return nil, errors.Join(err, key.Close())
	}
	return key, nil
}

func (c *config) checkPlace(ctx context.Context, k keyPlace, key *keystore.Key) error {
	public, err := c.expected(k)
	if err == nil && public != nil {
		err = key.Expect(public)
	}
	if err != nil {
		return err
	}
	return key.Check(ctx)
}

// checkKeys checks what the URIs of keys say.
func (c *config) checkKeys() error {
	seen := make(map[string]string)
	for _, k := range c.keyPlaces() {
		if err := wholePaths(k.uri); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		u, _ := keystore.ParseURI(k.uri) // wholePaths has
		place := withoutSecrets(u)
		if other, twice := seen[place]; twice {
			return oneKey(other, k.name)
		}
		seen[place] = k.name
	}
	return c.checkKeyReaders()
}

// watch looks whether the keys are still there, and for those that are lost, until
// ctx ends. Each key has its own watcher: a medium that hangs holds up no other.
func (r *keyring) watch(ctx context.Context, log *slog.Logger) {
	var wg sync.WaitGroup
	defer wg.Wait()
	watched := 0
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		r.mu.Lock()
		fresh := r.keys[watched:]
		watched = len(r.keys)
		r.mu.Unlock()
		for _, k := range fresh {
			wg.Go(func() { k.watch(ctx, log) })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (k namedKey) watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	said := ""
	for {
		switch err := k.Check(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil && said != "":
			said = ""
			log.Info("key is there again", "key", k.name)
		case err != nil && err.Error() != said:
			said = err.Error()
			log.Error("key cannot be used", "key", k.name, "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
