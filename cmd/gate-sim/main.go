// Gate-sim makes virtual cards and virtual gates: for demonstrations, tests
// and load. It is no part of a production terminal.
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

// A usageError is a command line that makes no sense; it exits with 2, every
// other failure with 1.
type usageError string

func (e usageError) Error() string { return string(e) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "gate-sim:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "gate-sim",
		Short:         "Virtual cards and virtual gates",
		Long:          "Gate-sim makes virtual My Number cards and the small world around them, and runs\na gate against them. Nothing it makes is trusted by a production terminal.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err.Error()) })
	return commandGroup(root, demoCommand(), cardCommand(), worldCommand(), readersCommand())
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

// args turns cobra's complaint about arguments into a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError(err.Error())
		}
		return nil
	}
}
