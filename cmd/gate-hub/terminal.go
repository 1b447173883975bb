package main

import (
	"crypto/ecdh"
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
		terminalTokenCommand(), terminalApproveCommand(), terminalSwapCommand(),
		terminalAddCommand(), terminalKeysCommand(), terminalListCommand(), terminalShowCommand(), terminalRetireCommand())
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
		if t.Delivery, err = readDelivery(delivery); err != nil {
			return err
		}
		if err := s.registry.AddTerminal(cmd.Context(), by.by(), scope, t); err != nil {
			return err
		}
		return sayDelivery(cmd, t.Delivery)
	})
	return cmd
}

func terminalKeysCommand() *cobra.Command {
	var identity, delivery string
	var by doer
	cmd := &cobra.Command{
		Use:   "keys NAME [--identity FILE] [--delivery FILE] --config FILE [--scope NAME] --reason WHY",
		Short: "Replace the keys of a terminal that was wiped or repaired",
		Long: `Keys says that a terminal has other keys now, of which the files are the public
halves; what is not named stays. What it signed with an identity key before is taken
in no more: import its registrations first. A new delivery key makes its lease due. The
numbers of its commands go on, so that none from before is carried out.
消去または修理した端末の鍵を差し替えます。`,
		Example: "  gate-hub terminal keys gate-1 --delivery gate-1.delivery.pem --reason 'gets its scope key as a lease' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&identity, "identity", "", "public half of its new identity key, PEM")
	cmd.Flags().StringVar(&delivery, "delivery", "", "public half of its new delivery key, PEM")
	cmd.MarkFlagsOneRequired("identity", "delivery")
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		t, err := s.registry.Terminal(cmd.Context(), scope, a[0])
		if err != nil {
			return err
		}
		if identity != "" {
			if t.Identity, err = readSPKI(identity); err != nil {
				return err
			}
		}
		if delivery != "" {
			if t.Delivery, err = readDelivery(delivery); err != nil {
				return err
			}
		}
		if err := s.registry.SetTerminalKeys(cmd.Context(), by.by(), scope, a[0], t.Identity, t.Delivery); err != nil {
			return err
		}
		return sayDelivery(cmd, t.Delivery)
	})
	return cmd
}

// readDelivery reads a delivery key, nil where no file is named.
func readDelivery(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	spki, err := readSPKI(path)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	if k, ok := public.(*ecdh.PublicKey); !ok || k.Curve() != ecdh.X25519() {
		return nil, cli.RefusedError{Err: fmt.Errorf("%s: not a delivery key, which is one of X25519: gate-agent key delivery prints it", path)}
	}
	return spki, nil
}

// sayDelivery lets people compare a delivery key with the terminal's.
func sayDelivery(cmd *cobra.Command, spki []byte) error {
	if spki == nil {
		return nil
	}
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
		return nil, cli.RefusedError{Err: fmt.Errorf("%s: no PEM block \"PUBLIC KEY\" found", path)}
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
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
		Short:   "End for good that a terminal connects, registers cards and gets keys",
		Example: "  gate-hub terminal retire gate-1 --reason 'stolen' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		return s.registry.RetireTerminal(cmd.Context(), by.by(), scope, a[0])
	})
	return cmd
}
