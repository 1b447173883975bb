package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyDestroyCommand() *cobra.Command {
	var purpose, kcv, again string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "destroy URI --purpose PURPOSE --kcv KCV [--config FILE] [--json]",
		Short: "Destroy a key for ever",
		Long: `Destroy removes a private key from its medium. There is no way back. Its key check
value (KCV) must be given, which key public and key list print: another key than the
one that is meant is not destroyed. A wrapping secret has none: it takes
--yes-destroy with the same URI again. What it wraps is lost with it.

With --config a key that the configuration still names is not destroyed: give the
configuration of every terminal that could use it.
鍵を完全に消去します。元に戻せません。`,
		Example: `  gate-agent key destroy --purpose external-auth --kcv C51D-1C23-AC02-3278 --config /etc/gate-agent/config.toml 'sealed:path=/etc/gate-agent/old.key;key-source=/etc/gate-agent/seal'`,
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage+", or wrap")
	cmd.Flags().StringVar(&kcv, "kcv", "", "check value of the key that is meant")
	cmd.Flags().StringVar(&again, "yes-destroy", "", "of a wrapping secret, its URI a second time")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		p, err := keyPurpose(purpose, keystore.Wrap)
		if err != nil {
			return err
		}
		u, err := keyURI(a[0])
		if err != nil {
			return err
		}
		if p == keystore.Wrap && kcv != "" {
			return cli.UsageError("a wrapping secret has no check value: give --yes-destroy with its URI instead of --kcv")
		}
		if p != keystore.Wrap && again != "" {
			return cli.UsageError("--yes-destroy is for a wrapping secret: give --kcv with the key's check value")
		}
		public, err := meantKey(cmd, s, u, p)
		if err != nil {
			return err
		}
		r, err := describeKey(u, p, public)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s (%s, %s) at %s\n", r.name(), r.Purpose, r.Type, r.URI)
		if err := r.meant(kcv, again); err != nil {
			return err
		}
		if path, _ := cmd.Flags().GetString("config"); path != "" {
			c, err := loadConfig(path)
			if err != nil {
				return err
			}
			if err := c.checkUnnamed(cmd.Context(), s, u, p, public); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(cmd.ErrOrStderr(), "no --config: whether a terminal still uses it was not looked at")
		}
		if err := s.Destroy(cmd.Context(), a[0], p, public); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				Destroyed string `json:"destroyed"`
				keyReport
			}{u.String(), r})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "destroyed %s\n", r.name())
		return err
	})
	return cmd
}

// meantKey opens what is to be destroyed, and returns its public half, nil of a
// wrapping secret.
func meantKey(cmd *cobra.Command, s *keystore.Store, u keystore.URI, p keystore.Purpose) (crypto.PublicKey, error) {
	if p == keystore.Wrap {
		w, err := s.OpenWrapper(cmd.Context(), u.String())
		if err != nil {
			return nil, cli.ConfigError{Err: err}
		}
		return nil, w.Close()
	}
	k, err := openKey(cmd, s, u.String(), p)
	if err != nil {
		return nil, err
	}
	return k.Public(), k.Close()
}

// meant compares what is there with what somebody wants to destroy.
func (r keyReport) meant(kcv, again string) error {
	switch {
	case r.Key == "" && again == "":
		return cli.UsageError("what this secret wraps is lost with it: to destroy it for ever give --yes-destroy with the same URI again")
	case r.Key == "":
		if u, err := keystore.ParseURI(again); err != nil || u.String() != r.URI {
			return cli.UsageError("--yes-destroy names something else than the URI: nothing is destroyed")
		}
	case kcv == "":
		return cli.UsageError(fmt.Sprintf("--kcv is missing: to destroy this key for ever give --kcv %s", r.Key))
	case !sameKCV(kcv, r.Key):
		return cli.RefusedError{Err: fmt.Errorf("the key there is %s, and not the one that --kcv names: nothing is destroyed", r.Key)}
	}
	return nil
}

func (r keyReport) name() string {
	if r.Key == "" {
		return "wrapping secret"
	}
	return "key " + r.Key
}

// checkUnnamed wants that neither the configuration nor a rotation names the key, by
// this URI or another one. A key of the same kind of medium that does not open might be it.
func (c *config) checkUnnamed(ctx context.Context, s *keystore.Store, u keystore.URI, p keystore.Purpose, public crypto.PublicKey) error {
	places, err := c.usedKeys()
	if err != nil {
		return err
	}
	for _, place := range places {
		other, err := keystore.ParseURI(place.uri)
		if err != nil {
			return cli.ConfigError{Err: fmt.Errorf("%s: %w", place.name, err)}
		}
		named := withoutSecrets(other) == withoutSecrets(u)
		if !named && other.Scheme() == u.Scheme() && (place.purpose == keystore.Wrap) == (p == keystore.Wrap) {
			if p == keystore.Wrap {
				named, err = sameSecret(ctx, s, u.String(), place.uri)
			} else {
				named, err = c.sameKey(ctx, s, place, public)
			}
			if err != nil {
				return cli.RefusedError{Err: fmt.Errorf("nobody can tell whether %s is this key: %w", place.name, err)}
			}
		}
		if named {
			return cli.RefusedError{Err: fmt.Errorf("%s still names this key: nothing is destroyed. Give the configuration another key first", place.name)}
		}
	}
	return nil
}

// sameKey reports whether a key has that public half.
func (c *config) sameKey(ctx context.Context, s *keystore.Store, place keyPlace, public crypto.PublicKey) (bool, error) {
	k, err := c.openPlace(ctx, s, place)
	if err != nil {
		return false, err
	}
	return keystore.SameKey(k.Public(), public), k.Close()
}

// sameSecret reports whether two URIs name one wrapping secret: one opens what the
// other has wrapped.
func sameSecret(ctx context.Context, s *keystore.Store, a, b string) (bool, error) {
	const label = "gate-agent key destroy"
	w, err := s.OpenWrapper(ctx, a)
	if err != nil {
		return false, err
	}
	blob, err := w.Wrap([]byte("nothing secret"), label)
	if err := errors.Join(err, w.Close()); err != nil {
		return false, err
	}
	if w, err = s.OpenWrapper(ctx, b); err != nil {
		return false, err
	}
	_, err = w.Unwrap(blob, label)
	if errors.Is(err, keystore.ErrWrongSecret) || errors.Is(err, keystore.ErrDamaged) {
		return false, w.Close()
	}
	return err == nil, errors.Join(err, w.Close())
}

// withoutSecrets is the URI without the files that open the key: those may be
// written in several ways.
func withoutSecrets(u keystore.URI) string {
	return u.With("key-source", "").With("pin-source", "").String()
}
