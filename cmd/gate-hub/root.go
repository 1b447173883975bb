package main

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/whitelist"
)

func rootKeysCommand() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "root",
		Short: "Delegate the roles of a hub by offline root keys",
		Long: `A root is a few keys that are kept apart and offline, of which a number has to
agree. What they sign together says which keys may sign the lists, leases and
commands of a scope, from when to when. Terminals know the root alone, so that keys
of the hub are replaced without touching a terminal (docs/hub.md).`,
	}, rootDraftCommand(), rootShowCommand(), rootSignCommand(), rootCheckCommand())
}

// A draftFile is what root draft reads.
type draftFile struct {
	Scope     string    `toml:"scope"`
	Hierarchy string    `toml:"hierarchy"`
	Version   uint64    `toml:"version"`
	IssuedAt  time.Time `toml:"issued_at"`
	NotAfter  time.Time `toml:"not_after"`
	Keys      []struct {
		Role      string    `toml:"role"`
		Key       string    `toml:"key"` // PEM file
		NotBefore time.Time `toml:"not_before"`
		NotAfter  time.Time `toml:"not_after"`
	} `toml:"keys"`
}

func rootDraftCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "draft FILE.toml OUT",
		Short: "Write the delegation that root keys are to sign",
		Long: `Draft reads what is to be delegated, and writes it in the form that is signed, into a
new file:

  scope      = "arena-2026"
  hierarchy  = "production"
  version    = 2                      # above that of the last delegation
  issued_at  = 2026-04-01T00:00:00Z   # "now" when it is left out
  not_after  = 2026-10-01T00:00:00Z
  [[keys]]
  role       = "list"                 # list, lease or command
  key        = "list-2026.pub.pem"    # relative to this file
  not_before = 2026-04-01T00:00:00Z   # issued_at and not_after when left out
  not_after  = 2026-07-01T00:00:00Z
  [[keys]]                            # as many as there are, of each role
  role       = "lease"
  key        = "lease.pub.pem"`,
		Example: "  gate-hub root draft arena.toml arena.delegation",
		Args:    cli.Args(cobra.ExactArgs(2)),
	}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		text, err := smallfile.Read(a[0], maxConfig, 0)
		if err != nil {
			return err
		}
		d, err := readDraft(text, filepath.Dir(a[0]), time.Now())
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", a[0], err)}
		}
		payload, err := d.Encode()
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", a[0], err)}
		}
		if err := wholefile.New(a[1], payload); err != nil {
			return err
		}
		return describeDelegation(cmd.OutOrStdout(), false, d, nil)
	}
	return cmd
}

func readDraft(text []byte, folder string, now time.Time) (d roles.Delegation, err error) {
	f := draftFile{Hierarchy: whitelist.Production, IssuedAt: now.UTC().Truncate(time.Second)}
	if err := stricttoml.Decode(text, &f); err != nil {
		return d, err
	}
	d = roles.Delegation{Scope: f.Scope, Hierarchy: f.Hierarchy, Version: f.Version, IssuedAt: f.IssuedAt, NotAfter: f.NotAfter}
	for _, k := range f.Keys {
		g := roles.Grant{Role: sign1.Role(k.Role), NotBefore: k.NotBefore, NotAfter: k.NotAfter}
		if g.Key, err = readPublicKey(within(folder, k.Key)); err != nil {
			return d, err
		}
		if g.NotBefore.IsZero() {
			g.NotBefore = d.IssuedAt
		}
		if g.NotAfter.IsZero() {
			g.NotAfter = d.NotAfter
		}
		d.Grants = append(d.Grants, g)
	}
	return d, nil
}

// A delegationReport is what root show and check print. docs/cli.md lists its
// members.
type delegationReport struct {
	Scope     string        `json:"scope"`
	Hierarchy string        `json:"hierarchy"`
	Version   uint64        `json:"version"`
	IssuedAt  time.Time     `json:"issued_at"`
	NotAfter  time.Time     `json:"not_after"`
	Keys      []grantReport `json:"keys"`
	SignedBy  []string      `json:"signed_by,omitempty"`
}

type grantReport struct {
	Role      string    `json:"role"`
	Key       string    `json:"key"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// describeDelegation prints a delegation; signedBy are key check values.
func describeDelegation(w io.Writer, asJSON bool, d roles.Delegation, signedBy []string) error {
	r := delegationReport{d.Scope, d.Hierarchy, d.Version, d.IssuedAt, d.NotAfter, nil, signedBy}
	lines := [][2]string{
		{"scope", d.Scope + " (" + d.Hierarchy + ")"}, {"version", fmt.Sprint(d.Version)},
		{"issued at", instant(d.IssuedAt)}, {"not after", instant(d.NotAfter)},
	}
	for _, g := range d.Grants {
		kcv, err := keystore.KCV(g.Key)
		if err != nil {
			return err
		}
		r.Keys = append(r.Keys, grantReport{string(g.Role), kcv, g.NotBefore, g.NotAfter})
		lines = append(lines, [2]string{"key for " + string(g.Role), fmt.Sprintf("%s, %s to %s", kcv, instant(g.NotBefore), instant(g.NotAfter))})
	}
	for _, s := range signedBy {
		lines = append(lines, [2]string{"signed by", s})
	}
	return answer(w, asJSON, r, lines...)
}

// readDelegation reads a delegation, signed by some or by nobody yet.
func readDelegation(path string) (d roles.Delegation, b []byte, err error) {
	if b, err = smallfile.Read(path, roles.MaxSize, 0); err != nil {
		return d, nil, err
	}
	if roles.Begins(b) {
		d, err = roles.Peek(b)
	} else {
		d, err = roles.Decode(b)
	}
	if err != nil {
		return d, nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return d, b, nil
}

func rootShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show FILE [--json]",
		Short:   "Print what a delegation says, whoever signed it",
		Example: "  gate-hub root show arena.delegation",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		d, _, err := readDelegation(a[0])
		if err != nil {
			return err
		}
		return describeDelegation(cmd.OutOrStdout(), *asJSON, d, nil)
	}
	return cmd
}

func rootSignCommand() *cobra.Command {
	var uri string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign FILE --key URI [--yes]",
		Short: "Add the signature of one root key to a delegation",
		Long: `Sign shows what a delegation says, asks whether to sign it, and adds the signature of
one root key to the file. It needs no hub and no network. The file goes on to the
next keeper, or to the hub when enough have signed.
内容を確かめてから、ルート鍵一本の署名を加えます。`,
		Example: "  gate-hub root sign arena.delegation --key 'sealed:path=/media/safe/root-a.key;key-source=/media/other/seal'",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&uri, "key", "", "key URI of the root key")
	cmd.Flags().BoolVar(&yes, "yes", false, "sign without asking")
	cmd.RunE = withKeys(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		if uri == "" {
			return cli.UsageError("--key is missing: the key URI of the root key")
		}
		d, b, err := readDelegation(a[0])
		if err != nil {
			return err
		}
		if err := describeDelegation(cmd.ErrOrStderr(), false, d, nil); err != nil {
			return err
		}
		if err := confirm(cmd, yes, "Sign this delegation? この委任に署名しますか?"); err != nil {
			return err
		}
		k, err := openSigner(cmd, s, uri, rootPurpose)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		signed, err := d.Sign(nil, k)
		if err != nil {
			return err
		}
		all := [][]byte{signed}
		if roles.Begins(b) {
			// Signatures of ECDSA differ each time: Join would keep both.
			if twice, err := hasSigned(k.Public(), b); err != nil {
				return err
			} else if twice {
				return cli.RefusedError{Err: errors.New("this key has signed it already: it takes another root key")}
			}
			all = [][]byte{b, signed}
		}
		joined, err := roles.Join(all)
		if err != nil {
			return err
		}
		return wholefile.Replace(a[0], joined)
	})
	return cmd
}

// hasSigned reports whether a root key has signed a delegation.
func hasSigned(key crypto.PublicKey, delegation []byte) (bool, error) {
	alone, err := roles.NewRoot(1, key)
	if err != nil {
		return false, err
	}
	_, err = alone.Verify(delegation)
	return err == nil, nil
}

func rootCheckCommand() *cobra.Command {
	var files []string
	var threshold int
	cmd := &cobra.Command{
		Use:   "check FILE --root KEY.pem... --threshold N [--json]",
		Short: "Verify a delegation as a terminal does",
		Long: `Check verifies the signatures of a delegation by root keys and their threshold, and
says whether it holds now and who signed it.`,
		Example: "  gate-hub root check arena.delegation --root root-a.pub.pem --root root-b.pub.pem --root root-c.pub.pem --threshold 2",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringArrayVar(&files, "root", nil, "public half of a root key, PEM; each")
	cmd.Flags().IntVar(&threshold, "threshold", 0, "how many root keys have to agree")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var keys []crypto.PublicKey
		for _, f := range files {
			k, err := readPublicKey(f)
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
		root, err := roles.NewRoot(threshold, keys...)
		if err != nil {
			return cli.UsageError(err.Error())
		}
		b, err := smallfile.Read(a[0], roles.MaxSize, 0)
		if err != nil {
			return err
		}
		d, err := root.Verify(b)
		if err != nil {
			return cli.RefusedError{Err: err}
		}
		var signedBy []string
		for _, k := range keys {
			signed, err := hasSigned(k, b)
			if err != nil {
				return err
			}
			if signed {
				kcv, err := keystore.KCV(k)
				if err != nil {
					return err
				}
				signedBy = append(signedBy, kcv)
			}
		}
		if err := describeDelegation(cmd.OutOrStdout(), *asJSON, d, signedBy); err != nil {
			return err
		}
		if time.Now().After(d.NotAfter) {
			return cli.RefusedError{Err: fmt.Errorf("%w: it ended on %s", roles.ErrExpired, d.NotAfter.Format(time.RFC3339))}
		}
		return nil
	}
	return cmd
}
