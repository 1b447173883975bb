// Package clitest is what the tests of command lines share: pages of docs that are
// held to a program, and commands of its scripts.
package clitest

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page is a page of docs, for the tests of a program in cmd.
func Page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// CommandsAreOn holds docs/cli.md to a program of at least so many commands: the page
// has a row for each, which names its flags.
func CommandsAreOn(t *testing.T, root *cobra.Command, least int) {
	t.Helper()
	text := Page(t, "cli.md")
	commands := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() || c.Hidden {
			return
		}
		commands++
		_, row, found := strings.Cut(text, "\n| `"+c.CommandPath()+"`")
		row, _, _ = strings.Cut(row, "\n")
		if !found {
			t.Errorf("docs/cli.md has no row for %q", c.CommandPath())
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(row, "`--"+f.Name+"`") {
				t.Errorf("docs/cli.md: %q lacks --%s", c.CommandPath(), f.Name)
			}
		})
	}
	walk(root)
	if commands < least {
		t.Errorf("only %d commands", commands)
	}
}

// Members are the names of all exported members of a type, as tag has them, and of
// those within. One that has no name is "".
func Members(typ reflect.Type, tag string) (names []string) {
	if typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.PkgPath() == "time" {
		return nil
	}
	for i := range typ.NumField() {
		field := typ.Field(i)
		if !field.Anonymous {
			if !field.IsExported() {
				continue
			}
			name, _, _ := strings.Cut(field.Tag.Get(tag), ",")
			names = append(names, name)
		}
		names = append(names, Members(field.Type, tag)...)
	}
	return names
}
