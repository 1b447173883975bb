package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gate-agent/gate-agent/terminal/api"
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
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(row, "`--"+f.Name+"`") {
				t.Errorf("docs/cli.md: %q lacks --%s", c.CommandPath(), f.Name)
			}
		})
	}
	walk(rootCommand())
	if commands < 8 {
		t.Errorf("only %d commands", commands)
	}
}

func TestEveryMemberOfAnAnswerIsDocumented(t *testing.T) {
	text := page(t, "cli.md")
	for command, typ := range map[string]reflect.Type{
		"card read": reflect.TypeFor[cardReport](), "card register": reflect.TypeFor[registerReport](),
		"status": reflect.TypeFor[api.Status](), "override": reflect.TypeFor[api.Decision](), "explain": reflect.TypeFor[explanation](),
		"journal verify": reflect.TypeFor[verified](), "journal checkpoint": reflect.TypeFor[checkpoint](), "journal occupancy": reflect.TypeFor[occupancy](),
		"journal rate": reflect.TypeFor[rate](), "muster report": reflect.TypeFor[muster](), "doctor": reflect.TypeFor[diagnosis](),
		"key generate": reflect.TypeFor[keyReport](), "key list": reflect.TypeFor[configuredKey](), "key test": reflect.TypeFor[testReport](),
		"key request": reflect.TypeFor[requestReport](), "key ceremony": reflect.TypeFor[ceremonyReport](),
		"list diff": reflect.TypeFor[listDiff](), "sync now": reflect.TypeFor[synced](), "sync status": reflect.TypeFor[syncState](),
	} {
		_, section, _ := strings.Cut(text, "\n### `"+command+" --json`")
		section, _, _ = strings.Cut(section, "\n### ")
		var walk func(reflect.Type)
		walk = func(typ reflect.Type) {
			if typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if typ.Kind() != reflect.Struct || typ.PkgPath() == "time" {
				return
			}
			for i := range typ.NumField() {
				field := typ.Field(i)
				if field.Anonymous {
					walk(field.Type)
					continue
				}
				if !field.IsExported() {
					continue
				}
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				if !strings.Contains(section, "`"+name+"`") {
					t.Errorf("docs/cli.md lacks the member %s of %s --json", name, command)
				}
				walk(field.Type)
			}
		}
		walk(typ)
	}
}

// The page has every key, and an example with every key that is accepted.
func TestEveryKeyIsDocumented(t *testing.T) {
	text := page(t, "configuration.md")
	_, example, _ := strings.Cut(text, "```toml\n")
	example, _, _ = strings.Cut(example, "```")
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(file); err != nil {
		t.Errorf("the example: %v", err)
	}
	_, further, _ := strings.Cut(text, "```toml\n[[lanes]]\n")
	further, _, _ = strings.Cut(further, "```")
	if err := os.WriteFile(file, []byte(example+"\n[[lanes]]\n"+further), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := loadConfig(file); err != nil || len(c.lanes()) != 2 || c.lanes()[1].label() != "gate-1/exit" {
		t.Errorf("the example of a second lane: %v", err)
	}

	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			name := field.Tag.Get("toml")
			if name == "" {
				continue
			}
			if field.Type.Kind() == reflect.Struct && field.Type != reflect.TypeFor[duration]() {
				walk(prefix+name+".", field.Type)
				continue
			}
			if field.Type == reflect.TypeFor[[]laneConfig]() { // tables of their own
				if !strings.Contains(text, "\n| `"+prefix+name+"` |") {
					t.Errorf("docs/configuration.md lacks %s", prefix+name)
				}
				continue
			}
			if !strings.Contains(text, "\n| `"+prefix+name+"` |") {
				t.Errorf("docs/configuration.md lacks %s", prefix+name)
			}
			if !strings.Contains(example, "\n"+name+" ") && !strings.HasPrefix(example, name+" ") {
				t.Errorf("docs/configuration.md: the example lacks %s", prefix+name)
			}
		}
	}
	walk("", reflect.TypeFor[config]())
}
