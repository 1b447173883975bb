package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "key", Short: "Make, test and destroy a terminal's keys, on whatever medium they lie"},
		keyGenerateCommand(), keyImportCommand(), keyPublicCommand(), keyListCommand(), keyTestCommand(),
		keyRequestCommand(), keyDestroyCommand(), keyRotateCommand(), keyCeremonyCommand(), keyDeliveryCommand())
}

// keyTypes are those that a key for a purpose may have, the usual one first.
func keyTypes(p keystore.Purpose) []keystore.KeyType {
	switch p {
	case keystore.ExternalAuth: // what a card-verifiable certificate holds
		return []keystore.KeyType{keystore.RSA2048, keystore.P384}
	case keystore.Identity, keystore.Checkpoint: // what package sign1 signs with
		return []keystore.KeyType{keystore.Ed25519, keystore.P256, keystore.P384}
	}
	return nil
}

// signingPurposes are those of a terminal's signing keys.
var signingPurposes = [...]keystore.Purpose{keystore.ExternalAuth, keystore.Identity, keystore.Checkpoint}

const purposeUsage = "external-auth, identity or checkpoint"

// keyPurpose reads --purpose; further are allowed beside the signing ones.
func keyPurpose(name string, further ...keystore.Purpose) (keystore.Purpose, error) {
	all := append(slices.Clone(signingPurposes[:]), further...)
	if p := keystore.Purpose(name); slices.Contains(all, p) {
		return p, nil
	}
	return "", cli.UsageError(fmt.Sprintf("--purpose %q: want one of %q", name, all))
}

// keyType reads --type, "" where none was given.
func keyType(name string, u keystore.URI, p keystore.Purpose) (keystore.KeyType, error) {
	t, all := keystore.KeyType(name), keyTypes(p)
	switch {
	case name == "" && all[0] == keystore.Ed25519 && u.Scheme() == "tpm":
		return "", cli.UsageError("a TPM has no Ed25519: give --type p-256")
	case name == "":
		return all[0], nil
	case !slices.Contains(all, t):
		return "", cli.UsageError(fmt.Sprintf("--type %q: a key for %s is one of %q", name, p, all))
	}
	return t, nil
}

// keyURI parses the URI of a command line.
func keyURI(text string) (keystore.URI, error) {
	u, err := keystore.ParseURI(text)
	if err != nil {
		return u, cli.UsageError(err.Error())
	}
	return u, nil
}

// withStore gives a command the media that there are.
func withStore(f func(cmd *cobra.Command, s *keystore.Store, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s := &keystore.Store{Card: connectCard}
		return errors.Join(f(cmd, s, args), s.Close())
	}
}

// openKey opens a key for one command. It is closed by the command.
func openKey(cmd *cobra.Command, s *keystore.Store, uri string, p keystore.Purpose) (*keystore.Key, error) {
	k, err := s.OpenSigner(cmd.Context(), uri, p)
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return k, nil
}

// A keyReport is what key generate, import and public print. docs/cli.md lists its
// members.
type keyReport struct {
	URI       string `json:"uri"`
	Medium    string `json:"medium"`
	Purpose   string `json:"purpose"`
	Type      string `json:"type"`
	Key       string `json:"key,omitempty"`    // KCV; a wrapping secret has none
	Public    string `json:"public,omitempty"` // PEM; the same
	Custody   string `json:"custody"`
	DiskOpens bool   `json:"disk_opens"`
}

// describeKey tells of a key; public is nil for a wrapping secret.
func describeKey(u keystore.URI, p keystore.Purpose, public crypto.PublicKey) (keyReport, error) {
	custody, err := keystore.CustodyOf(u.String())
	if err != nil {
		return keyReport{}, err
	}
	r := keyReport{URI: u.String(), Medium: custody.Medium, Purpose: string(p), Type: wrapType, Custody: custody.Text, DiskOpens: custody.DiskOpens}
	if public == nil {
		return r, nil
	}
	t, err := keystore.TypeOf(public)
	if err != nil {
		return r, err
	}
	r.Type = string(t)
	if r.Key, err = keystore.KCV(public); err != nil {
		return r, err
	}
	r.Public, err = publicPEM(public)
	return r, err
}

// wrapType is the type of a wrapping secret (docs/keystore.md).
const wrapType = "secret-32"

// print writes the public half to w, and to errw what a person wants to know of it.
func (r keyReport) print(w, errw io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	if r.Key == "" {
		fmt.Fprintf(errw, "place    %s (%s, %s)\n", r.URI, r.Purpose, r.Type)
	} else {
		fmt.Fprintf(errw, "KCV      %s (%s, %s)\n", r.Key, r.Purpose, r.Type)
	}
	fmt.Fprintf(errw, "custody  %s\n", r.Custody)
	_, err := io.WriteString(w, r.Public)
	return err
}

// publicPEM is a SubjectPublicKeyInfo (RFC 7468 §13).
func publicPEM(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	err = pem.Encode(&text, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return text.String(), err
}

// sameKCV compares a check value with one that a person typed: in either case, and
// with or without what stands between the groups.
func sameKCV(typed, kcv string) bool {
	plain := func(s string) string { return strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(s)) }
	return plain(typed) == plain(kcv)
}

func keyPublicCommand() *cobra.Command {
	var purpose string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "public URI --purpose PURPOSE [--json]",
		Short: "Print the public half of a key",
		Long: `Public opens a key and prints its public half as PEM, and on standard error its key
check value (KCV), by which two people compare what they have.`,
		Example: "  gate-agent key public --purpose identity 'sealed:path=/etc/gate-agent/identity.key;key-source=/etc/gate-agent/seal' > gate-1.pub.pem",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		u, err := keyURI(a[0])
		if err != nil {
			return err
		}
		k, err := openKey(cmd, s, a[0], p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		r, err := describeKey(u, p, k.Public())
		if err != nil {
			return err
		}
		return r.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON)
	})
	return cmd
}
