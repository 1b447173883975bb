// Gate-hub is what an organiser runs: a registry of who may come, the lists that
// it publishes, and the tools of those who keep the keys.
package main

import (
	"errors"
	_ "time/tzdata" // the time zones of venues, on a machine that has none

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/whitelist"
)

func main() { cli.MainWithKeys(rootCommand(), refuses) }

// refuses says whether an error of a library is a refusal of data: of a file, of a
// signature, of a key that may not sign, of what the registry does not have.
func refuses(err error) bool {
	if _, ok := errors.AsType[*registry.FileError](err); ok {
		return true
	}
	for _, refused := range []error{
		registry.ErrNotFound, registry.ErrExists, registry.ErrInvalid, registry.ErrCardKeyInUse, registry.ErrTaken, registry.ErrReplayed, registry.ErrOlder, registry.ErrTokenEnded,
		registry.ErrCRL, registry.ErrUntrustedCRL, registry.ErrCRLTime,
		publish.ErrSigner, publish.ErrNotNewest, publish.ErrUnpublished, whitelist.ErrMalformed, whitelist.ErrTooLarge,
		roles.ErrMalformed, roles.ErrThreshold, roles.ErrExpired, sign1.ErrMalformed, sign1.ErrSignature, sign1.ErrUnknownKey, sign1.ErrRole,
		command.ErrMalformed, command.ErrNotOurs, command.ErrNumber, command.ErrExpired, command.ErrSigners, lease.ErrMalformed,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "gate-hub",
		Short: "Keep the registry of a venue, and publish its lists to every gate",
		Long: `Gate-hub keeps what an organiser knows (tickets, registered cards, revocations),
seals it into signed lists, and serves them as files that every gate fetches.
主催者の台帳を管理し、署名した名簿をすべてのゲートへ配ります。

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration, 4 data refused.`,
		Example: "  gate-hub init /var/lib/gate-hub --name Arena --scope arena-2026 --host hub.example.jp\n  gate-hub serve --config /var/lib/gate-hub",
	}
	root.PersistentFlags().String("config", "", "hub.toml, or the folder that it is in")
	return cli.Root(root, initCommand(), serveCommand(), statusCommand(), scopeCommand(),
		ticketCommand(), holderCommand(), registrationCommand(), cardCommand(), revocationCommand(), terminalCommand(),
		listCommand(), leaseCommand(), commandCommand(), journalCommand(), claimsCommand(), reportCommand(), readyCommand(), keyCommand(), natsCommand(), rootKeysCommand(), cli.VersionCommand("gate-hub"))
}
