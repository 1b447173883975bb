package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// ceremony writes what the page has people do with a root: page.sh is what they type,
// page.toml what they write. It differs from the page in where things lie, and in that
// its delegation ends in half a year from now. Whoever is asked says yes.
func ceremony(dir string) error {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "hub.md"))
	if err != nil {
		return err
	}
	_, section, _ := strings.Cut(string(page), "\n### A root")
	section, _, _ = strings.Cut(section, "\nTo replace")
	blocks := strings.Split(section, "\n```")
	if len(blocks) != 7 { // two of commands, one of settings, and what is between
		return fmt.Errorf("%d parts of the section on the root", len(blocks))
	}
	script := ""
	for _, b := range []string{blocks[1], blocks[3]} {
		lines, ok := strings.CutPrefix(b, "sh\n")
		if !ok {
			return fmt.Errorf("a block of commands begins %.10q", b)
		}
		script += lines + "\n"
	}
	script = strings.NewReplacer("/media/", dir+"/media/", "/var/lib/gate-hub/", dir+"/hub/").Replace(script)
	script = regexp.MustCompile(`(?m)^gate-hub root sign`).ReplaceAllString(script, "echo yes | $0")
	end := regexp.MustCompile(`(?m)^not_after = .*$`)
	if !end.MatchString(script) {
		return fmt.Errorf("the delegation has no end")
	}
	script = end.ReplaceAllString(script, "not_after = "+time.Now().AddDate(0, 6, 0).UTC().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(dir, "page.sh"), []byte(script), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "page.toml"), []byte(strings.TrimPrefix(blocks[5], "\n")+"\n"), 0o600)
}

func writeSettings(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: settings FILE NEW")
	}
	text := ts.ReadFile(args[0])
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, " ")
		old := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` *=.*$`)
		if n := len(old.FindAllString(text, -1)); n != 1 {
			ts.Fatalf("%s has %d keys %q", args[0], n, name)
		}
		text = old.ReplaceAllLiteralString(text, line)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func begins(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: begins FILE PART")
	}
	if strings.HasPrefix(ts.ReadFile(args[0]), ts.ReadFile(args[1])) == neg {
		ts.Fatalf("%s begins otherwise", args[0])
	}
}
