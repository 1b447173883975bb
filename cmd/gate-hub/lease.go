package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/hub/terminals"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func leaseCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "lease", Short: "The scope key, leased to each terminal"}, leaseIssueCommand())
}

func leaseIssueCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "issue --config FILE [--scope NAME] [--all] [--json]",
		Short: "Issue the leases that are due",
		Long: `Issue seals the scope key for each terminal that has a delivery key, signs it with
lease_key of scope.toml, and publishes it. It lasts for the lease_days of the scope and
is renewed every day, which gate-hub serve does by itself. A terminal that is retired
gets none any more: the one that it has ends by itself.`,
		Example: "  gate-hub lease issue --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that are not due")
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		c, err := s.loadScope(scope)
		if err != nil {
			return err
		}
		if c.LeaseKey == "" {
			return cli.ConfigError{Err: errors.New("lease_key is missing in scope.toml: name the key that signs leases (docs/terminal-commands.md)")}
		}
		issued, err := s.renewLeases(cmd.Context(), c, all)
		if err != nil {
			return err
		}
		return answer(cmd.OutOrStdout(), *asJSON, map[string]any{"scope": scope, "issued": append([]string{}, issued...)},
			[2]string{"issued to", cmp.Or(strings.Join(issued, ", "), "nobody: no terminal with a delivery key is due (--all: also those)")})
	})
	return cmd
}

// renewLeases issues the leases of a scope that are due.
func (s *site) renewLeases(ctx context.Context, c *scopeConfig, all bool) (issued []string, err error) {
	is, err := s.registry.Scope(ctx, c.Scope)
	if err != nil {
		return nil, err
	}
	l := terminals.Lessor{Registry: s.registry, Scope: is}
	if l.Signers, err = c.signers(); err != nil {
		return nil, err
	}
	if l.Secret, err = s.scopeSecret(ctx, c); err != nil {
		return nil, err
	}
	defer clear(l.Secret)
	key, err := cardid.NewScopeKey(l.Secret)
	if err != nil {
		return nil, err
	}
	l.Check = key.Check()
	signer, err := s.keys.OpenSigner(ctx, c.LeaseKey, keystore.Purpose(sign1.RoleLease))
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("lease_key: %w", err)}
	}
	defer func() { err = errors.Join(err, signer.Close()) }()
	l.Signer = signer
	if l.Folder, err = s.openFolder(c.Scope); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Folder.Close()) }()
	return l.Renew(ctx, time.Now(), all)
}

// openFolder opens what terminals of a scope see.
func (s *site) openFolder(scope string) (*publish.Folder, error) {
	if err := makeFolder(s.path(s.Files), 0o755); err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("files: %w", err)}
	}
	f, err := publish.OpenFolder(s.path(s.Files), scope)
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return f, nil
}

// lookForLeases is how often a serving hub looks which leases are due: a terminal that
// was added waits no longer.
const lookForLeases = 30 * time.Second

// leasing renews leases beside the lists.
type leasing struct {
	next map[string]time.Time
	told map[string]string
	// under is the delegation in front of the commands, as far as this process knows.
	under map[string]string
}

func (l *leasing) run(ctx context.Context, s *site, log *slog.Logger, scope string) {
	if l.next == nil {
		l.next, l.told, l.under = make(map[string]time.Time), make(map[string]string), make(map[string]string)
	}
	now := time.Now()
	if now.Before(l.next[scope]) {
		return
	}
	l.next[scope] = now.Add(lookForLeases)
	c, err := s.loadScope(scope)
	if err != nil {
		return // the publisher tells what is wrong with the file
	}
	err = l.refresh(ctx, s, c)
	if c.LeaseKey != "" {
		issued, failed := s.renewLeases(ctx, c, false)
		if err = errors.Join(err, failed); len(issued) > 0 {
			log.Info("leases issued", "terminals", issued)
		}
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		l.told[scope] = ""
	case err.Error() != l.told[scope]:
		l.told[scope] = err.Error()
		log.Error("leases and commands are not as they should be", "error", err)
	}
}

// refresh puts the delegation in force in front of the commands of a scope.
func (l *leasing) refresh(ctx context.Context, s *site, c *scopeConfig) (err error) {
	signers, err := c.signers()
	if err != nil || string(signers.Delegation) == l.under[c.Scope] {
		return err
	}
	is, err := s.registry.Scope(ctx, c.Scope)
	if err != nil {
		return err
	}
	folder, err := s.openFolder(c.Scope)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := terminals.Refresh(ctx, s.registry, folder, is, signers, time.Now()); err != nil {
		return err
	}
	l.under[c.Scope] = string(signers.Delegation)
	return nil
}
