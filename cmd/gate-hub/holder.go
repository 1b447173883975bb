package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func holderCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "holder", Short: "People, by the organiser's reference, and what is kept of them"},
		holderEraseCommand(), holderCleanCommand())
}

func holderEraseCommand() *cobra.Command {
	var reference, card string
	var yes bool
	var by doer
	cmd := &cobra.Command{
		Use:   "erase --reference REFERENCE | --card CERTIFICATE, --config FILE [--scope NAME] --reason WHY [--yes]",
		Short: "Delete what is personal of one holder, for good",
		Long: `Erase deletes the reference of a holder, the cards with their keys and birth dates,
and the records that were kept. Their tickets stay, revoked and nobody's. The history
keeps numbers. The cards are gone from the next list; files of lists before it hold their
sealed rows until they are replaced, which gate-hub scope new-epoch does at once. It
cannot be undone.
利用者の個人情報を削除します。元に戻せません。`,
		Example: "  gate-hub holder erase --reference M-4711 --reason 'asked for it' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&reference, "reference", "", "the organiser's reference of the holder")
	cmd.Flags().StringVar(&card, "card", "", "file of the certificate of a card of the holder")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.MarkFlagsMutuallyExclusive("reference", "card")
	by.because(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		holder, err := s.holder(cmd.Context(), scope, reference, card)
		if err != nil {
			return err
		}
		cards, err := s.registry.Credentials(cmd.Context(), holder)
		if err != nil {
			return err
		}
		tickets, err := s.registry.Tickets(cmd.Context(), holder)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "holder %d, with %d cards and %d tickets\n", holder, len(cards), len(tickets))
		if err := confirm(cmd, yes, "Erase this holder for good? この利用者の情報を完全に削除しますか?"); err != nil {
			return err
		}
		return s.registry.EraseHolder(cmd.Context(), by.by(), scope, holder)
	})
	return cmd
}

// holder is the number of a holder, by the reference or by a card.
func (s *site) holder(ctx context.Context, scope, reference, card string) (int64, error) {
	switch {
	case reference != "":
		return s.registry.Holder(ctx, scope, reference)
	case card == "":
		return 0, cli.UsageError("give --reference REFERENCE, or --card CERTIFICATE")
	}
	c, err := readCard(card)
	if err == nil {
		c, err = s.registry.Credential(ctx, scope, c.Head)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", card, err)
	}
	return c.Holder, nil
}
