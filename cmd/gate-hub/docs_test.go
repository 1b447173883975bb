package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli/clitest"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
)

func TestEveryCommandIsDocumented(t *testing.T) { clitest.CommandsAreOn(t, rootCommand(), 30) }

func TestEveryMemberOfAnAnswerIsDocumented(t *testing.T) {
	text := clitest.Page(t, "cli.md")
	for command, typ := range map[string]reflect.Type{
		"status": reflect.TypeFor[statusReport](), "list publish": reflect.TypeFor[listReport](), "list diff": reflect.TypeFor[diffReport](),
		"ticket show": reflect.TypeFor[ticketReport](), "card show": reflect.TypeFor[cardReport](), "registration import": reflect.TypeFor[recordReport](),
		"terminal show": reflect.TypeFor[terminalReport](), "key generate": reflect.TypeFor[keyReport](), "root show": reflect.TypeFor[delegationReport](),
		"report entries": reflect.TypeFor[entriesReport](), "report conflicts": reflect.TypeFor[conflictsReport](), "report terminals": reflect.TypeFor[terminalsReport](),
		"report refused": reflect.TypeFor[refusedReport](), "ready": reflect.TypeFor[readyReport](),
	} {
		_, section, _ := strings.Cut(text, "\n### `gate-hub "+command+" --json`")
		section, _, _ = strings.Cut(section, "\n## ")
		if command != "status" { // which has a list as below
			section, _, _ = strings.Cut(section, "\n### ")
		}
		for _, name := range clitest.Members(typ, "json") {
			if !strings.Contains(section, "`"+name+"`") {
				t.Errorf("docs/cli.md lacks the member %s of gate-hub %s --json", name, command)
			}
		}
	}
}

// The page has every key of every file, and an example of each that is accepted
// and has them all.
func TestEveryKeyIsDocumented(t *testing.T) {
	examples := strings.Split(clitest.Page(t, "hub.md"), "```toml\n")
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
		for _, name := range clitest.Members(reflect.TypeOf(v), "toml") {
			if !strings.Contains(table, "`"+name+"`") && !strings.Contains(table, "."+name+"`") && !strings.Contains(table, "`"+name+".") {
				t.Errorf("docs/hub.md: the table of example %d lacks %s", i+1, name)
			}
			if !strings.Contains(example, name+" ") && !strings.Contains(example, "["+name+"]") && !strings.Contains(example, "."+name+"]") {
				t.Errorf("docs/hub.md: example %d lacks %s", i+1, name)
			}
		}
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
	c.Name, c.Registry, c.Wrapper, c.Serve.Hosts, c.AckPublic = `A "b" \c`, "sqlite:registry.db", "sealed:path=/x", []string{"h"}, []string{"ack.pub.pem"}
	again := new(config)
	if err := stricttoml.Decode(c.text(), again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("%+v, want %+v", again, c)
	}
}
