package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func journalCheckpointCommand() *cobra.Command {
	var (
		out    string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "checkpoint --config FILE --out FILE [--json]",
		Short: "Sign the head of the journal, to be kept elsewhere",
		Long: `Checkpoint has the head of the hash chain signed by checkpoint.key: by the running
agent, or by itself when none runs. Keep the file elsewhere: "journal verify
--checkpoint" tells by it whether the journal was cut or made anew.
記録の現在の状態に署名します。ファイルは別の場所に保管してください。`,
		Example: "  gate-agent journal checkpoint --config /etc/gate-agent/config.toml --out /media/usb/checkpoint.cose",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write the checkpoint to; it must not exist")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	sign := withJournal(func(cmd *cobra.Command, c *config, r *journal.Reader) (err error) {
		key, err := c.openCheckpointKey()
		if err != nil {
			return err
		}
		if key == nil {
			return cli.ConfigError{Err: errors.New("checkpoint.key is missing: name the key that signs checkpoints (docs/journal.md)")}
		}
		keys, _, err := c.checkpointKeys(nil)
		if err != nil {
			return err
		}
		file, err := createDraft(out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Discard()) }()
		msg, err := c.client().Checkpoint(cmd.Context())
		if errors.Is(err, api.ErrNotRunning) {
			msg, err = c.signStopped(cmd.Context(), key)
		}
		if err != nil {
			return problemError(err)
		}
		kept, err := r.VerifyCheckpoint(cmd.Context(), keys, msg)
		if err != nil {
			return checkpointError(err)
		}
		if err := file.Keep(msg); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				File string `json:"file"`
				checkpoint
			}{out, describeCheckpoint(kept)})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is a checkpoint of the events up to %d: keep it elsewhere / 別の場所に保管してください\nhead %x\n", out, kept.Seq, kept.Hash)
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out == "" {
			return cli.UsageError("--out is missing: name the file to write the checkpoint to")
		}
		return sign(cmd, args)
	}
	return cmd
}

// signStopped signs where no agent has the journal.
func (c *config) signStopped(ctx context.Context, key crypto.Signer) (msg []byte, err error) {
	record, err := c.openJournal(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	return c.checkpoints(record, key, time.Now)(ctx)
}

func describeCheckpoint(c journal.Checkpoint) checkpoint {
	return checkpoint{c.Terminal, c.Scope, hex.EncodeToString(c.Incarnation[:]), c.Seq, hex.EncodeToString(c.Hash[:]), c.At}
}
