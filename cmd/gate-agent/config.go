package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
)

// A config is the agent's configuration file. docs/configuration.md describes
// every key. Paths in it are relative to the file's own folder.
type config struct {
	Mode     anchor.Hierarchy `toml:"mode"` // "production" (the default) or "test"
	Scope    string           `toml:"scope"`
	Terminal string           `toml:"terminal"`
	Methods  []jpki.Method    `toml:"methods"`
	Deadline duration         `toml:"deadline"`
	State    string           `toml:"state"`

	Gate   gateConfig   `toml:"gate"`
	Reader readerConfig `toml:"reader"`
	Lanes  []laneConfig `toml:"lanes"` // those beside [gate] and [reader]

	HolderCheck struct {
		TapUse       terminal.HolderCheck `toml:"tap-use"`
		ExternalAuth terminal.HolderCheck `toml:"external-auth"`
		Timeout      duration             `toml:"timeout"`
	} `toml:"holder_check"`

	ScopeKey struct {
		File    string   `toml:"file"`    // the wrapped scope key
		Lease   bool     `toml:"lease"`   // or it is leased by a hub
		Keys    []string `toml:"keys"`    // public keys that may sign leases, PEM; none with a root
		Wrapper string   `toml:"wrapper"` // key URI
	} `toml:"scope_key"`

	Commands struct {
		Keys []string `toml:"keys"` // public keys that may sign commands, PEM; none with a root
	} `toml:"commands"`

	List struct {
		Keys   []string `toml:"keys"`   // public keys that may sign lists, PEM; none with a root
		Source string   `toml:"source"` // https: or file:, looked at every interval; "" is never
		CA     string   `toml:"ca"`     // PEM, who vouches for the source; "" is the system's
		Every  duration `toml:"every"`
	} `toml:"list"`

	Root struct {
		Keys      []string `toml:"keys"` // public keys of the root that delegates, PEM
		Threshold int      `toml:"threshold"`
	} `toml:"root"`

	Anchors struct {
		Files []string `toml:"files"`
		Pins  []string `toml:"pins"` // SHA-256 of further production certificates

		// SurfaceKeys names a key file, or builtinKeys. "" trusts nobody.
		SurfaceKeys string `toml:"surface_keys"`
	} `toml:"anchors"`

	TapUse struct {
		FirstUse bool `toml:"first_use"`
	} `toml:"tap_use"`

	ExternalAuth struct {
		Key          string   `toml:"key"`          // key URI
		Certificates []string `toml:"certificates"` // intermediate, terminal
	} `toml:"external_auth"`

	Staff struct {
		File string `toml:"file"` // the roster; "" where staff does not use the agent
	} `toml:"staff"`

	Identity struct {
		Key string `toml:"key"` // key URI; "" where nothing is signed
	} `toml:"identity"`

	Checkpoint struct {
		Key string `toml:"key"` // key URI; "" where none are signed
	} `toml:"checkpoint"`

	Journal struct {
		Keep        duration `toml:"keep"`         // 0 is for ever
		KeepEndless duration `toml:"keep_endless"` // since somebody last passed; 0 is for ever
		Checkpoint  duration `toml:"checkpoint"`   // 0 is never
	} `toml:"journal"`

	Card struct {
		Profile string `toml:"profile"` // "" is the built-in one
	} `toml:"card"`

	Hub struct {
		Connect bool `toml:"connect"` // the terminal enrols with a hub
	} `toml:"hub"`

	file   string
	folder string // of the file
	keys   *keyring

	enrolling bool             // what comes from a hub may be missing
	enrolled  *enrol.Enrolment // nil: not, or not any more
	trusting  string           // whose signatures count, "" where the file says it

	home   string          // the scope that the file names; Scope is the one of now
	memory *command.Memory // of the operator's commands
}

// builtinKeys, in the place of a key file, says that the operator has confirmed
// the built-in card-surface authority: nobody trusts it without a word.
const builtinKeys = "built-in"

// builtinChallengeFirst, in the place of a profile's file, is the built-in profile
// with another order (jpki.ChallengeFirst).
const builtinChallengeFirst = "built-in:challenge-first"

// A duration is written as Go writes it: "3s", "250ms".
type duration struct{ time.Duration }

func (d *duration) UnmarshalText(b []byte) (err error) {
	if d.Duration, err = time.ParseDuration(string(b)); err != nil {
		return fmt.Errorf(`%s is no duration: write "3s" or "250ms", with the quotes`, b)
	}
	return nil
}

// loadConfig reads and checks a configuration file.
func loadConfig(path string) (*config, error) { return readConfig(path, false) }

// readConfig is loadConfig; a terminal that is enrolling lacks what a hub will say.
func readConfig(path string, enrolling bool) (*config, error) {
	if path == "" {
		return nil, cli.UsageError("no configuration: give --config FILE")
	}
	text, err := readFile(path)
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	c := &config{file: path, folder: filepath.Dir(path), enrolling: enrolling, keys: newKeyring(context.Background())}
	c.Deadline.Duration = terminal.DefaultDeadline
	c.Gate.preset()
	c.HolderCheck.TapUse, c.HolderCheck.ExternalAuth = terminal.CheckNone, terminal.CheckStaff
	c.HolderCheck.Timeout.Duration = terminal.DefaultHolderCheckTimeout
	c.List.Every.Duration = time.Minute
	c.Journal.Checkpoint.Duration = time.Hour
	if err := stricttoml.Decode(text, c); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	for i := range c.Lanes {
		c.Lanes[i].Gate.preset()
	}
	if err := c.useEnrolment(); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	if err := c.check(); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	if err := c.followScope(); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	c.keys.places = c.keyPlaces()
	return c, nil
}

// check names the first key that is missing or makes no sense.
func (c *config) check() error {
	for _, k := range []struct{ key, value string }{
		{"scope", c.Scope}, {"terminal", c.Terminal}, {"state", c.State},
		{"scope_key.wrapper", c.ScopeKey.Wrapper},
	} {
		switch {
		case k.value != "" || c.awaits(k.key):
		case c.Hub.Connect && c.enrolled == nil:
			return fmt.Errorf("%s is missing: name it, or run gate-agent enrol", k.key)
		default:
			return fmt.Errorf("%s is missing", k.key)
		}
	}
	if len(c.Methods) == 0 {
		return fmt.Errorf("methods is missing: name %q, %q or both, in order", jpki.TapUse, jpki.ExternalAuth)
	}
	for i, m := range c.Methods {
		if slices.Contains(c.Methods[:i], m) {
			return fmt.Errorf("methods names %q twice", m)
		}
		if m != jpki.TapUse && m != jpki.ExternalAuth {
			return fmt.Errorf("methods has unknown %q: want %q or %q", m, jpki.TapUse, jpki.ExternalAuth)
		}
	}
	if !c.awaits("trust") {
		if err := c.checkTrust(); err != nil {
			return err
		}
		if err := c.checkScope(); err != nil {
			return err
		}
	}
	if err := c.checkLanes(); err != nil {
		return err
	}
	for _, k := range []struct {
		key   string
		value terminal.HolderCheck
	}{{"tap-use", c.HolderCheck.TapUse}, {"external-auth", c.HolderCheck.ExternalAuth}} {
		all := []terminal.HolderCheck{terminal.CheckNone, terminal.CheckStaff, terminal.CheckExternal}
		if !slices.Contains(all, k.value) {
			return fmt.Errorf("holder_check.%s is %q, want one of %q", k.key, k.value, all)
		}
	}
	if c.Deadline.Duration < 500*time.Millisecond || c.Deadline.Duration > 10*time.Second {
		return fmt.Errorf("deadline is %v, want 500ms to 10s", c.Deadline.Duration)
	}
	// Staff confirms against the list of the tap: not for long.
	if d := c.HolderCheck.Timeout.Duration; d < time.Second || d > 10*time.Minute {
		return fmt.Errorf("holder_check.timeout is %v, want 1s to 10m", d)
	}
	if c.List.Every.Duration < time.Second {
		return fmt.Errorf("list.every is %v, want at least 1s", c.List.Every.Duration)
	}
	if c.withMethodA() && (c.ExternalAuth.Key == "" || len(c.ExternalAuth.Certificates) == 0) {
		return fmt.Errorf("method %q needs external_auth.key and external_auth.certificates", jpki.ExternalAuth)
	}
	if c.TapUse.FirstUse {
		switch {
		case !slices.Contains(c.Methods, jpki.TapUse):
			return fmt.Errorf("tap_use.first_use needs method %q", jpki.TapUse)
		case c.Methods[0] != jpki.TapUse: // method A takes every row
			return fmt.Errorf("tap_use.first_use needs method %q before %q, or no tap comes to it", jpki.TapUse, jpki.ExternalAuth)
		case c.Anchors.SurfaceKeys == "":
			return fmt.Errorf("tap_use.first_use needs anchors.surface_keys: name a key file, or %q for the figures that are known in public, once you have confirmed them", builtinKeys)
		}
	}
	if err := c.checkKeys(); err != nil {
		return err
	}
	if err := c.checkRecord(); err != nil {
		return err
	}
	if err := api.CheckPath(c.socketPath()); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	_, err := c.pins()
	return err
}

// lane is what a lane is told.
func (c *config) lane(l laneConfig, p proof) terminal.Config {
	return terminal.Config{
		Scope: c.Scope, Terminal: c.Terminal, GateName: l.Gate.Name, Mode: l.Gate.Mode, Direction: l.Gate.Direction, Methods: c.Methods,
		HolderCheck: map[jpki.Method]terminal.HolderCheck{
			jpki.TapUse: c.HolderCheck.TapUse, jpki.ExternalAuth: c.HolderCheck.ExternalAuth,
		},
		Deadline: c.Deadline.Duration, HolderCheckTimeout: c.HolderCheck.Timeout.Duration, PassTime: l.Gate.PassTime.Duration,
		FirstUse: c.TapUse.FirstUse, Anchors: p.anchors.Certificates(), SurfaceAuthorities: p.surface,
	}
}

// wholePaths checks the paths in a key URI. A relative path
// would be one from wherever the agent was started, not from the file's folder
// as everywhere else in the configuration.
func wholePaths(uri string) error {
	u, err := keystore.ParseURI(uri)
	if err != nil {
		return err
	}
	for _, name := range []string{"path", "key-source", "pin-source", "module-path", "device"} {
		p := strings.TrimPrefix(u.Get(name), "file:")
		if strings.HasPrefix(p, "credential:") {
			continue
		}
		if p != "" && !filepath.IsAbs(p) {
			return fmt.Errorf("%s=%s is a relative path: in a key URI write the whole path", name, p)
		}
	}
	return nil
}

// path makes a path of the file relative to its folder.
func (c *config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.folder, p)
}

// pins are the further production anchors.
func (c *config) pins() ([]anchor.Pin, error) {
	pins := make([]anchor.Pin, 0, len(c.Anchors.Pins))
	for _, text := range c.Anchors.Pins {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(anchor.Pin{}) {
			return nil, fmt.Errorf("anchors.pins has %q: want the SHA-256 of a certificate, 64 hexadecimal digits", text)
		}
		pins = append(pins, anchor.Pin(b))
	}
	return pins, nil
}
