package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
)

const typeUsage = "rsa-2048, ed25519, p-256 or p-384; default is the first that the purpose names"

func keyGenerateCommand() *cobra.Command {
	var purpose, typ string
	var source, asJSON bool
	cmd := &cobra.Command{
		Use:   "generate URI --purpose PURPOSE [--type TYPE] [--make-key-source] [--json]",
		Short: "Make a private key on its medium, and print its public half",
		Long: `Generate makes a private key for one purpose at the place that a URI names
(docs/keystore.md), on the medium itself, and prints its public half as PEM and on
standard error its key check value (KCV). A key that is there is never replaced.

  external-auth  rsa-2048 or p-384; proves the terminal to a card (method A). The
                 public half is what its card-verifiable certificate certifies
  identity       ed25519, p-256 or p-384; signs what the terminal reports, such as
                 registrations. Whoever takes them is given the public half
  checkpoint     ed25519, p-256 or p-384; signs heads of the journal
  wrap           a secret that wraps the key of the scope; it has no public half

A TPM has no ed25519: give --type p-256. Before two people: gate-agent key ceremony.
秘密鍵を媒体の中に生成し、公開鍵を表示します。既にある鍵は置き換えません。`,
		Example: `  gate-agent key generate --purpose identity --make-key-source 'sealed:path=/etc/gate-agent/identity.key;key-source=/etc/gate-agent/seal'
  gate-agent key generate --purpose external-auth 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=gate-1;object=external-auth?pin-source=/etc/gate-agent/pin'`,
		Args: cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage+", or wrap")
	cmd.Flags().StringVar(&typ, "type", "", typeUsage)
	cmd.Flags().BoolVar(&source, "make-key-source", false, "of a sealed: key, make the key source too when there is none, 32 random bytes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) error {
		p, err := keyPurpose(purpose, keystore.Wrap)
		if err != nil {
			return err
		}
		u, err := keyURI(a[0])
		if err != nil {
			return err
		}
		var t keystore.KeyType
		if p != keystore.Wrap {
			t, err = keyType(typ, u, p)
		} else if typ != "" {
			err = cli.UsageError("--type is for keys that sign: a wrapping secret has none")
		}
		if err != nil {
			return err
		}
		if source {
			if err := makeKeySource(u); err != nil {
				return err
			}
		}
		var public crypto.PublicKey
		if p == keystore.Wrap {
			err = s.GenerateWrapper(cmd.Context(), a[0])
		} else {
			public, err = s.Generate(cmd.Context(), a[0], p, t)
		}
		if err != nil {
			return makingError(err)
		}
		r, err := describeKey(u, p, public)
		if err != nil {
			return err
		}
		return r.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON)
	})
	return cmd
}

// makeKeySource makes the key source of a URI when there is none.
func makeKeySource(u keystore.URI) error {
	file := strings.TrimPrefix(u.Get("key-source"), "file:")
	switch {
	case file == "":
		return cli.UsageError(fmt.Sprintf("--make-key-source: a %s: URI has no key-source", u.Scheme()))
	case strings.HasPrefix(file, "credential:"):
		return cli.UsageError("--make-key-source: a credential is made with systemd-creds, not here")
	}
	if err := keystore.GenerateKeySource(file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// makingError names the next step where there is one.
func makingError(err error) error {
	switch {
	case errors.Is(err, keystore.ErrExists):
		return fmt.Errorf("%w: name another place, or look at this one with gate-agent key public", err)
	case errors.Is(err, keystore.ErrCannot):
		return fmt.Errorf("%w: make the key with the tool of whoever issued the medium, then try it with gate-agent key test (docs/keystore.md)", err)
	}
	return err
}

func keyImportCommand() *cobra.Command {
	var purpose, from string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import URI --purpose PURPOSE --from FILE [--json]",
		Short: "Put a private key that exists already on a medium",
		Long: `Import reads a private key from a PEM file (PKCS #8, PKCS #1 or SEC 1, not
encrypted) and puts it at the place that a URI names. The file must be closed to
others (mode 0600). A key that is there is never replaced.

A key that was outside its medium may have been copied: where that matters, make
the key on the medium with gate-agent key generate.
媒体の外にあった鍵は、複製されている可能性があります。`,
		Example: "  gate-agent key import --purpose external-auth --from /run/terminal.pem 'sealed:path=/etc/gate-agent/external-auth.key;key-source=/etc/gate-agent/seal'",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage)
	cmd.Flags().StringVar(&from, "from", "", "PEM file of mode 0600 with the private key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) error {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		u, err := keyURI(a[0])
		if err != nil {
			return err
		}
		if from == "" {
			return cli.UsageError("--from is missing: name the PEM file with the private key")
		}
		key, err := readPrivateKey(from, p)
		if err != nil {
			return err
		}
		if err := s.Import(cmd.Context(), a[0], p, key); err != nil {
			return makingError(err)
		}
		r, err := describeKey(u, p, key.Public())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "This key was outside its medium: somebody may have a copy. Remove %s when the terminal works.\nこの鍵は媒体の外にありました。複製されている可能性があります。\n", from)
		return r.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON)
	})
	return cmd
}

// maxKeyFile bounds a private key in PEM, in bytes: RSA-2048 has 1.7 kB.
const maxKeyFile = 16 << 10

// readPrivateKey reads a private key for a purpose from a PEM file. Parsers may
// quote what they read, so their errors are not repeated.
func readPrivateKey(path string, p keystore.Purpose) (crypto.Signer, error) {
	text, err := smallfile.Read(path, maxKeyFile, 0o077)
	if err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return nil, err
		}
		return nil, cli.RefusedError{Err: err}
	}
	defer clear(text)
	parsed, err := parsePrivateKey(text)
	if err != nil {
		return nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, cli.RefusedError{Err: fmt.Errorf("%s holds a %T, which signs nothing", path, parsed)}
	}
	t, err := keystore.TypeOf(key.Public())
	if err == nil && !slices.Contains(keyTypes(p), t) {
		err = fmt.Errorf("%s: a key for %s is one of %q", t, p, keyTypes(p))
	}
	if err == nil && p == keystore.ExternalAuth {
		_, err = cardkey.New(key.Public()) // RSA with an exponent that no card takes
	}
	if err != nil {
		return nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return key, nil
}

func parsePrivateKey(text []byte) (any, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" { // OpenSSL writes it before the key
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("no PEM block found")
	}
	defer clear(block.Bytes)
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("more than one PEM block: one key in one file")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted: decrypt it first (openssl pkcs8 -in FILE -out /run/FILE)")
	default:
		return nil, errors.New(`no PEM block "PRIVATE KEY" found`)
	}
	if err != nil {
		return nil, errors.New("the PEM block holds no valid private key")
	}
	return key, nil
}
