package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/whitelist"
)

func scopeCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "scope", Short: "The venues and events that have lists of their own"},
		scopeAddCommand(), scopeShowCommand(), scopeSetCommand(), scopeEpochCommand())
}

func hierarchyFlag(cmd *cobra.Command, h *string) {
	cmd.Flags().StringVar(h, "hierarchy", whitelist.Production, "production, or test for a scope of virtual cards")
}

func checkHierarchy(h string) error {
	if h != whitelist.Production && h != whitelist.Test {
		return cli.UsageError(fmt.Sprintf("--hierarchy %q: want %q or %q", h, whitelist.Production, whitelist.Test))
	}
	return nil
}

func scopeAddCommand() *cobra.Command {
	var hierarchy, file string
	var epoch uint64
	var by doer
	cmd := &cobra.Command{
		Use:   "add NAME --config FILE [--hierarchy H] [--settings FILE] [--epoch N]",
		Short: "Add a scope, with a scope key and a list key of its own",
		Long: `Add makes a scope in the registry and its keys in a folder of scopes/: a scope
key, wrapped, and a key that signs its lists, sealed. A list key on another medium
is named in the scope.toml there afterwards (docs/hub.md).`,
		Example: "  gate-hub scope add arena-2026 --config /var/lib/gate-hub --settings arena.toml",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	hierarchyFlag(cmd, &hierarchy)
	cmd.Flags().StringVar(&file, "settings", "", "settings of the scope, TOML as scope show prints it")
	cmd.Flags().Uint64Var(&epoch, "epoch", 1, "first epoch: above that of the last list when a hub was lost")
	by.flags(cmd)
	cmd.RunE = withSite(func(cmd *cobra.Command, s *site, a []string) error {
		if err := checkHierarchy(hierarchy); err != nil {
			return err
		}
		in := usualSettings()
		if file != "" {
			text, err := smallfile.Read(file, maxConfig, 0)
			if err != nil {
				return err
			}
			if err := readSettings(text, &in); err != nil {
				return cli.RefusedError{Err: fmt.Errorf("%s: %w", file, err)}
			}
		}
		is := registry.Scope{Name: a[0], Hierarchy: hierarchy, Epoch: epoch}
		in.apply(&is)
		if err := s.addScope(cmd.Context(), by.by(), is); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "scope   %s (%s)\nkeys    %s\n", is.Name, is.Hierarchy, s.scopeFolder(is.Name))
		return nil
	})
	return cmd
}

// addScope adds a scope: its keys to the hub, and then the scope to the registry. Where
// the keys are there and the registry lacks the scope, because an attempt was cut
// short or the registry was lost, it adds it with these keys.
func (s *site) addScope(ctx context.Context, by registry.By, is registry.Scope) error {
	folder := s.scopeFolder(is.Name)
	_, err := os.Stat(filepath.Join(folder, scopeName))
	have := err == nil
	switch _, err := s.registry.Scope(ctx, is.Name); {
	case err == nil && have:
		return cli.RefusedError{Err: fmt.Errorf("this hub has a scope %q already: see gate-hub scope show", is.Name)}
	case err == nil:
		return cli.RefusedError{Err: fmt.Errorf("the registry has a scope %q already, whose keys are in another hub: restore %s from its copy", is.Name, folder)}
	case !errors.Is(err, registry.ErrNotFound):
		return err
	case have:
		if _, err := s.loadScope(is.Name); err != nil {
			return err
		}
		return s.registry.AddScope(ctx, by, is)
	}
	if err := os.Mkdir(folder, 0o700); errors.Is(err, fs.ErrExist) {
		return cli.RefusedError{Err: fmt.Errorf("%s is there and has no %s, from an attempt that was cut short: remove it", folder, scopeName)}
	} else if err != nil {
		return err
	}
	err = s.makeScope(ctx, folder, is)
	if err == nil {
		err = s.registry.AddScope(ctx, by, is)
	}
	if err != nil { // keys that nothing was made with
		err = errors.Join(err, os.RemoveAll(folder))
	}
	return err
}

// makeScope makes the keys of a scope. The file that names them comes last.
func (s *site) makeScope(ctx context.Context, folder string, is registry.Scope) error {
	if err := s.makeScopeKey(ctx, is.Name, filepath.Join(folder, "scope.key")); err != nil {
		return err
	}
	var uris []any
	for _, role := range []sign1.Role{sign1.RoleList, sign1.RoleLease} {
		uri, err := s.makeRoleKey(ctx, folder, role)
		if err != nil {
			return err
		}
		uris = append(uris, quote(uri))
	}
	return wholefile.New(filepath.Join(folder, scopeName), fmt.Appendf(nil, `# The keys of one scope. docs/hub.md describes every key.
scope = %s

# The secret that pseudonyms and rows are made with, wrapped by the hub's wrapper.
scope_key = "scope.key"

# What signs its lists: a key URI (docs/keystore.md). "" where that happens
# elsewhere: gate-hub list export, sign, publish --signed.
list_key = %s

# Its public half: list.keys of terminals that pin it.
list_public = ["list.pub.pem"]

# What signs the leases of the scope key: a key URI. Its public half, lease.pub.pem, is
# scope_key.keys of terminals that pin it. "" where no scope key is leased.
lease_key = %s

# Public halves of the keys with which people command terminals: commands.keys of
# terminals that pin them (docs/terminal-commands.md).
command_public = []

# Where terminals trust an offline root instead (gate-hub root): what the root
# says, and whose signatures it must have.
delegation = ""
[root]
keys = []
threshold = 0

# The authorities of cards, for registrations and revocations.
[anchors]
files = []
pins = []
surface_keys = ""
`, append([]any{quote(is.Name)}, uris...)...))
}

// makeRoleKey makes a key of a scope, or of the hub, with its public half beside it.
func (s *site) makeRoleKey(ctx context.Context, folder string, role sign1.Role) (uri string, err error) {
	uri = "sealed:path=" + escapePath(filepath.Join(folder, string(role)+".key")) + ";key-source=" + escapePath(filepath.Join(s.folder, keysFolder, "seal"))
	public, err := s.keys.Generate(ctx, uri, keystore.Purpose(role), keystore.Ed25519)
	if err != nil {
		return "", err
	}
	text, err := sign1.MarshalPublicKey(public)
	if err != nil {
		return "", err
	}
	return uri, wholefile.New(filepath.Join(folder, string(role)+".pub.pem"), text)
}

// makeScopeKey makes a scope key and wraps it.
func (s *site) makeScopeKey(ctx context.Context, scope, path string) (err error) {
	wrapper, err := s.keys.OpenWrapper(ctx, s.Wrapper)
	if err != nil {
		return cli.ConfigError{Err: fmt.Errorf("wrapper: %w", err)}
	}
	defer func() { err = errors.Join(err, wrapper.Close()) }()
	secret := make([]byte, cardid.ScopeKeySize)
	rand.Read(secret)
	defer clear(secret)
	blob, err := wrapper.Wrap(secret, cardid.WrapLabel(scope))
	if err != nil {
		return fmt.Errorf("wrapping the scope key: %w", err)
	}
	return wholefile.New(path, blob)
}

// escapePath writes a path as a value of a key URI.
func escapePath(p string) string {
	var b strings.Builder
	for _, c := range []byte(p) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// quote writes a basic string of TOML. What it is given has no control characters.
func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

func scopeShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show --config FILE [--scope NAME] [--json]",
		Short: "Print the settings of a scope, as scope set takes them",
		Example: `  gate-hub scope show --config /var/lib/gate-hub > arena.toml
  $EDITOR arena.toml && gate-hub scope set arena.toml --config /var/lib/gate-hub`,
		Args: cli.Args(cobra.NoArgs),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		is, err := s.registry.Scope(cmd.Context(), scope)
		if err != nil {
			return err
		}
		out := settingsOf(is)
		if *asJSON {
			return answer(cmd.OutOrStdout(), true, struct {
				Scope     string `json:"scope"`
				Hierarchy string `json:"hierarchy"`
				settings
			}{is.Name, is.Hierarchy, out})
		}
		text, err := stricttoml.Encode(out)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "# Scope %s (%s), epoch %d, list %d.\n%s", is.Name, is.Hierarchy, is.Epoch, is.Seq, text)
		return err
	})
	return cmd
}

func scopeSetCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:     "set FILE --config FILE [--scope NAME]",
		Short:   "Change the settings of a scope to those of a file",
		Long:    "Set changes lifetime, policy and venue of a scope to what a file says, as a whole:\nwhat the file leaves out is as in a new scope. The next list has them.",
		Example: "  gate-hub scope set arena.toml --config /var/lib/gate-hub --reason 'gate 7 opens'",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		text, err := smallfile.Read(a[0], maxConfig, 0)
		if err != nil {
			return err
		}
		in := usualSettings()
		if err := readSettings(text, &in); err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", a[0], err)}
		}
		is, err := s.registry.Scope(cmd.Context(), scope)
		if err != nil {
			return err
		}
		in.apply(&is)
		return s.registry.SetScope(cmd.Context(), by.by(), is)
	})
	return cmd
}

func scopeEpochCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:   "new-epoch --config FILE [--scope NAME] --reason WHY",
		Short: "Begin the numbering of a scope's lists again, with every row sealed anew",
		Long: `New-epoch is for a scope key that was replaced, and for a registry that was
restored from a copy older than its last list: terminals take nothing older, and
a new epoch is newer than every list before.`,
		Example: "  gate-hub scope new-epoch --config /var/lib/gate-hub --reason 'restored from last night'",
		Args:    cli.Args(cobra.NoArgs),
	}
	by.because(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		return s.registry.NewEpoch(cmd.Context(), by.by(), scope)
	})
	return cmd
}
