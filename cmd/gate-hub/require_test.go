package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

// A usage line names what a command cannot do without outside of brackets. Where one of
// these flags is missing, or empty, the error names it.
func TestFlagThatIsMissingIsNamed(t *testing.T) {
	either := regexp.MustCompile(`--\S+( [A-Z]+)? \|[^,]*,`) // alternatives, which a command judges itself
	optional := regexp.MustCompile(`\[[^\]]*\]`)
	flag := regexp.MustCompile(`--([a-z-]+)`)
	found := 0
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		use := optional.ReplaceAllString(either.ReplaceAllString(cmd.Use, ""), "")
		words := strings.Fields(use)[1:]
		if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") }); i >= 0 {
			words = words[:i]
		}
		for _, m := range flag.FindAllStringSubmatch(use, -1) {
			if m[1] == "config" || m[1] == "help" {
				continue
			}
			found++
			for _, given := range []string{"", "--" + m[1] + "="} {
				if err := without(t, cmd.CommandPath(), words, m[1], given, flag.FindAllStringSubmatch(use, -1)); !says(err, m[1]) {
					t.Errorf("%s without --%s (%q): %v", cmd.CommandPath(), m[1], given, err)
				}
			}
		}
	}
	visit(rootCommand())
	if found < 20 {
		t.Errorf("%d required flags in all usage lines", found)
	}
}

func says(err error, flag string) bool {
	usage, ok := errors.AsType[cli.UsageError](err)
	return ok && strings.Contains(string(usage), "--"+flag)
}

// without runs a command with all of its required flags but one.
func without(t *testing.T, path string, args []string, missing, given string, flags [][]string) error {
	t.Helper()
	line := append(strings.Fields(path)[1:], args...)
	for _, f := range flags {
		if f[1] != missing && f[1] != "config" {
			line = append(line, "--"+f[1]+"=1")
		}
	}
	if given != "" {
		line = append(line, given)
	}
	root := rootCommand()
	root.SetArgs(line)
	return root.ExecuteContext(t.Context())
}
