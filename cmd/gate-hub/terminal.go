package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
)

func terminalCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "terminal", Short: "The terminals of a scope"},
		terminalAddCommand(), terminalListCommand(), terminalShowCommand(), terminalRekeyCommand(), terminalRetireCommand())
}

func terminalAddCommand() *cobra.Command {
	var identity, delivery string
	var by doer
	cmd := &cobra.Command{
		Use:   "add NAME --identity FILE [--delivery FILE] --config FILE [--scope NAME]",
		Short: "Add a terminal, by the public halves of its keys",
		Long: `Add says that a terminal may register cards in a scope, signed with its identity key
(gate-agent key public --purpose identity), and to which delivery key the scope key
is sealed for it.`,
		Example: "  gate-hub terminal add gate-1 --identity gate-1.pub.pem --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&identity, "identity", "", "public half of its identity key, PEM")
	cmd.Flags().StringVar(&delivery, "delivery", "", "public half of its delivery key, PEM")
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) (err error) {
		if identity == "" {
			return cli.UsageError("--identity is missing: the public half of the terminal's identity key, PEM")
		}
		t := registry.Terminal{Name: a[0]}
		if t.Identity, err = readSPKI(identity); err != nil {
			return err
		}
		if delivery != "" {
			if t.Delivery, err = readSPKI(delivery); err != nil {
				return err
			}
		}
		if err := s.registry.AddTerminal(cmd.Context(), by.by(), scope, t); err != nil || delivery == "" {
			return err
		}
		return compareDelivery(cmd, t.Delivery)
	})
	return cmd
}

// compareDelivery has people compare a delivery key with the one that the terminal shows.
func compareDelivery(cmd *cobra.Command, spki []byte) error {
	kcv, err := deliveryKCV(spki)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "delivery key %s   compare it with the terminal's / 端末の表示と比べてください\n", kcv)
	return err
}

// readSPKI reads a public key of any kind, PEM.
func readSPKI(path string) ([]byte, error) {
	text, err := smallfile.Read(path, maxFile, 0)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, refusedError{fmt.Errorf("%s: no PEM block \"PUBLIC KEY\" found", path)}
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, refusedError{fmt.Errorf("%s: %w", path, err)}
	}
	return block.Bytes, nil
}

// deliveryKCV is the check value of a delivery key, to compare with the one that the
// terminal shows.
func deliveryKCV(spki []byte) (string, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return "", err
	}
	return keystore.KCV(public)
}

func terminalRetireCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:     "retire NAME --config FILE [--scope NAME] --reason WHY",
		Short:   "End for good that a terminal registers cards and gets keys",
		Example: "  gate-hub terminal retire gate-1 --reason 'stolen' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		return s.registry.RetireTerminal(cmd.Context(), by.by(), scope, a[0])
	})
	return cmd
}
