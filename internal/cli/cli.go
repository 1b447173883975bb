// Package cli is what the programs' command lines share: signals end a
// program in order, the exit code tells a command line that makes no sense, a
// configuration and data that was refused from a command that failed, and a misspelt
// command is an error.
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

// A ConfigError is a configuration that is missing or wrong, or names what does not
// work.
type ConfigError struct{ Err error }

func (e ConfigError) Error() string { return e.Err.Error() }
func (e ConfigError) Unwrap() error { return e.Err }

// A RefusedError is data that was refused: what is not trusted, is not whole, proves
// nothing, or comes from somebody who may not.
type RefusedError struct{ Err error }

func (e RefusedError) Error() string { return e.Err.Error() }
func (e RefusedError) Unwrap() error { return e.Err }

// Exit codes of every program. docs/cli.md lists them; they are a promise.
const (
	ExitOK      = 0
	ExitFailure = 1 // the command could not do its work
	ExitUsage   = 2 // a UsageError
	ExitConfig  = 3 // a ConfigError
	ExitRefused = 4 // a RefusedError
)

// ExitCode is what a program exits with. refuses tells which further errors are
// refusals; nil is for none.
func ExitCode(err error, refuses func(error) bool) int {
	if err == nil {
		return ExitOK
	}
	if _, ok := errors.AsType[UsageError](err); ok {
		return ExitUsage
	}
	if _, ok := errors.AsType[ConfigError](err); ok {
		return ExitConfig
	}
	if _, ok := errors.AsType[RefusedError](err); ok || refuses != nil && refuses(err) {
		return ExitRefused
	}
	return ExitFailure
}

// Main runs root until it returns, or SIGINT or SIGTERM ends its context, and
// exits the program, as ExitCode has it.
func Main(root *cobra.Command, refuses func(error) bool) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root.ExecuteContext(ctx)
	stop()
	exit(root, err, refuses)
}

// MainWithKeys is Main of a program that holds keys: its memory reaches no disk.
func MainWithKeys(root *cobra.Command, refuses func(error) bool) {
	if err := noCoreDumps(); err != nil {
		exit(root, err, nil)
	}
	Main(root, refuses)
}

func exit(root *cobra.Command, err error, refuses func(error) bool) {
	if err != nil {
		say(fmt.Sprintf("%s: %v\n", root.Name(), err))
	}
	os.Exit(ExitCode(err, refuses))
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
