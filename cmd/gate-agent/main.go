// Gate-agent runs on a terminal: it reads cards, decides and opens the gate.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. docs/cli.md lists them; they are a promise.
const (
	exitOK      = 0
	exitFailure = 1 // the command could not do its work
	exitUsage   = 2 // the command line makes no sense
	exitConfig  = 3 // the configuration is missing or wrong, or names what does not work
	exitRefused = 4 // the data was refused: a list that is not trusted, a journal that is not whole, a card that proves nothing
)

// The errors that choose an exit code.
type (
	usageError   string
	configError  struct{ error }
	refusedError struct{ error }
)

func (e usageError) Error() string   { return string(e) }
func (e configError) Unwrap() error  { return e.error }
func (e refusedError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gate-agent:", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[configError](err); ok {
		return exitConfig
	}
	if _, ok := errors.AsType[refusedError](err); ok {
		return exitRefused
	}
	return exitFailure
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "gate-agent",
		Short: "Admit people by their My Number card, offline and without a PIN",
		Long: `Gate-agent reads My Number cards and JPKI SIMs, proves them offline and without
a PIN, looks the holder up in a signed list, decides, records and opens the gate.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration, 4 data refused.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("config", "", "configuration file")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err.Error()) })
	return commandGroup(root, runCommand(), checkConfigCommand(), cardCommand(), listCommand(), journalCommand(), versionCommand())
}

// commandGroup makes a command that only holds others. Cobra would greet a misspelt
// one with the help text and success.
func commandGroup(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, a []string) error {
		if len(a) == 0 {
			return nil
		}
		return usageError(fmt.Sprintf("unknown command %q: see %s --help", a[0], cmd.CommandPath()))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(commands...)
	return cmd
}

// withConfig gives a command its configuration.
func withConfig(f func(cmd *cobra.Command, c *config) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		path, _ := cmd.Flags().GetString("config")
		c, err := loadConfig(path)
		if err != nil {
			return err
		}
		return f(cmd, c)
	}
}

// args turns cobra's complaint about arguments into a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError(err.Error())
		}
		return nil
	}
}
