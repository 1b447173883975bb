package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"os"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/registration"
)

// maxFile bounds the small files that a configuration or a command names.
const maxFile = 1 << 20

// A site is a hub that is open, for one command.
type site struct {
	*config
	registry *registry.Registry
	keys     *keystore.Store
	bus      *bus.Bus // nil: none, or the hub does not serve

	buckets sync.Mutex // of who makes one
}

// openSite opens the hub of --config.
func openSite(cmd *cobra.Command) (*site, error) {
	path, _ := cmd.Flags().GetString("config")
	c, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	r, err := registry.Open(cmd.Context(), c.registryName())
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return &site{config: c, registry: r, keys: new(keystore.Store)}, nil
}

func (s *site) Close() error { return errors.Join(s.registry.Close(), s.keys.Close()) }

// withSite gives a command its hub.
func withSite(f func(cmd *cobra.Command, s *site, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		s, err := openSite(cmd)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return f(cmd, s, args)
	}
}

// withScope gives a command its hub and the scope that it is about.
func withScope(cmd *cobra.Command, f func(cmd *cobra.Command, s *site, scope string, args []string) error) {
	var name string
	cmd.Flags().StringVar(&name, "scope", "", "the scope; the only one by default")
	cmd.RunE = withSite(func(cmd *cobra.Command, s *site, args []string) error {
		scope, err := s.scope(name)
		if err != nil {
			return err
		}
		return f(cmd, s, scope, args)
	})
}

// A doer is who does something, and why.
type doer struct{ actor, reason string }

func (d *doer) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.actor, "actor", "", "who does this, for the history; your login by default")
	cmd.Flags().StringVar(&d.reason, "reason", "", "why, in words that name no person")
}

// because is flags for what has to be explained.
func (d *doer) because(cmd *cobra.Command) {
	d.flags(cmd)
	require(cmd, "reason")
}

// require has a command that lacks one of these flags say which, and what it is, before
// it opens or asks anything.
func require(cmd *cobra.Command, flags ...string) {
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, a []string) error {
		for _, name := range flags {
			if f := cmd.Flag(name); !f.Changed || strings.Trim(f.Value.String(), `[]"`) == "" { // the punctuation is of a list
				return cli.UsageError(fmt.Sprintf("--%s is missing: %s", name, f.Usage))
			}
		}
		return args(cmd, a)
	}
}

func (d *doer) by() registry.By {
	actor := d.actor
	if actor == "" {
		actor = "uid-" + strconv.Itoa(os.Getuid())
		if u, err := user.Current(); err == nil && u.Username != "" {
			actor = u.Username
		}
	}
	return registry.By{Actor: actor, Reason: d.reason, At: time.Now()}
}

// scopeKey opens the key of a scope.
func (s *site) scopeKey(ctx context.Context, c *scopeConfig) (key cardid.ScopeKey, err error) {
	secret, err := s.scopeSecret(ctx, c)
	if err != nil {
		return key, err
	}
	defer clear(secret)
	return cardid.NewScopeKey(secret)
}

func (s *site) scopeSecret(ctx context.Context, c *scopeConfig) (secret []byte, err error) {
	wrapper, err := s.keys.OpenWrapper(ctx, s.Wrapper)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("wrapper: %w", err)}
	}
	defer func() { err = errors.Join(err, wrapper.Close()) }()
	path := within(c.folder, c.ScopeKey)
	blob, err := smallfile.Read(path, maxFile, 0o077)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("scope_key: %w", err)}
	}
	secret, err = wrapper.Unwrap(blob, cardid.WrapLabel(c.Scope))
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("scope_key %s: %w", path, err)}
	}
	return secret, nil
}

// signers are the keys that may sign lists of a scope, as its files say now.
func (c *scopeConfig) signers() (s publish.Signers, err error) {
	if s.Pinned, err = c.publicKeys("list_public", c.ListPublic); err != nil {
		return s, err
	}
	if c.Delegation == "" {
		return s, nil
	}
	if s.Delegation, err = smallfile.Read(within(c.folder, c.Delegation), roles.MaxSize, 0); err != nil {
		return s, cli.ConfigError{Err: fmt.Errorf("delegation: %w", err)}
	}
	if len(s.Delegation) == 0 { // not the same as none: terminals that trust a root take no list without it
		return s, cli.ConfigError{Err: fmt.Errorf("delegation: %s is empty", within(c.folder, c.Delegation))}
	}
	if len(c.Root.Keys) > 0 {
		keys, err := c.publicKeys("root.keys", c.Root.Keys)
		if err == nil {
			s.Root, err = roles.NewRoot(c.Root.Threshold, keys...)
		}
		if err != nil {
			return s, cli.ConfigError{Err: err}
		}
	}
	return s, nil
}

func (c *scopeConfig) publicKeys(name string, files []string) (keys []crypto.PublicKey, err error) {
	for _, f := range files {
		k, err := readPublicKey(within(c.folder, f))
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", name, err)}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func readPublicKey(path string) (crypto.PublicKey, error) {
	text, err := smallfile.Read(path, maxFile, 0)
	if err != nil {
		return nil, err
	}
	k, err := sign1.ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// A publisher publishes one scope.
type publisher struct {
	*publish.Publisher
	config *scopeConfig
	key    *keystore.Key // nil where lists are signed elsewhere
}

func (p *publisher) Close() error {
	err := p.Folder.Close()
	if p.key != nil {
		err = errors.Join(err, p.key.Close())
	}
	return err
}

// openPublisher opens the keys and the folder of a scope. sealing says that rows
// will be sealed; lists are signed by the key of the scope, where it has one.
func (s *site) openPublisher(ctx context.Context, scope string, sealing bool) (*publisher, error) {
	c, err := s.loadScope(scope)
	if err != nil {
		return nil, err
	}
	p := &publisher{&publish.Publisher{Registry: s.registry, Scope: scope, Keep: s.Serve.Keep.Duration}, c, nil}
	if p.Signers, err = c.signers(); err != nil {
		return nil, err
	}
	if sealing {
		if p.Key, err = s.scopeKey(ctx, c); err != nil {
			return nil, err
		}
	}
	if p.Folder, err = s.openFolder(scope); err != nil {
		return nil, err
	}
	if sealing && c.ListKey != "" {
		if p.key, err = s.keys.OpenSigner(ctx, c.ListKey, keystore.List); err != nil {
			return nil, errors.Join(cli.ConfigError{Err: fmt.Errorf("list_key: %w", err)}, p.Folder.Close())
		}
	}
	return p, nil
}

// withPublisher is withScope for a command that publishes.
func withPublisher(cmd *cobra.Command, sealing bool, f func(cmd *cobra.Command, p *publisher, args []string) error) {
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, args []string) (err error) {
		p, err := s.openPublisher(cmd.Context(), scope, sealing)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Close()) }()
		return f(cmd, p, args)
	})
}

// anchors are the authorities of a scope's cards.
func (c *scopeConfig) anchors(hierarchy string) (set anchor.Set, err error) {
	var h anchor.Hierarchy
	if err := h.UnmarshalText([]byte(hierarchy)); err != nil {
		return set, err
	}
	var pins []anchor.Pin
	for _, text := range c.Anchors.Pins {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(anchor.Pin{}) {
			return set, cli.ConfigError{Err: fmt.Errorf("anchors.pins has %q: want the SHA-256 of a certificate, 64 hexadecimal digits", text)}
		}
		pins = append(pins, anchor.Pin(b))
	}
	var files [][]byte
	for _, name := range c.Anchors.Files {
		b, err := smallfile.Read(within(c.folder, name), maxFile, 0)
		if err != nil {
			return set, cli.ConfigError{Err: fmt.Errorf("anchors.files: %w", err)}
		}
		files = append(files, b)
	}
	if set, err = anchor.Load(h, pins, files...); err != nil {
		return set, cli.ConfigError{Err: fmt.Errorf("anchors of %s: %w", filepath.Join(c.folder, scopeName), err)}
	}
	return set, nil
}

// builtinKeys, in the place of a key file, says that the operator has confirmed
// the built-in card-surface authority.
const builtinKeys = "built-in"

// registrationTrust is whose registrations a scope takes.
func (s *site) registrationTrust(ctx context.Context, scope string, maxAge time.Duration) (t registration.Trust, err error) {
	c, err := s.loadScope(scope)
	if err != nil {
		return t, err
	}
	is, err := s.registry.Scope(ctx, scope)
	if err != nil {
		return t, err
	}
	set, err := c.anchors(is.Hierarchy)
	if err != nil {
		return t, err
	}
	t = registration.Trust{Hierarchy: is.Hierarchy, Anchors: set.Certificates(), MaxAge: maxAge}
	if t.Keys, err = s.registry.TerminalKeys(ctx, scope); err != nil {
		return t, err
	}
	switch name := c.Anchors.SurfaceKeys; name {
	case "":
	case builtinKeys:
		t.SurfaceAuthorities = anchor.BuiltinSurface(set.Hierarchy())
	default:
		text, err := smallfile.Read(within(c.folder, name), maxFile, 0)
		if err == nil {
			t.SurfaceAuthorities, err = anchor.LoadSurface(set.Hierarchy(), text)
		}
		if err != nil {
			return t, cli.ConfigError{Err: fmt.Errorf("anchors.surface_keys: %w", err)}
		}
	}
	return t, nil
}

// answer prints what a command found: one JSON object, or lines of name and value.
func answer(w io.Writer, asJSON bool, v any, lines ...[2]string) error {
	if asJSON {
		return json.NewEncoder(w).Encode(v)
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-18s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print one JSON object")
}

// instant is a time for people.
func instant(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}
