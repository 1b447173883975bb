package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a configuration is told by the key, or by the line where
// the file itself is to blame, and nothing starts.
func TestConfigurationErrorsNameTheKey(t *testing.T) {
	t.Parallel()
	s := install(t, filepath.Join(t.TempDir(), "terminal"))
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	line := func(of string) string { // "line N: ", from 1
		before, _, ok := strings.Cut(text, of)
		if !ok {
			t.Fatalf("no %q in the configuration", of)
		}
		return fmt.Sprintf("line %d: ", strings.Count(before, "\n")+1)
	}
	for _, c := range []struct{ old, with, want string }{
		{"scope    =", "#", "scope is missing"},
		{"terminal =", "#", "terminal is missing"},
		{"state    =", "#", "state is missing"},
		{"methods  =", "#", "methods is missing"},
		{"name   =", "#", "gate.name is missing"},
		{"file    =", "#", "scope_key.file is missing"},
		{"wrapper =", "#", "scope_key.wrapper is missing"},
		{"keys =", "#", "list.keys is missing"},
		{"key          =", "#", `method "external-auth" needs external_auth.key`},
		{"certificates =", "#", `method "external-auth" needs external_auth.key and external_auth.certificates`},

		{"scope    =", "scoop =", line("scope    =") + `unknown key "scoop"`},
		{"[gate]\nname   =", "[gate]\nnom =", line("name   =") + `unknown key "gate.nom"`},
		{"[anchors]", "[ankers]", `unknown key "ankers`},
		{"state    =", "state 0", line("state    =")},
		{`mode     = "test"`, `mode = "demo"`, `hierarchy "demo": want production or test`},
		{"state    =", "deadline = \"soon\"\nstate =", line("state    =") + "deadline"},
		{"state    =", "deadline = 3\nstate =", line("state    =") + `3 is no duration: write "3s"`},
		{"state    =", "deadline = \"100ms\"\nstate =", "deadline is 100ms, want 500ms to 10s"},
		{"state    =", "deadline = \"1m\"\nstate =", "deadline is 1m0s, want 500ms to 10s"},
		{`["tap-use", "external-auth"]`, `["tap"]`, `methods has unknown "tap": want "tap-use" or "external-auth"`},
		{`["tap-use", "external-auth"]`, `[]`, "methods is missing"},
		{`external-auth = "none"`, `external-auth = "nobody"`, `holder_check.external-auth is "nobody", want one of ["none" "staff" "external"]`},
		{"[scope_key]", "timeout = \"10ms\"\n\n[scope_key]", "holder_check.timeout is 10ms, want 1s to 10m"},
		{"[scope_key]", "timeout = \"11m\"\n\n[scope_key]", "holder_check.timeout is 11m0s, want 1s to 10m"},
		{`["tap-use", "external-auth"]`, `["tap-use", "tap-use"]`, `methods names "tap-use" twice`},
		{"[anchors]", "every = \"1ms\"\n\n[anchors]", "list.every is 1ms, want at least 1s"},
		{"[anchors]", "source = \"ftp://here\"\n\n[anchors]", "list.source: want https://HOST/FOLDER or file:PATH"},
		{"[anchors]", "source = \"http://hub.example/x\"\n\n[anchors]", "list.source: plain http is for a server on this machine alone"},
		{"[anchors]", "source = \"file:x\"\nca = \"ca.pem\"\n\n[anchors]", "list.ca is for a list.source of https:"},
		{"[anchors]", "source = \"https://hub.example\"\nca = \"list.cose\"\n\n[anchors]", "list.ca: list.cose: no certificate in PEM"},
		{"[anchors]", "[root]\nkeys = [\"list.pub.pem\"]\nthreshold = 1\n\n[anchors]", "list.keys and root.keys"},
		{"[anchors]", "[root]\nthreshold = 1\n\n[anchors]", "root.threshold without root.keys"},
		{"keys = [\"list.pub.pem\"]", "[root]\nkeys = [\"list.pub.pem\"]\nthreshold = 2", "root.threshold is 2, want 1 to 1"},
		{`driver = "simulator"`, "driver = \"simulator\"\ndirection = \"in\"", `direction "in": want entry or exit`},
		{`driver = "simulator"`, "driver = \"simulator\"\npass_time = \"500ms\"", "gate.pass_time is 500ms, want 1s to 60s"},
		{`driver = "simulator"`, "driver = \"simulator\"\npass_time = \"2m\"", "gate.pass_time is 2m0s, want 1s to 60s"},
		{`state    = "state"`, "state = \"" + strings.Repeat("s", 97) + "\"", "at most 107: choose a state folder with a shorter path"},
		{"[scope_key]", "[staff]\nfile = \"absent.toml\"\n\n[scope_key]", "staff.file: open "},
		{"[scope_key]", "[staff]\nfile = \"config.toml\"\n\n[scope_key]", `unknown key "mode"`},
		{`driver = "simulator"`, `driver = "gpio"`, `gate.relay.pin: missing`},
		{"[scope_key]", "[reader]\nslots = [\"[\"]\n\n[scope_key]", "reader.slots: "},
		{"files        =", "pins = [\"12\"]\nfiles =", `anchors.pins has "12": want the SHA-256`},
		{`"ca.pem"`, `"absent.pem"`, "anchors.files: open "},
		{`"ca.pem"`, `"config.toml"`, "anchors: "},
		{`"list.pub.pem"`, `"absent.pem"`, "list.keys: open "},
		{`"list.pub.pem"`, `"ca.pem"`, "list.keys: ca.pem: "},
		{`"scope.key"`, `"absent.key"`, "scope_key.file: open "},
		{`"scope.key"`, `"ca.pem"`, "scope_key.file ca.pem: "},
		{"wrap.key;", "absent.key;", "scope_key.wrapper: "},
		{"wrapper = \"sealed:", "wrapper = \"kms:", "scope_key.wrapper: key URI: unknown scheme"},
		{`"terminal.cvc"`, `"absent.cvc"`, "external_auth.certificates: open "},
		{`"terminal.cvc"`, `"ca.pem"`, "external_auth.certificates: ca.pem: "},
		{"[anchors]", "[card]\nprofile = \"absent.toml\"\n\n[anchors]", "card.profile: open "},
	} {
		s.write(t, "config.toml", good)
		s.edit(t, c.old, c.with)
		for _, command := range []string{"check-config", "run"} {
			stdout, stderr, code := s.run(t, command)
			if code != 3 || stdout != "" {
				t.Errorf("%s with %q: exit code %d, standard output %q; want 3 and nothing", command, c.with, code, stdout)
			}
			if !strings.Contains(stderr, c.want) {
				t.Errorf("%s with %q says %q, want %q", command, c.with, stderr, c.want)
			}
		}
	}
}
