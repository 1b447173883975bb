package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
)

// Files of a hub.
const (
	configName   = "hub.toml"
	scopesFolder = "scopes"
	scopeName    = "scope.toml" // in a folder for each scope
	tlsFolder    = "tls"
	keysFolder   = "keys"

	maxConfig = 1 << 20 // bytes
)

// A config is hub.toml. docs/hub.md describes every key. Paths in it are relative
// to its folder.
type config struct {
	Name     string `toml:"name"`
	Registry string `toml:"registry"` // sqlite:PATH or a URL of PostgreSQL's
	Files    string `toml:"files"`    // the folder that is served
	Wrapper  string `toml:"wrapper"`  // key URI of what wraps the scope keys

	Events    string   `toml:"events"`     // sqlite:PATH or a URL of PostgreSQL's; "" is beside the registry
	AckKey    string   `toml:"ack_key"`    // key URI of what acknowledges events; "" where none are taken in
	AckPublic []string `toml:"ack_public"` // public keys by which terminals know acknowledgements

	Serve serveConfig `toml:"serve"`
	NATS  natsConfig  `toml:"nats"`

	folder string // of the file
}

type serveConfig struct {
	Listen         string   `toml:"listen"`
	Hosts          []string `toml:"hosts"`               // names and addresses by which terminals reach it
	Certificate    string   `toml:"certificate"`         // PEM, with the chain; "" is the hub's own authority
	Key            string   `toml:"key"`                 // PEM
	Clients        string   `toml:"client_certificates"` // optional or required, of terminals
	PlainHTTP      string   `toml:"plain_http"`          // address behind a proxy; "" is none
	MaxConnections int      `toml:"max_connections"`     //
	Poll           duration `toml:"poll"`                // how often the registry is asked for changes
	Keep           duration `toml:"keep"`                // how long a file stays that no list names any more
	KeepExpired    duration `toml:"keep_expired"`        // how long a card stays whose certificate has ended; 0 is until somebody deletes it
}

// Whether terminals have to show a certificate to fetch files.
const (
	clientsOptional = "optional"
	clientsRequired = "required"
)

// A scopeConfig is the scope.toml of a scope: its keys. What the scope is stands
// in the registry. Paths are relative to its folder.
type scopeConfig struct {
	Scope    string `toml:"scope"`
	ScopeKey string `toml:"scope_key"` // file, wrapped by the hub's wrapper

	ListKey       string   `toml:"list_key"`       // key URI; "" where lists are signed elsewhere
	ListPublic    []string `toml:"list_public"`    // public keys that terminals pin; not asked beside a delegation
	LeaseKey      string   `toml:"lease_key"`      // key URI; "" where no scope key is leased
	CommandPublic []string `toml:"command_public"` // public keys that terminals pin for commands; not asked beside a delegation
	Delegation    string   `toml:"delegation"`     // file of the root's delegation, "" where keys are pinned

	Root struct {
		Keys      []string `toml:"keys"` // public keys that verify the delegation before it is published
		Threshold int      `toml:"threshold"`
	} `toml:"root"`

	Anchors struct {
		Files       []string `toml:"files"`
		Pins        []string `toml:"pins"` // SHA-256 of further production certificates
		SurfaceKeys string   `toml:"surface_keys"`
	} `toml:"anchors"`

	folder string
	text   string // of the file
}

// A duration is written as Go writes it: "5s", "24h".
type duration struct{ time.Duration }

func (d *duration) UnmarshalText(b []byte) (err error) {
	if d.Duration, err = time.ParseDuration(string(b)); err != nil {
		return fmt.Errorf(`%s is no duration: write "5s" or "24h", with the quotes`, b)
	}
	return nil
}

func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func defaults() *config {
	c := &config{Files: "files"}
	c.Serve.Listen, c.Serve.MaxConnections, c.Serve.Clients = ":8443", hub.DefaultConnections, clientsOptional
	c.Serve.Poll.Duration, c.Serve.Keep.Duration, c.Serve.KeepExpired.Duration = 5*time.Second, time.Hour, keepExpired
	c.NATS.Store, c.NATS.Replicas = "nats", 1
	return c
}

// loadConfig reads and checks hub.toml, given itself or by its folder.
func loadConfig(path string) (*config, error) {
	if path == "" {
		return nil, cli.UsageError("no configuration: give --config FILE, or the folder that gate-hub init made")
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, configName)
	}
	text, err := smallfile.Read(path, maxConfig, 0o077) // it may hold the password of a database
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: make a hub with gate-hub init", err)
	}
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	c := defaults()
	c.folder = filepath.Dir(path)
	if err := stricttoml.Decode(text, c); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	if err := c.check(); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return c, nil
}

func (c *config) check() error {
	switch {
	case c.Name == "":
		return errors.New("name is missing")
	case len(c.Name) > maxName || !printable(c.Name):
		return fmt.Errorf("name has %d bytes: want at most %d, all of them to be printed", len(c.Name), maxName)
	case c.Registry == "":
		return errors.New("registry is missing: sqlite:registry.db, or postgres://USER@HOST/DATABASE")
	case c.Wrapper == "":
		return errors.New("wrapper is missing: the key URI of what wraps the scope keys")
	case (c.Serve.Certificate == "") != (c.Serve.Key == ""):
		return errors.New("serve.certificate and serve.key go together")
	case c.Serve.Certificate == "" && len(c.Serve.Hosts) == 0:
		return errors.New("serve.hosts is empty: name the hosts by which terminals reach the hub, for its certificate")
	case c.Serve.Clients != clientsOptional && c.Serve.Clients != clientsRequired:
		return fmt.Errorf("serve.client_certificates is %q, want %q or %q", c.Serve.Clients, clientsOptional, clientsRequired)
	case c.Serve.Clients == clientsRequired && c.Serve.PlainHTTP != "":
		return errors.New("serve.client_certificates is required, and serve.plain_http cannot see any: the proxy has to")
	case c.Serve.MaxConnections < 1:
		return errors.New("serve.max_connections is less than 1")
	case c.Serve.Poll.Duration < time.Second || c.Serve.Poll.Duration > time.Hour:
		return fmt.Errorf("serve.poll is %v, want 1s to 1h", c.Serve.Poll)
	case c.Serve.Keep.Duration < time.Minute:
		return fmt.Errorf("serve.keep is %v, want at least 1m", c.Serve.Keep)
	case c.Serve.KeepExpired.Duration < 0:
		return fmt.Errorf("serve.keep_expired is %v: a certificate that has not ended stays", c.Serve.KeepExpired)
	}
	if err := c.NATS.check(); err != nil {
		return err
	}
	for _, h := range c.Serve.Hosts {
		if !isHost(h) {
			return fmt.Errorf("serve.hosts has %q: write a name such as hub.example.jp or an IP address, without a port", h)
		}
	}
	for name, addr := range map[string]string{"serve.listen": c.Serve.Listen, "serve.plain_http": c.Serve.PlainHTTP} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s is %q: write HOST:PORT or :PORT", name, addr)
		}
	}
	return nil
}

// maxName is the most that the name of an authority has (RFC 5280, ub-common-name).
const maxName = 64

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// hostName is a name of the DNS, in ASCII.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$`)

func isHost(s string) bool { return net.ParseIP(s) != nil || hostName.MatchString(s) }

// path makes a path of hub.toml relative to its folder.
func (c *config) path(p string) string { return within(c.folder, p) }

func within(folder, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(folder, p)
}

// registryName is what package registry opens.
func (c *config) registryName() string {
	if path, ok := strings.CutPrefix(c.Registry, "sqlite:"); ok {
		return "sqlite:" + c.path(path)
	}
	return c.Registry
}

// scopeFolder is the folder of a scope's keys.
func (c *config) scopeFolder(scope string) string {
	return filepath.Join(c.folder, scopesFolder, filename.Of(scope))
}

// loadScope reads the scope.toml of a scope.
func (c *config) loadScope(scope string) (*scopeConfig, error) {
	s := &scopeConfig{folder: c.scopeFolder(scope)}
	path := filepath.Join(s.folder, scopeName)
	text, err := smallfile.Read(path, maxConfig, 0o022)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.RefusedError{Err: fmt.Errorf("this hub has no keys of scope %q: see gate-hub scope show, or add it with gate-hub scope add", scope)}
	}
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	s.text = string(text)
	if err := stricttoml.Decode(text, s); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	switch {
	case s.Scope != scope:
		err = fmt.Errorf("scope is %q, and its folder is that of %q", s.Scope, scope)
	case s.ScopeKey == "":
		err = errors.New("scope_key is missing")
	case s.Delegation == "" && len(s.ListPublic) == 0:
		err = errors.New("neither list_public nor delegation says who signs lists")
	case len(s.Root.Keys) > 0 && s.Delegation == "":
		err = errors.New("root.keys without a delegation to verify")
	}
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return s, nil
}

// scopes are the names of the scopes whose keys this hub has, ascending. The error
// is about those whose file cannot be read; the others are there beside it.
func (c *config) scopes() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.folder, scopesFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	var names []string
	var failed error
	for _, e := range entries {
		path := filepath.Join(c.folder, scopesFolder, e.Name(), scopeName)
		text, err := smallfile.Read(path, maxConfig, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) || !e.IsDir() {
			continue // one that is being made
		}
		var s scopeConfig
		if err == nil {
			err = stricttoml.Decode(text, &s)
		}
		if err != nil {
			failed = errors.Join(failed, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)})
			continue
		}
		names = append(names, s.Scope)
	}
	slices.Sort(names)
	return slices.Compact(names), failed // a copy of a folder is no second scope
}

// scope is the one that a command is about: the only one, where none is named.
func (c *config) scope(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	names, err := c.scopes()
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", cli.ConfigError{Err: errors.New("this hub has no scope: add one with gate-hub scope add")}
	case len(names) > 1:
		return "", cli.UsageError(fmt.Sprintf("this hub has several scopes: give --scope, one of %q", names))
	}
	return names[0], nil
}
