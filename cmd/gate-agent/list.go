package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

func listCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "list", Short: "Look at the list, compare it, or take over a new one"}, listInfoCommand(), listDiffCommand(), listImportCommand())
}

func listInfoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "info --config FILE [--json]",
		Short:   "Check the list in force to its last row, and print its manifest",
		Example: "  gate-agent list info --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		store, err := c.openStore()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		view, err := store.Current()
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("the list in %s: %w", c.path(c.State), err)}
		}
		defer view.Release()
		if err := store.Verify(cmd.Context()); err != nil {
			return cli.RefusedError{Err: fmt.Errorf("the list in %s: %w", c.path(c.State), err)}
		}
		return printManifest(cmd.OutOrStdout(), view.Manifest(), asJSON)
	})
	return cmd
}

func listImportCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import --config FILE LIST",
		Short: "Verify a signed list file and put it in force",
		Long: `Import verifies a signed list file and puts it in force as a whole; a list that
is refused leaves the one in force where it is. A running agent uses the new list
from its next tap on.`,
		Example: "  gate-agent list import --config /etc/gate-agent/config.toml /media/usb/list.cose",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, a []string) (err error) {
		store, err := c.openStore()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		f, err := os.Open(a[0])
		if err != nil {
			return err
		}
		defer f.Close()
		m, err := store.Import(cmd.Context(), f, time.Now(), progress(cmd.ErrOrStderr()))
		if err != nil {
			return importError(fmt.Errorf("%s: %w", a[0], err))
		}
		return printManifest(cmd.OutOrStdout(), m, asJSON)
	})
	return cmd
}

// importError gives a list that was refused its exit code. What else keeps it
// out of force, such as a full disk, is no fault of the list.
func importError(err error) error {
	if _, ok := errors.AsType[*whitelist.RefusedError](err); ok {
		return cli.RefusedError{Err: err}
	}
	return err
}

// openStore opens the list store alone.
func (c *config) openStore() (*listdb.Store, error) {
	key, err := c.openScopeKey()
	if err != nil {
		return nil, err
	}
	return c.openList(key)
}

// progress tells a waiting person how far a long import is.
func progress(w io.Writer) func(uint64) {
	next := time.Now().Add(time.Second)
	return func(rows uint64) {
		if now := time.Now(); now.After(next) {
			next = now.Add(time.Second)
			fmt.Fprintf(w, "%d rows …\n", rows)
		}
	}
}

// printManifest writes what a list says of itself.
func printManifest(w io.Writer, m whitelist.Manifest, asJSON bool) error {
	rows := m.Digest()
	sum, name := hex.EncodeToString(rows[:]), "rows_sha256"
	if m.Published() {
		name = "set_digest"
	}
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{
			"scope": m.Scope, "hierarchy": m.Hierarchy, "epoch": m.Epoch, "seq": m.Seq, "rows": m.Rows, name: sum,
			"issued_at": m.IssuedAt, "not_after": m.NotAfter, "revocation_as_of": m.RevocationAsOf,
			"policy": map[string]any{
				"expired": m.Policy.Expired.String(), "stale_revocation": m.Policy.StaleRevocation.String(),
				"untrusted_clock": m.Policy.UntrustedClock.String(), "revocation_max_age_s": int64(m.Policy.RevocationMaxAge.Seconds()),
			},
		})
	}
	at := func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
	for _, l := range [][2]string{
		{"scope", m.Scope + " (" + m.Hierarchy + ")"},
		{"epoch, seq", fmt.Sprintf("%d, %d", m.Epoch, m.Seq)},
		{"rows", fmt.Sprint(m.Rows)},
		{strings.ReplaceAll(name, "_", " "), sum},
		{"issued at", at(m.IssuedAt)},
		{"not after", at(m.NotAfter)},
		{"revocation as of", at(m.RevocationAsOf)},
		{"when expired", m.Policy.Expired.String()},
		{"revocation stale", fmt.Sprintf("%s, after %v", m.Policy.StaleRevocation, m.Policy.RevocationMaxAge)},
		{"clock untrusted", m.Policy.UntrustedClock.String()},
	} {
		if _, err := fmt.Fprintf(w, "%-18s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}
