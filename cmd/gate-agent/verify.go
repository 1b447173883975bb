package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func journalVerifyCommand() *cobra.Command {
	var (
		asJSON    bool
		files     []string
		elsewhere string
	)
	cmd := &cobra.Command{
		Use:   "verify --config FILE [--checkpoint FILE] [--key FILE]... [--json]",
		Short: "Check every event against the hash chain, and the checkpoints in it",
		Long: `Verify walks the whole hash chain and names the first event that does not fit. It
checks the checkpoints in the chain by the terminal's own checkpoint key, or by the
public keys of --key instead.

A journal that lost its newest events, and was made to look whole, verifies: give
a checkpoint that was kept elsewhere, or compare the printed head with one that was.
記録が改ざんされていないことを確かめます。`,
		Example: `  gate-agent journal verify --config /etc/gate-agent/config.toml
  gate-agent journal verify --config /etc/gate-agent/config.toml --checkpoint /media/usb/checkpoint.cose`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&elsewhere, "checkpoint", "", "a checkpoint that was kept elsewhere")
	cmd.Flags().StringArrayVar(&files, "key", nil, "public key that signs checkpoints, PEM; default that of checkpoint.key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withJournal(func(cmd *cobra.Command, c *config, r *journal.Reader) error {
		keys, n, err := c.checkpointKeys(files)
		if err != nil {
			return err
		}
		var kept []byte
		if elsewhere != "" {
			if n == 0 {
				return cli.ConfigError{Err: errors.New("--checkpoint needs a key: name the terminal's public key with --key, or set checkpoint.key")}
			}
			if kept, err = readFile(elsewhere); err != nil {
				return cli.UsageError("--checkpoint: " + err.Error())
			}
		}
		verify := r.Verify
		if n > 0 {
			verify = func(ctx context.Context) (journal.Report, error) { return r.VerifySigned(ctx, keys) }
		}
		report, err := verify(cmd.Context())
		if err != nil {
			return checkpointError(err)
		}
		v := verified{
			Incarnation: hex.EncodeToString(report.Incarnation[:]), Events: report.Events, Head: hex.EncodeToString(report.Head[:]), Open: report.Open,
			Pruned: report.Pruned, Keys: n, Checkpoints: report.Checkpoints, Signed: report.Signed,
		}
		if report.Pruned > 0 {
			v.PrunedAt = &report.PrunedAt
		}
		if kept != nil {
			from, err := r.VerifyCheckpoint(cmd.Context(), keys, kept)
			if err != nil {
				return checkpointError(err)
			}
			said := describeCheckpoint(from)
			v.Checkpoint = &said
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
		}
		return v.print(cmd.OutOrStdout())
	})
	return cmd
}

// checkpointKeys are those that may sign checkpoints of this terminal: of files,
// else its own, if it has one.
func (c *config) checkpointKeys(files []string) (keys sign1.Keys, n int, err error) {
	var public []crypto.PublicKey
	for _, name := range files {
		text, err := readFile(name)
		if err != nil {
			return keys, 0, cli.UsageError("--key: " + err.Error())
		}
		key, err := sign1.ParsePublicKey(text)
		if err != nil {
			return keys, 0, cli.UsageError(fmt.Sprintf("--key: %s: %v", name, err))
		}
		public = append(public, key)
	}
	if len(files) == 0 {
		signer, err := c.openCheckpointKey()
		if err != nil {
			return keys, 0, fmt.Errorf("%w (or name the public key with --key)", err)
		}
		if signer == nil {
			return keys, 0, nil
		}
		public = append(public, signer.Public())
	}
	all := make([]sign1.Key, len(public))
	for i, key := range public {
		all[i] = sign1.Key{Public: key, Role: sign1.RoleCheckpoint, Scope: c.recordedScope(), Signer: c.Terminal}
	}
	if keys, err = sign1.NewKeys(all...); err != nil {
		return keys, 0, cli.UsageError("--key: " + err.Error())
	}
	return keys, len(all), nil
}

// recordedScope is the scope of what this terminal has signed of its journal: any, once
// a command has moved it.
func (c *config) recordedScope() string {
	for _, s := range c.memory.State().Scopes {
		if s.Name != c.Scope {
			return journal.AnyScope
		}
	}
	return c.Scope
}

// checkpointError gives what does not fit its exit code. That retention deleted
// what was to be compared is no such thing.
func checkpointError(err error) error {
	switch {
	case errors.Is(err, journal.ErrPruned):
		return fmt.Errorf("%w: the journal is whole, and the checkpoint is too old to say more", err)
	case errors.Is(err, sign1.ErrUnknownKey):
		return cli.RefusedError{Err: fmt.Errorf("%w: was checkpoint.key replaced? Name the public keys of before and of now with --key", err)}
	case errors.Is(err, journal.ErrOtherJournal), errors.Is(err, sign1.ErrMalformed), errors.Is(err, sign1.ErrRole), errors.Is(err, sign1.ErrSignature):
		return cli.RefusedError{Err: err}
	}
	return journalError(err)
}

// verified is what journal verify prints. docs/cli.md lists its members.
type verified struct {
	Incarnation string      `json:"incarnation"`
	Events      uint64      `json:"events"`
	Head        string      `json:"head"`
	Open        uint64      `json:"open"`
	Pruned      uint64      `json:"pruned"`
	PrunedAt    *time.Time  `json:"pruned_at,omitempty"`
	Keys        int         `json:"keys"`
	Checkpoints uint64      `json:"checkpoints"`
	Signed      uint64      `json:"signed"`
	Checkpoint  *checkpoint `json:"checkpoint,omitempty"`
}

// A checkpoint is what one says.
type checkpoint struct {
	Terminal    string    `json:"terminal"`
	Scope       string    `json:"scope"`
	Incarnation string    `json:"incarnation"`
	Seq         uint64    `json:"seq"`
	Head        string    `json:"head"`
	At          time.Time `json:"at"`
}

func (v verified) print(w io.Writer) error {
	fmt.Fprintf(w, "%d events, every one in the chain; %d admissions neither committed nor annulled\n", v.Events-v.Pruned, v.Open)
	if v.PrunedAt != nil {
		fmt.Fprintf(w, "before them %d were deleted by retention, the last ones on %s\n", v.Pruned, localTime(*v.PrunedAt))
	}
	if v.Keys == 0 {
		fmt.Fprintln(w, "checkpoints are not checked: there is no checkpoint.key and no --key")
	} else {
		fmt.Fprintf(w, "%d checkpoints, every one signed; they vouch for the events up to %d\n", v.Checkpoints, v.Signed)
	}
	if c := v.Checkpoint; c != nil {
		fmt.Fprintf(w, "it goes on from the checkpoint of event %d, which %s signed on %s\n", c.Seq, shown(c.Terminal), localTime(c.At))
	}
	_, err := fmt.Fprintf(w, "head %s\n", v.Head)
	return err
}
