// Package cli is what the programs' command lines share: signals end a
// program in order, a command line that makes no sense is told from a command
// that failed, and a misspelt command is an error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// A UsageError is a command line that makes no sense.
type UsageError string

func (e UsageError) Error() string { return string(e) }

// Exit codes that every program has.
const (
	ExitOK      = 0
	ExitFailure = 1 // the command could not do its work
	ExitUsage   = 2 // the command line makes no sense
)

// Main runs root until it returns, or SIGINT or SIGTERM ends its context, and
// exits the program. code names the exit code of a failure that is no
// UsageError.
func Main(root *cobra.Command, code func(error) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root.ExecuteContext(ctx)
	stop()
	if err == nil {
		os.Exit(ExitOK)
	}
	say(fmt.Sprintf("%s: %v\n", root.Name(), err))
	if _, ok := errors.AsType[UsageError](err); ok {
		os.Exit(ExitUsage)
	}
	os.Exit(code(err))
}

// say tells standard error why a program ends. Whoever reads there may hang,
// and the program ends all the same.
func say(why string) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprint(os.Stderr, why)
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
}

// InJapanese reports whether the person reads Japanese (POSIX locale names).
func InJapanese() bool {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			return strings.HasPrefix(v, "ja")
		}
	}
	return false
}

// Root makes cmd the root of a program with these commands. Errors are left
// to Main.
func Root(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError(err.Error()) })
	return Group(cmd, commands...)
}

// Group makes cmd a command that only holds others. Cobra would greet a
// misspelt one with the help text and success.
func Group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, a []string) error {
		if len(a) == 0 {
			return nil
		}
		return UsageError(fmt.Sprintf("unknown command %q: see %s --help", a[0], cmd.CommandPath()))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(commands...)
	return cmd
}

// Args turns cobra's complaints about arguments, and about flags that do not go
// together, into a UsageError.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return UsageError(err.Error())
		}
		if err := cmd.ValidateFlagGroups(); err != nil {
			return UsageError(err.Error())
		}
		return nil
	}
}
