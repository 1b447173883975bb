// Gate-agent runs on a terminal: it reads cards, decides and opens the gate.
package main

import (
	"errors"
	_ "time/tzdata" // the time zones of venues, on a terminal that has none

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func main() { cli.MainWithKeys(rootCommand(), nil) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "gate-agent",
		Short: "Admit people by their My Number card, offline and without a PIN",
		Long: `Gate-agent reads My Number cards and JPKI SIMs, proves them offline and without
a PIN, looks the holder up in a signed list, decides, records and opens the gate.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration, 4 data refused.`,
	}
	root.PersistentFlags().String("config", "", "configuration file")
	return cli.Root(root, runCommand(), checkConfigCommand(), enrolCommand(), statusCommand(),
		overrideCommand(), admitCommand(), annulCommand(), outOfOrderCommand(), clockCommand(), shiftCommand(), musterCommand(), staffCommand(), explainCommand(),
		doctorCommand(), cardCommand(), gateCommand(), keyCommand(), commandCommand(), listCommand(), syncCommand(), journalCommand(), versionCommand())
}

// withConfig gives a command its configuration.
func withConfig(f func(cmd *cobra.Command, c *config, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		path, _ := cmd.Flags().GetString("config")
		c, err := loadConfig(path)
		if err != nil {
			return err
		}
		c.keys.ctx = cmd.Context()
		return errors.Join(f(cmd, c, args), c.keys.close())
	}
}
