package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
)

func revocationCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "revocation", Short: "Which certificates their issuers revoked"}, revocationImportCommand())
}

func revocationImportCommand() *cobra.Command {
	var file, feed, asOf string
	var by doer
	cmd := &cobra.Command{
		Use:   "import --crl FILE | --csv FILE --as-of TIME, --config FILE [--scope NAME] [--json]",
		Short: "Apply a CRL, or a CSV file of revoked certificates",
		Long: `Import applies a certificate revocation list (RFC 5280), DER or PEM, or an operator's
CSV file of all that is revoked up to an instant (docs/hub-registry.md). Both hold for
every scope; the authorities are those of the scope's anchors. A list says how far
revocations are known (revocation_as_of).`,
		Example: `  gate-hub revocation import --crl jpki.crl --config /var/lib/gate-hub
  gate-hub revocation import --csv revoked.csv --as-of 2026-04-01T06:00:00+09:00 --config /var/lib/gate-hub`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&file, "crl", "", "certificate revocation list")
	cmd.Flags().StringVar(&feed, "csv", "", "CSV file of revoked certificates")
	cmd.Flags().StringVar(&asOf, "as-of", "", "instant up to which the CSV file knows, RFC 3339")
	cmd.MarkFlagsMutuallyExclusive("crl", "csv")
	by.flags(cmd)
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		authorities, err := s.authorities(cmd, scope)
		if err != nil {
			return err
		}
		var r registry.RevocationReport
		switch {
		case file != "":
			crl, err := smallfile.Read(file, registry.MaxCRL, 0)
			if err != nil {
				return err
			}
			if r, err = s.registry.ApplyCRL(cmd.Context(), by.by(), crl, authorities); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		case feed != "":
			at, err := time.Parse(time.RFC3339, asOf)
			if err != nil {
				return cli.UsageError("--csv needs --as-of, an instant such as 2026-04-01T06:00:00+09:00: up to when the file knows")
			}
			f, err := os.Open(feed)
			if err != nil {
				return err
			}
			defer f.Close() // only read
			if r, err = s.registry.ImportRevocations(cmd.Context(), by.by(), f, authorities, at); err != nil {
				return fileProblems(cmd, feed, err)
			}
		default:
			return cli.UsageError("give --crl FILE or --csv FILE")
		}
		// docs/cli.md lists the members.
		return answer(cmd.OutOrStdout(), *asJSON, map[string]any{
			"as_of": r.AsOf, "entries": r.Entries, "revoked": r.Revoked, "released": r.Released, "unchanged": r.Unchanged,
		}, [][2]string{
			{"known up to", instant(r.AsOf)}, {"named", fmt.Sprint(r.Entries)},
			{"newly revoked", fmt.Sprintf("%d cards of this hub", r.Revoked)}, {"hold ended", fmt.Sprint(r.Released)},
		}...)
	})
	return cmd
}

// authorities are those of a scope's anchors.
func (s *site) authorities(cmd *cobra.Command, scope string) ([]*x509.Certificate, error) {
	c, err := s.loadScope(scope)
	if err != nil {
		return nil, err
	}
	is, err := s.registry.Scope(cmd.Context(), scope)
	if err != nil {
		return nil, err
	}
	var set anchor.Set
	if set, err = c.anchors(is.Hierarchy); err != nil {
		return nil, err
	}
	all := set.Certificates()
	if len(all) == 0 {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s names no authority: put the certificate of the cards' authority into anchors.files", c.folder+"/"+scopeName)}
	}
	return all, nil
}
