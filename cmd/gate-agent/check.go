package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

func checkConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check-config --config FILE",
		Short: "Check a configuration and open every key and file that it names",
		Long: `Check-config opens every key and file that a configuration names, and prints
what the agent would work with. A list or a reader that is missing is told, and
is no error: both may come later.`,
		Example: "  gate-agent check-config --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		key, scopeKey, err := c.describeScopeKey()
		if err != nil {
			return err
		}
		proof, err := c.openProof()
		if err != nil {
			return err
		}
		identity, err := c.describeIdentity()
		if err != nil {
			return err
		}
		source, err := c.describeSource()
		if err != nil {
			return err
		}
		members, err := c.describeStaff()
		if err != nil {
			return err
		}
		custody, err := c.custody()
		if err != nil {
			return cli.ConfigError{Err: err}
		}
		lanes := c.lanes()
		readers := make([]*pcsc.Lane, len(lanes))
		for i, l := range lanes {
			if readers[i], err = l.openReader(); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, readers[i].Close()) }()
		}
		list, state := noList, "made when the agent starts"
		// A state folder is made by whom it shall belong to, not by a check.
		if info, statErr := os.Stat(c.path(c.State)); statErr == nil {
			if state = c.path(c.State); info.Mode().Perm()&0o022 != 0 {
				state += fmt.Sprintf(": OTHERS CAN WRITE TO IT (mode %04o), run chmod 0700", info.Mode().Perm())
			}
			if err := c.checkJournal(); err != nil {
				return err
			}
			if list, err = c.describeListOf(key); err != nil {
				return err
			}
		} else if _, err := c.trust(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()

		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "terminal   %s, scope %s, mode %s\n", c.Terminal, c.Scope, c.Mode)
		fmt.Fprintf(w, "hub        %s\n", c.describeHub(time.Now()))
		fmt.Fprintf(w, "scope key  %s\n", scopeKey)
		fmt.Fprintf(w, "commands   %s\n", c.describeCommands())
		for i, l := range lanes {
			fmt.Fprintf(w, "lane       %s, %s, driver %s, %v for each to pass\n", l.label(), l.Gate.Mode, l.Gate.Driver, l.Gate.PassTime.Duration)
			fmt.Fprintf(w, "readers    %s\n", describeReaders(ctx, readers[i], l.Reader.Slots).text)
		}
		fmt.Fprintf(w, "methods    %q, deadline %v\n", c.Methods, c.Deadline.Duration)
		fmt.Fprintf(w, "anchors    %d\n", len(proof.anchors.Certificates()))
		for _, a := range proof.surface {
			fmt.Fprintf(w, "surface CA %s/%s, SHA-256 of its public key %x\n", a.ID[:7], a.ID[9:12], sha256.Sum256(a.Key.SPKI()))
		}
		if c.TapUse.FirstUse {
			fmt.Fprintf(w, "first use  on. %s\n", firstUseWarning)
		}
		for _, s := range proof.keys.describe() {
			fmt.Fprintf(w, "method A   %s\n", s)
		}
		fmt.Fprintf(w, "identity   %s\n", identity)
		fmt.Fprintf(w, "staff      %s\n", members)
		fmt.Fprintf(w, "journal    %s\n", c.describeRecord())
		fmt.Fprintf(w, "state      %s\n", state)
		fmt.Fprintf(w, "list       %s\n", list)
		fmt.Fprintf(w, "source     %s\n", source)
		for _, s := range custody {
			fmt.Fprintf(w, "custody    %s\n", s)
		}
		if c.Mode == anchor.Test {
			fmt.Fprintln(w, "This is a TEST terminal: it trusts test cards and test lists, and no real ones.")
		}
		fmt.Fprintln(w, "configuration is good")
		return nil
	})
	return cmd
}

// firstUseWarning says where first use is configured what it does not prove.
const firstUseWarning = "It does not prove that certificate and card key are of one chip, and it tells a listed person's birth date to whoever presents a copy of that person's certificate"

// describeIdentity says which key signs what this terminal registers, if there
// is one.
func (c *config) describeIdentity() (string, error) {
	if c.Identity.Key == "" {
		return "none: nobody can be registered here", nil
	}
	signer, err := c.openIdentity()
	if err != nil {
		return "", err
	}
	id, err := sign1.KeyID(signer.Public())
	if err != nil {
		return "", cli.ConfigError{Err: fmt.Errorf("identity.key: %w", err)}
	}
	return fmt.Sprintf("SHA-256 of its public key %x", id), nil
}

// describeStaff says who may use the agent at the gate.
func (c *config) describeStaff() (string, error) {
	roster, err := c.openRoster()
	if err != nil {
		return "", err
	}
	if roster == nil {
		return "none: nobody can let people in, annul or take the gate out of order (docs/staff.md)", nil
	}
	return fmt.Sprintf("%d in %s", roster.Len(), c.path(c.Staff.File)), nil
}

// checkJournal opens the journal for reading, if there is one.
func (c *config) checkJournal() error {
	r, err := journal.OpenReader(c.journalPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return journalError(err)
	}
	return r.Close()
}

const noList = "none yet, every card is denied: run gate-agent list import"

// describeListOf says which list is in force under a scope key, which may be none.
func (c *config) describeListOf(key cardid.ScopeKey) (text string, err error) {
	if key.IsZero() {
		return "cannot be opened without a scope key: every card is denied", nil
	}
	store, err := c.openList(key)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return describeList(store)
}

// describeList says which list is in force. A list that is damaged is an
// error; none at all is not.
func describeList(store *listdb.Store) (string, error) {
	view, err := store.Current()
	if errors.Is(err, listdb.ErrNoList) {
		return noList, nil
	}
	if err != nil {
		return "", cli.RefusedError{Err: err}
	}
	defer view.Release()
	m := view.Manifest()
	text := fmt.Sprintf("epoch %d, seq %d, %d rows, not after %s", m.Epoch, m.Seq, m.Rows, m.NotAfter.Local().Format("2006-01-02 15:04"))
	if time.Now().After(m.NotAfter) {
		text += fmt.Sprintf(": EXPIRED, policy %s", m.Policy.Expired)
	}
	return text, nil
}
