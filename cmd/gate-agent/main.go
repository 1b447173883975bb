// Gate-agent runs on a terminal: it reads cards, decides and opens the gate.
package main

import (
	"errors"
	"fmt"
	"os"
	_ "time/tzdata" // the time zones of venues, on a terminal that has none

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

// Exit codes, beside those of package cli. docs/cli.md lists them; they are a
// promise.
const (
	exitConfig  = 3 // the configuration is missing or wrong, or names what does not work
	exitRefused = 4 // the data was refused: a list that is not trusted, a journal that is not whole, a card that proves nothing, staff that may not
)

// The errors that choose them.
type (
	configError  struct{ error }
	refusedError struct{ error }
)

func (e configError) Unwrap() error  { return e.error }
func (e refusedError) Unwrap() error { return e.error }

func main() {
	if err := cli.NoCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "gate-agent:", err)
		os.Exit(cli.ExitFailure)
	}
	cli.Main(rootCommand(), exitCode)
}

func exitCode(err error) int {
	if _, ok := errors.AsType[configError](err); ok {
		return exitConfig
	}
	if _, ok := errors.AsType[refusedError](err); ok {
		return exitRefused
	}
	return cli.ExitFailure
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "gate-agent",
		Short: "Admit people by their My Number card, offline and without a PIN",
		Long: `Gate-agent reads My Number cards and JPKI SIMs, proves them offline and without
a PIN, looks the holder up in a signed list, decides, records and opens the gate.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration, 4 data refused.`,
	}
	root.PersistentFlags().String("config", "", "configuration file")
	return cli.Root(root, runCommand(), checkConfigCommand(), statusCommand(),
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
