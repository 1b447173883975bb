package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// keyTypes says of which type a key for a purpose is.
var keyTypes = map[keystore.Purpose]keystore.KeyType{
	keystore.Identity:     keystore.Ed25519,
	keystore.Checkpoint:   keystore.Ed25519,
	keystore.ExternalAuth: keystore.RSA2048, // what a card-verifiable certificate holds
}

func keyCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "key", Short: "Make a terminal's keys and show their public halves"}, keyNewCommand(), keyPublicCommand(), keyRotateCommand())
}

func keyNewCommand() *cobra.Command {
	var purpose string
	var source bool
	cmd := &cobra.Command{
		Use:   "new URI --purpose identity|external-auth [--make-key-source]",
		Short: "Make a private key, and print its public half",
		Long: `New makes a private key for one purpose at the place that a URI names
(docs/keystore.md), and prints its public half as PEM. A key that is there is
never replaced.

  identity       Ed25519; signs what the terminal reports, such as registrations.
                 Whoever takes them is given the public half
  external-auth  RSA-2048; proves the terminal to a card (method A). The public
                 half is what its card-verifiable certificate certifies`,
		Example: "  gate-agent key new --purpose identity --make-key-source 'sealed:path=/etc/gate-agent/identity.key;key-source=/etc/gate-agent/seal'",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", "identity or external-auth")
	cmd.Flags().BoolVar(&source, "make-key-source", false, "make the key source too when there is none, 32 random bytes")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		uri, err := keystore.ParseURI(a[0])
		if err != nil {
			return cli.UsageError(err.Error())
		}
		if source {
			if err := keystore.GenerateKeySource(uri.Get("key-source")); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		public, err := new(keystore.Store).Generate(cmd.Context(), a[0], p, keyTypes[p])
		if err != nil {
			return err
		}
		return printPublic(cmd.OutOrStdout(), public)
	}
	return cmd
}

func keyPublicCommand() *cobra.Command {
	var purpose string
	cmd := &cobra.Command{
		Use:     "public URI --purpose identity|external-auth",
		Short:   "Print the public half of a key",
		Example: "  gate-agent key public --purpose identity 'sealed:path=/etc/gate-agent/identity.key;key-source=/etc/gate-agent/seal' > gate-1.pub.pem",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", "identity or external-auth")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		signer, err := new(keystore.Store).OpenSigner(cmd.Context(), a[0], p)
		if err != nil {
			return configError{err}
		}
		return printPublic(cmd.OutOrStdout(), signer.Public())
	}
	return cmd
}

func keyPurpose(name string) (keystore.Purpose, error) {
	p := keystore.Purpose(name)
	if _, ok := keyTypes[p]; !ok {
		all := []keystore.Purpose{keystore.Identity, keystore.Checkpoint, keystore.ExternalAuth}
		slices.Sort(all)
		return "", cli.UsageError(fmt.Sprintf("--purpose %q: want one of %q", name, all))
	}
	return p, nil
}

// printPublic writes a SubjectPublicKeyInfo (RFC 7468 §13).
func printPublic(w io.Writer, public crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return pem.Encode(w, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
