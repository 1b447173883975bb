package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// keepExpired is how long a card stays after its certificate has ended: for a month a
// gate can tell its holder why, then the card is unknown.
const keepExpired = 30 * 24 * time.Hour

func holderCleanCommand() *cobra.Command {
	var keep time.Duration
	var look bool
	var by doer
	cmd := &cobra.Command{
		Use:   "clean --config FILE [--scope NAME] [--keep DURATION] [--dry-run] [--json]",
		Short: "Delete cards whose certificates have ended, and holders of whom nothing is left",
		Long: `Clean deletes the cards whose certificates ended longer ago than --keep: certificate
head, keys, birth date and kept record, and holders of whom no card and no ticket is
left. Their history stays, with numbers and without names. Gate-hub serve does it by
itself, once a day (serve.keep_expired in hub.toml). Until it is done an ended card
counts for the instant up to which revocations are known.
証明書の有効期限が切れたカードを台帳から消します。`,
		Example: "  gate-hub holder clean --dry-run --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().DurationVar(&keep, "keep", keepExpired, "how long ago a certificate has to have ended")
	cmd.Flags().BoolVar(&look, "dry-run", false, "count them, and delete nothing")
	by.flags(cmd)
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) (err error) {
		if keep < 0 {
			return cli.UsageError("--keep is negative: a certificate that has not ended stays")
		}
		by := by.by()
		before := by.At.Add(-keep)
		n, said := 0, "deleted"
		if look {
			said = "would be deleted"
			n, err = s.registry.Ended(cmd.Context(), scope, before)
		} else {
			n, err = s.registry.Clean(cmd.Context(), by, scope, before)
		}
		if err != nil {
			return err
		}
		return answer(cmd.OutOrStdout(), *asJSON, map[string]any{"scope": scope, "ended_before": before.UTC().Truncate(time.Second), "cards": n, "deleted": !look},
			[2]string{said, fmt.Sprintf("%d cards whose certificates ended before %s", n, instant(before))})
	})
	return cmd
}

// cleanEvery is how often a serving hub deletes what has ended.
const cleanEvery = 24 * time.Hour

// cleaning deletes the ended cards of a scope before its lists.
type cleaning struct{ next time.Time }

func (c *cleaning) run(ctx context.Context, s *site, log *slog.Logger, scope string) {
	now := time.Now()
	if s.Serve.KeepExpired.Duration == 0 || now.Before(c.next) {
		return
	}
	c.next = now.Add(cleanEvery)
	before := now.Add(-s.Serve.KeepExpired.Duration)
	n, err := s.registry.Ended(ctx, scope, before) // as a rule none has, and nothing is written
	if err == nil && n > 0 {
		n, err = s.registry.Clean(ctx, registry.By{Actor: "gate-hub serve", Reason: "certificate ended", At: now}, scope, before)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.next = now.Add(time.Hour)
		log.Error("ended cards not deleted", "error", err)
	case n > 0:
		log.Info("ended cards deleted", "cards", n, "ended_before", before)
	}
}
