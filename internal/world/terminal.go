package world

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// Install writes what an operator would put on a terminal into dir: a
// configuration, keys sealed under a key source, certificates, and the list.
// It returns the path of the configuration.
func (w *World) Install(dir string, methods string, list []byte) (config string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	uri := func(name string) string {
		return fmt.Sprintf("sealed:path=%s;key-source=%s", in(name), in("key-source"))
	}
	ctx, store := context.Background(), new(keystore.Store)
	if err := keystore.GenerateKeySource(in("key-source")); err != nil {
		return "", err
	}
	if err := store.Import(ctx, uri("external-auth.key"), keystore.ExternalAuth, w.TerminalKey); err != nil {
		return "", err
	}
	if err := store.Import(ctx, uri("identity.key"), keystore.Identity, w.IdentityKey); err != nil {
		return "", err
	}
	checkpointPublic, err := store.Generate(ctx, uri("checkpoint.key"), keystore.Checkpoint, keystore.Ed25519)
	if err != nil {
		return "", err
	}
	if err := store.GenerateWrapper(ctx, uri("wrap.key")); err != nil {
		return "", err
	}
	wrapper, err := store.OpenWrapper(ctx, uri("wrap.key"))
	if err != nil {
		return "", err
	}
	scopeKey, err := wrapper.Wrap(w.ScopeSecret, cardid.WrapLabel(Scope))
	if err != nil {
		return "", err
	}
	listKey, err := sign1.MarshalPublicKey(w.ListKey.Public())
	if err != nil {
		return "", err
	}
	identityKey, err := sign1.MarshalPublicKey(w.IdentityKey.Public())
	if err != nil {
		return "", err
	}
	checkpointKey, err := sign1.MarshalPublicKey(checkpointPublic)
	if err != nil {
		return "", err
	}
	var ca []byte
	for _, anchor := range w.Anchors() {
		ca = append(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anchor.Raw})...)
	}
	text := fmt.Sprintf(configText, Scope, Terminal, methods, Gate, uri("wrap.key"), strings.HasPrefix(methods, `["`+string(jpki.TapUse)), uri("external-auth.key"), uri("identity.key"), uri("checkpoint.key"))
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"scope.key", scopeKey}, {"list.pub.pem", listKey}, {"identity.pub.pem", identityKey}, {"checkpoint.pub.pem", checkpointKey}, {"ca.pem", ca}, {"list.cose", list},
		{"surface-keys.json", w.surfaceKeys()}, {"intermediate.cvc", w.TerminalCertificates[0]}, {"terminal.cvc", w.TerminalCertificates[1]},
		{"config.toml", []byte(text)},
	} {
		err = errors.Join(err, os.WriteFile(in(f.name), f.content, 0o600))
	}
	return in("config.toml"), err
}

const configText = `# A terminal of the test world: it trusts test cards only.
mode     = "test"
scope    = %q
terminal = %q
methods  = %s
state    = "state"

[gate]
name   = %q
driver = "simulator"

[holder_check]
external-auth = "none"   # a real terminal leaves this at "staff"

[scope_key]
file    = "scope.key"
wrapper = %q

[list]
keys = ["list.pub.pem"]

[anchors]
files        = ["ca.pem"]
surface_keys = "surface-keys.json"

[tap_use]
first_use = %v   # a real terminal leaves this at false (docs/protocol.md says what it does not prove)

[external_auth]
key          = %q
certificates = ["intermediate.cvc", "terminal.cvc"]

[identity]
key = %q

[checkpoint]
key = %q
`

// A Site is the state of a terminal in process: a real list store and a real
// journal, for any number of lanes.
type Site struct {
	World   *World
	Store   *listdb.Store
	Journal *journal.Journal
}

// Open opens the state folder dir.
func (w *World) Open(dir string) (_ *Site, err error) {
	s := &Site{World: w}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	keys, err := w.ListKeys()
	if err != nil {
		return nil, err
	}
	if s.Store, err = listdb.Open(listdb.Config{Dir: dir, Scope: Scope, Hierarchy: whitelist.Test, Trust: roles.Trust{Pinned: keys}, ScopeKey: w.ScopeKey}); err != nil {
		return nil, err
	}
	s.Journal, err = journal.Open(filepath.Join(dir, "journal.db"), w.Clock)
	return s, err
}

// Lane makes a lane with a simulated gate. It uses both methods and first use,
// and lets nobody compare person and card, unless change says otherwise.
func (s *Site) Lane(reader terminal.Reader, change func(*terminal.Config, *terminal.Parts)) (*terminal.Lane, *gate.Simulator, error) {
	dialogue, err := s.World.Dialogue(jpki.DefaultProfile())
	if err != nil {
		return nil, nil, err
	}
	simulator := gate.NewSimulator(nil)
	config := terminal.Config{
		Scope: Scope, Terminal: Terminal, GateName: Gate,
		Methods:     []jpki.Method{jpki.TapUse, jpki.ExternalAuth},
		HolderCheck: map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckNone, jpki.ExternalAuth: terminal.CheckNone},
		Deadline:    terminal.DefaultDeadline, HolderCheckTimeout: terminal.DefaultHolderCheckTimeout,
		PassTime: terminal.DefaultPassTime,
		FirstUse: true, Anchors: s.World.Anchors(), SurfaceAuthorities: s.World.SurfaceAuthorities(),
	}
	parts := terminal.Parts{
		Reader: reader, Dialogue: dialogue, List: s.Store, Journal: s.Journal, Gate: simulator, Checker: simulator,
		Rand: rand.Reader, Now: time.Now, After: time.After,
		Observe: func(terminal.Decision) {}, Incidents: func(terminal.Incident) {},
	}
	if change != nil {
		change(&config, &parts)
	}
	lane, err := terminal.NewLane(config, parts)
	return lane, simulator, err
}

// Close closes list and journal.
func (s *Site) Close() error {
	var err error
	if s.Journal != nil {
		err = s.Journal.Close()
	}
	if s.Store != nil {
		err = errors.Join(err, s.Store.Close())
	}
	return err
}

// Dialogue speaks as a terminal that holds the world's terminal key.
func (w *World) Dialogue(profile jpki.Profile) (*jpki.Dialogue, error) {
	key, err := w.ExternalAuthKey(w.TerminalKey)
	if err != nil {
		return nil, err
	}
	return jpki.NewDialogue(profile, key, rand.Reader)
}

// ExternalAuthKey ties signer, which has the world's terminal key, to the
// terminal's certificates.
func (w *World) ExternalAuthKey(signer crypto.Signer) (*jpki.TerminalKey, error) {
	var certificates []cardauth.CVCertificate
	for _, b := range w.TerminalCertificates {
		c, err := cardauth.ParseCVCertificate(b)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	return jpki.NewTerminalKey(signer, certificates...)
}

// Anchors are the CA certificates that a terminal of this world trusts: of the
// cards, of the SIMs, and of the next generation of cards.
func (w *World) Anchors() []*x509.Certificate {
	return []*x509.Certificate{w.Authority.CACertificate(), w.Authority.SIMCACertificate(), w.Authority.NextCACertificate()}
}

// SurfaceAuthorities are the keys under which a terminal of this world trusts
// age records.
func (w *World) SurfaceAuthorities() []cardauth.CVAuthority {
	id, public := w.Authority.SurfaceCA()
	key, err := cardkey.New(public)
	if err != nil {
		panic("world: " + err.Error()) // every authority has an RSA-2048 key
	}
	return []cardauth.CVAuthority{{ID: cardauth.CVKeyID(id), Key: key}}
}

// surfaceKeys is the same as a key file.
func (w *World) surfaceKeys() []byte {
	id, public := w.Authority.SurfaceCA()
	return fmt.Appendf(nil, `{
  "about": "card-surface authority of the test world",
  "keys": [{"hierarchy": "test", "key_id_hex": "%x", "printable": "%s/%s", "modulus_hex": "%x"}]
}
`, id, id[:7], id[9:12], public.N)
}
