package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The page has a row for each command, which names its flags.
func TestEveryCommandIsDocumented(t *testing.T) {
	text := page(t, "cli.md")
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
	walk(rootCommand())
	if commands < 30 {
		t.Errorf("only %d commands", commands)
	}
}

func TestEveryMemberOfAnAnswerIsDocumented(t *testing.T) {
	text := page(t, "cli.md")
	for command, typ := range map[string]reflect.Type{
		"status": reflect.TypeFor[statusReport](), "list publish": reflect.TypeFor[listReport](), "list diff": reflect.TypeFor[diffReport](),
		"ticket show": reflect.TypeFor[ticketReport](), "card show": reflect.TypeFor[cardReport](), "registration import": reflect.TypeFor[recordReport](),
		"terminal show": reflect.TypeFor[terminalReport](), "key generate": reflect.TypeFor[keyReport](), "root show": reflect.TypeFor[delegationReport](),
	} {
		_, section, _ := strings.Cut(text, "\n### `gate-hub "+command+" --json`")
		section, _, _ = strings.Cut(section, "\n## ")
		if command != "status" { // which has a list as below
			section, _, _ = strings.Cut(section, "\n### ")
		}
		members(typ, "json", func(name string) {
			if !strings.Contains(section, "`"+name+"`") {
				t.Errorf("docs/cli.md lacks the member %s of gate-hub %s --json", name, command)
			}
		})
	}
}

// members calls f with the name of every member, as tag has it.
func members(typ reflect.Type, tag string, f func(string)) {
	if typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() || typ == reflect.TypeFor[duration]() {
		return
	}
	for i := range typ.NumField() {
		field := typ.Field(i)
		if name, _, _ := strings.Cut(field.Tag.Get(tag), ","); name != "" {
			f(name)
			members(field.Type, tag, f)
		}
	}
}

// The page has every key of every file, and an example of each that is accepted
// and has them all.
func TestEveryKeyIsDocumented(t *testing.T) {
	examples := strings.Split(page(t, "hub.md"), "```toml\n")
	if len(examples) != 4 {
		t.Fatalf("%d examples", len(examples)-1)
	}
	var in settings
	c := defaults()
	for i, v := range []any{c, new(scopeConfig), &in} {
		example, table, _ := strings.Cut(examples[i+1], "```")
		if err := stricttoml.Decode([]byte(example), v); err != nil {
			t.Errorf("example %d: %v", i+1, err)
		}
		members(reflect.TypeOf(v), "toml", func(name string) {
			if !strings.Contains(table, "`"+name+"`") && !strings.Contains(table, "."+name+"`") && !strings.Contains(table, "`"+name+".") {
				t.Errorf("docs/hub.md: the table of example %d lacks %s", i+1, name)
			}
			if !strings.Contains(example, name+" ") && !strings.Contains(example, "["+name+"]") && !strings.Contains(example, "."+name+"]") {
				t.Errorf("docs/hub.md: example %d lacks %s", i+1, name)
			}
		})
	}
	if err := c.check(); err != nil {
		t.Errorf("the example of hub.toml: %v", err)
	}
	var s registry.Scope
	in.apply(&s)
	if again := settingsOf(s); !reflect.DeepEqual(in.Policy, again.Policy) || !reflect.DeepEqual(in.Venue.Zones, again.Venue.Zones) {
		t.Errorf("the settings come back as %+v", again)
	}
}

// What init writes is what the page describes.
func TestFilesOfInitAreRead(t *testing.T) {
	c := defaults()
	c.Name, c.Registry, c.Wrapper, c.Serve.Hosts = `A "b" \c`, "sqlite:registry.db", "sealed:path=/x", []string{"h"}
	again := new(config)
	if err := stricttoml.Decode(c.text(), again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("%+v, want %+v", again, c)
	}
}
