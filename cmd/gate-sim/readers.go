package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/pcscd"
)

func readersCommand() *cobra.Command {
	var slots int
	cmd := &cobra.Command{
		Use:   "readers",
		Short: "Run a private pcscd with virtual readers until interrupted",
		Long: `Readers starts a private PC/SC daemon whose readers are virtual, and prints the
environment variable by which programs find it and the addresses at which cards
are put into its slots (gate-sim card insert --vpcd). It ends when interrupted.`,
		Example: "  gate-sim readers --slots 1",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&slots, "slots", 2, "number of card slots, 1 to 16")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := pcscd.Start(cmd.Context(), pcscd.Options{Slots: slots})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "export %s\n", d.Env())
		for i := range slots {
			fmt.Fprintf(cmd.OutOrStdout(), "# %s: --vpcd %s\n", d.SlotName(i), d.SlotAddr(i))
		}
		<-cmd.Context().Done()
		return d.Stop()
	}
	return cmd
}
