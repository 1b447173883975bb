package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list (URI | --config FILE) [--json]",
		Short: "List the keys of a medium, or those that a configuration names",
		Long: `List with --config tells of every key that a configuration names where it lies,
its key check value (KCV), what its medium protects against, and whether it opens
now; the key of a rotation (key rotate) too. One that does not is told and is no error: check-config fails over it.

With a URI it lists what a medium holds, as far as the medium tells; the URI need not
name a key. A sealed: key is a file, which ls lists.
設定に書かれた鍵、または媒体の中の鍵を一覧します。`,
		Example: `  gate-agent key list --config /etc/gate-agent/config.toml
  gate-agent key list 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=gate-1?pin-source=/etc/gate-agent/pin'`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	ofConfig := withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		keys, err := c.configuredKeys(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(keyListing[configuredKey]{keys})
		}
		for _, k := range keys {
			k.print(cmd.OutOrStdout())
		}
		return nil
	})
	ofMedium := withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) error {
		entries, err := s.List(cmd.Context(), a[0])
		switch {
		case errors.Is(err, keystore.ErrCannot):
			return fmt.Errorf("%w: key list --config FILE tells of the keys that a terminal uses", err)
		case err != nil:
			return err
		}
		keys, err := listedKeys(entries)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(keyListing[listedKey]{keys})
		}
		return printListed(cmd.OutOrStdout(), keys)
	})
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		switch config := cmd.Flags().Changed("config"); {
		case config == (len(a) == 1):
			return cli.UsageError("give a URI or --config FILE, one of them")
		case config:
			return ofConfig(cmd, a)
		}
		if _, err := keystore.ParseMedium(a[0]); err != nil {
			return cli.UsageError(err.Error())
		}
		return ofMedium(cmd, a)
	}
	return cmd
}

// A keyListing is what key list prints.
type keyListing[K any] struct {
	Keys []K `json:"keys"`
}

// A configuredKey is a key that a configuration names. docs/cli.md lists its
// members.
type configuredKey struct {
	Place     string `json:"place"` // in the configuration
	URI       string `json:"uri"`
	Purpose   string `json:"purpose"`
	Medium    string `json:"medium"`
	Type      string `json:"type,omitempty"`
	Key       string `json:"key,omitempty"` // KCV
	Custody   string `json:"custody,omitempty"`
	DiskOpens bool   `json:"disk_opens"`
	Opens     bool   `json:"opens"`
	Problem   string `json:"problem,omitempty"` // why it does not open
}

// usedKeys are those that the configuration names, and the one that a rotation puts
// in the place of another.
func (c *config) usedKeys() ([]keyPlace, error) {
	places := c.keyPlaces()
	r, err := c.readRotation()
	if r != nil {
		places = append(places, keyPlace{"key rotate", r.Key, keystore.ExternalAuth, r.Certificates})
	}
	return places, err
}

// configuredKeys opens one key after the other.
func (c *config) configuredKeys(ctx context.Context) ([]configuredKey, error) {
	places, err := c.usedKeys()
	if err != nil {
		return nil, err
	}
	keys := []configuredKey{}
	for _, place := range places {
		u, err := keystore.ParseURI(place.uri)
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", place.name, err)}
		}
		k := configuredKey{Place: place.name, URI: u.String(), Purpose: string(place.purpose), Medium: u.Scheme()}
		err = c.describePlace(ctx, place, u, &k)
		if k.Opens = err == nil; err != nil {
			k.Problem = err.Error()
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (c *config) describePlace(ctx context.Context, place keyPlace, u keystore.URI, k *configuredKey) (err error) {
	custody, err := keystore.CustodyOf(place.uri)
	k.Custody, k.DiskOpens = custody.Text, custody.DiskOpens
	if place.purpose == keystore.Wrap {
		k.Type = wrapType
		w, openErr := c.keys.store.OpenWrapper(ctx, place.uri)
		if openErr == nil {
			openErr = w.Close()
		}
		return errors.Join(err, openErr)
	}
	key, openErr := c.openPlace(ctx, &c.keys.store, place)
	if err := errors.Join(err, openErr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	r, err := describeKey(u, place.purpose, key.Public())
	k.Type, k.Key = r.Type, r.Key
	return err
}

// print writes it for a person.
func (k configuredKey) print(w io.Writer) {
	fmt.Fprintln(w, k.Place)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-8s %s\n", name, shown(value))
		}
	}
	line("purpose", k.Purpose)
	line("place", k.URI)
	line("type", k.Type)
	line("KCV", k.Key)
	line("custody", k.Custody)
	if k.Opens {
		line("opens", "yes")
	} else {
		line("opens", "NO: "+k.Problem)
	}
}

// A listedKey is a key that a medium holds. docs/cli.md lists its members.
type listedKey struct {
	URI     string `json:"uri"` // opens it
	Label   string `json:"label,omitempty"`
	Purpose string `json:"purpose,omitempty"`
	Type    string `json:"type"`
	Key     string `json:"key,omitempty"` // KCV
}

func listedKeys(entries []keystore.Entry) ([]listedKey, error) {
	keys := []listedKey{}
	for _, e := range entries {
		k := listedKey{URI: e.URI, Label: e.Label, Purpose: string(e.Purpose), Type: e.Type}
		if e.Public != nil {
			var err error
			if k.Key, err = keystore.KCV(e.Public); err != nil {
				return nil, err
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func printListed(w io.Writer, keys []listedKey) error {
	if len(keys) == 0 {
		_, err := fmt.Fprintln(w, "no keys")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KCV\tTYPE\tPURPOSE\tLABEL\tURI")
	for _, k := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", dash(k.Key), dash(k.Type), dash(k.Purpose), dash(shown(k.Label)), k.URI)
	}
	return table.Flush()
}

// dash stands where there is nothing.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
