package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/internal/cli/clitest"
	"github.com/gate-agent/gate-agent/terminal/api"
)

func TestEveryCommandIsDocumented(t *testing.T) { clitest.CommandsAreOn(t, rootCommand(), 8) }

func TestEveryMemberOfAnAnswerIsDocumented(t *testing.T) {
	text := clitest.Page(t, "cli.md")
	for command, typ := range map[string]reflect.Type{
		"card read": reflect.TypeFor[cardReport](), "card register": reflect.TypeFor[registerReport](), "card replay": reflect.TypeFor[replayReport](),
		"status": reflect.TypeFor[api.Status](), "override": reflect.TypeFor[api.Decision](), "explain": reflect.TypeFor[explanation](),
		"journal verify": reflect.TypeFor[verified](), "journal checkpoint": reflect.TypeFor[checkpoint](), "journal occupancy": reflect.TypeFor[occupancy](),
		"journal rate": reflect.TypeFor[rate](), "muster report": reflect.TypeFor[muster](), "doctor": reflect.TypeFor[diagnosis](),
		"key generate": reflect.TypeFor[keyReport](), "key list": reflect.TypeFor[configuredKey](), "key test": reflect.TypeFor[testReport](),
		"key request": reflect.TypeFor[requestReport](), "key ceremony": reflect.TypeFor[ceremonyReport](),
		"list diff": reflect.TypeFor[listDiff](), "sync now": reflect.TypeFor[synced](), "sync status": reflect.TypeFor[syncState](),
	} {
		_, section, _ := strings.Cut(text, "\n### `"+command+" --json`")
		section, _, _ = strings.Cut(section, "\n### ")
		for _, name := range clitest.Members(typ, "json") {
			if !strings.Contains(section, "`"+name+"`") {
				t.Errorf("docs/cli.md lacks the member %s of %s --json", name, command)
			}
		}
	}
}

// The page has every key, and an example with every key that is accepted.
func TestEveryKeyIsDocumented(t *testing.T) {
	text := clitest.Page(t, "configuration.md")
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
