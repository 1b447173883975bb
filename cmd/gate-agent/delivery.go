package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// The delivery key is that to which a hub seals the scope key of this terminal. It
// lies wrapped in the state folder.

func (c *config) deliveryPath() string { return filepath.Join(c.path(c.State), "delivery.key") }

// openDeliveryKey opens it. The error is fs.ErrNotExist where nobody has made one.
func (c *config) openDeliveryKey() (k lease.DeliveryKey, err error) {
	blob, err := readFile(c.deliveryPath())
	if err != nil {
		return k, fmt.Errorf("delivery key: %w", err)
	}
	wrapper, err := c.openWrapper()
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, wrapper.Close()) }()
	secret, err := wrapper.Unwrap(blob, lease.WrapLabel(c.Terminal))
	if err != nil {
		return k, cli.ConfigError{Err: fmt.Errorf("delivery key %s: %w (was it made for terminal %q, with this scope_key.wrapper?)", c.deliveryPath(), err, c.Terminal)}
	}
	defer clear(secret)
	if k, err = lease.ParseDeliveryKey(secret); err != nil {
		return k, cli.ConfigError{Err: fmt.Errorf("delivery key %s: %w", c.deliveryPath(), err)}
	}
	return k, nil
}

func (c *config) openWrapper() (keystore.Wrapper, error) {
	wrapper, err := c.keys.store.OpenWrapper(c.keys.ctx, c.ScopeKey.Wrapper)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("scope_key.wrapper: %w", err)}
	}
	return wrapper, nil
}

// makeDeliveryKey makes it once. One that is there is never replaced: what the hub
// seals to it would not open any more.
func (c *config) makeDeliveryKey() (k lease.DeliveryKey, made bool, err error) {
	if k, err = c.openDeliveryKey(); !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	if k, err = lease.NewDeliveryKey(); err != nil {
		return k, false, err
	}
	wrapper, err := c.openWrapper()
	if err != nil {
		return k, false, err
	}
	defer func() { err = errors.Join(err, wrapper.Close()) }()
	secret, err := k.Bytes()
	if err != nil {
		return k, false, err
	}
	defer clear(secret)
	blob, err := wrapper.Wrap(secret, lease.WrapLabel(c.Terminal))
	if err != nil {
		return k, false, err
	}
	if err := c.makeState(); err != nil {
		return k, false, err
	}
	return k, true, wholefile.New(c.deliveryPath(), blob)
}

func keyDeliveryCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "delivery --config FILE [--json]",
		Short: "Make the key to which a hub sends this terminal its scope key, once, and print its public half",
		Long: `Delivery makes the terminal's delivery key, where there is none yet, and prints its
public half: give it to the hub (gate-hub terminal add). The private half lies in the
state folder, wrapped by scope_key.wrapper.

Whoever puts another key in its place on the way gets the scope key in the terminal's
name. So compare the key check value (KCV) that is printed here with the one that the
hub shows, over the telephone or eye to eye, before the hub issues a lease.
ハブに登録する受信鍵を作ります。照合値（KCV）をハブの表示と必ず比べてください。`,
		Example: "  gate-agent key delivery --config /etc/gate-agent/config.toml > gate-1-left.pem",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		k, made, err := c.makeDeliveryKey()
		if err != nil {
			return err
		}
		public, err := k.Public()
		if err != nil {
			return err
		}
		text, err := lease.MarshalPublic(public)
		if err != nil {
			return err
		}
		kcv, err := keystore.KCV(public)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				Terminal string `json:"terminal"`
				Made     bool   `json:"made"`
				Key      string `json:"key"`
				Public   string `json:"public"`
			}{c.Terminal, made, kcv, string(text)})
		}
		if made {
			fmt.Fprintln(cmd.ErrOrStderr(), "made / 作成しました")
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "terminal %s\nkey      %s   compare it with the hub's / ハブの表示と比べてください\n%s", c.Terminal, kcv, text)
		return err
	})
	return cmd
}
