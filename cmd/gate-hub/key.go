package main

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "key", Short: "Make the keys that sign lists, leases, commands and delegations, on whatever medium they lie"},
		keyGenerateCommand(), keyPublicCommand())
}

// purposes are the roles that a key of a hub may have, by which it is made: a key
// that is sealed in a file opens for no other.
func purposes() []keystore.Purpose {
	return []keystore.Purpose{keystore.List, keystore.Purpose(sign1.RoleLease), keystore.Purpose(sign1.RoleCommand), keystore.Purpose(sign1.RoleAck), rootPurpose}
}

// rootPurpose is that of a root key.
const rootPurpose = keystore.Purpose(sign1.RoleRoot)

const purposeUsage = "list, lease, command, ack or root"

func keyPurpose(name string) (keystore.Purpose, error) {
	if p := keystore.Purpose(name); slices.Contains(purposes(), p) {
		return p, nil
	}
	return "", cli.UsageError(fmt.Sprintf("--purpose %q: want one of %q", name, purposes()))
}

// A keyReport is what key generate and public print. docs/cli.md lists its members.
type keyReport struct {
	URI       string `json:"uri"`
	Medium    string `json:"medium"`
	Purpose   string `json:"purpose"`
	Type      string `json:"type"`
	Key       string `json:"key"`    // KCV
	Public    string `json:"public"` // PEM
	Custody   string `json:"custody"`
	DiskOpens bool   `json:"disk_opens"`
}

func describeKey(uri string, p keystore.Purpose, public crypto.PublicKey) (keyReport, error) {
	custody, err := keystore.CustodyOf(uri)
	if err != nil {
		return keyReport{}, err
	}
	t, err := keystore.TypeOf(public)
	if err != nil {
		return keyReport{}, err
	}
	kcv, err := keystore.KCV(public)
	if err != nil {
		return keyReport{}, err
	}
	text, err := sign1.MarshalPublicKey(public)
	return keyReport{uri, custody.Medium, string(p), string(t), kcv, string(text), custody.Text, custody.DiskOpens}, err
}

// print writes the public half to w, and to errw what a person wants to know of it.
func (r keyReport) print(w, errw io.Writer, asJSON bool) error {
	if asJSON {
		return answer(w, true, r)
	}
	fmt.Fprintf(errw, "KCV      %s (%s, %s)\ncustody  %s\n", r.Key, r.Purpose, r.Type, r.Custody)
	_, err := io.WriteString(w, r.Public)
	return err
}

// withKeys gives a command the media that there are.
func withKeys(f func(cmd *cobra.Command, s *keystore.Store, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s := new(keystore.Store)
		return errors.Join(f(cmd, s, args), s.Close())
	}
}

func keyGenerateCommand() *cobra.Command {
	var purpose, typ string
	var source bool
	cmd := &cobra.Command{
		Use:   "generate URI --purpose PURPOSE [--type TYPE] [--make-key-source] [--json]",
		Short: "Make a private key on its medium, and print its public half",
		Long: `Generate makes a private key for one role at the place that a URI names
(docs/keystore.md), and prints its public half as PEM and on standard error its key
check value (KCV). A key that is there is never replaced. Types: ed25519 (the
default), p-256, p-384; a TPM has no ed25519.
秘密鍵を媒体の中に生成し、公開鍵を表示します。既にある鍵は置き換えません。`,
		Example: `  gate-hub key generate --purpose list 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=hub;object=list?pin-source=/etc/gate-hub/pin' > list.pub.pem
  gate-hub key generate --purpose root --make-key-source 'sealed:path=/media/safe/root-a.key;key-source=/media/other/seal' > root-a.pub.pem`,
		Args: cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage)
	require(cmd, "purpose")
	cmd.Flags().StringVar(&typ, "type", "", "ed25519, p-256 or p-384")
	cmd.Flags().BoolVar(&source, "make-key-source", false, "of a sealed: key, make the key source too when there is none, 32 random bytes")
	asJSON := jsonFlag(cmd)
	cmd.RunE = withKeys(func(cmd *cobra.Command, s *keystore.Store, a []string) error {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		u, err := keystore.ParseURI(a[0])
		if err != nil {
			return cli.UsageError(err.Error())
		}
		t := keystore.Ed25519
		if typ != "" {
			t = keystore.KeyType(typ)
		}
		if !slices.Contains([]keystore.KeyType{keystore.Ed25519, keystore.P256, keystore.P384}, t) {
			return cli.UsageError(fmt.Sprintf("--type %q: want ed25519, p-256 or p-384", typ))
		}
		if source {
			file := strings.TrimPrefix(u.Get("key-source"), "file:")
			if file == "" {
				return cli.UsageError("--make-key-source is for a sealed: key")
			}
			if err := keystore.GenerateKeySource(file); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		public, err := s.Generate(cmd.Context(), a[0], p, t)
		if errors.Is(err, keystore.ErrExists) {
			err = fmt.Errorf("%w: name another place, or look at this one with gate-hub key public", err)
		}
		if err != nil {
			return err
		}
		r, err := describeKey(a[0], p, public)
		if err != nil {
			return err
		}
		return r.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), *asJSON)
	})
	return cmd
}

func keyPublicCommand() *cobra.Command {
	var purpose string
	cmd := &cobra.Command{
		Use:     "public URI --purpose PURPOSE [--json]",
		Short:   "Print the public half of a key",
		Example: "  gate-hub key public --purpose list 'sealed:path=/var/lib/gate-hub/scopes/arena/list.key;key-source=/var/lib/gate-hub/keys/seal'",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage)
	require(cmd, "purpose")
	asJSON := jsonFlag(cmd)
	cmd.RunE = withKeys(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		k, err := openSigner(cmd, s, a[0], p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		r, err := describeKey(a[0], p, k.Public())
		if err != nil {
			return err
		}
		return r.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), *asJSON)
	})
	return cmd
}

// openSigner opens a key of a command line. The command closes it.
func openSigner(cmd *cobra.Command, s *keystore.Store, uri string, p keystore.Purpose) (*keystore.Key, error) {
	if _, err := keystore.ParseURI(uri); err != nil {
		return nil, cli.UsageError(err.Error())
	}
	k, err := s.OpenSigner(cmd.Context(), uri, p)
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return k, nil
}
