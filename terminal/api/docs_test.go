package api

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal/staff"
)

// docs/staff.md has every type of problem with its status, every request, and a
// roster that is one.
func TestPageOfStaff(t *testing.T) {
	b, err := os.ReadFile("../../docs/staff.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`= kind\{"([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 10 {
		t.Fatalf("only %d kinds", len(kinds))
	}
	for _, k := range kinds {
		if !strings.Contains(page, "\n| `/problems/"+k[1]+"` |") {
			t.Errorf("the page lacks /problems/%s", k[1])
		}
	}
	for _, k := range []kind{malformedRequest, wrongPasscode, wrongRole, settled, tooManyTries, fault} {
		if !strings.Contains(page, fmt.Sprintf("\n| `/problems/%s` | %d |", k.name, k.status)) {
			t.Errorf("the page has another status for /problems/%s", k.name)
		}
	}
	routes, err := os.ReadFile("api.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range regexp.MustCompile(`"((?:GET|POST) /v1/[\w/]+)"`).FindAllStringSubmatch(string(routes), -1) {
		if !strings.Contains(page, "\n| `"+r[1]+"` |") {
			t.Errorf("the page lacks %s", r[1])
		}
	}
	_, example, _ := strings.Cut(page, "```toml\n")
	example, _, _ = strings.Cut(example, "```")
	if r, err := staff.Parse([]byte(example), nil); err != nil || r.Len() != 2 {
		t.Errorf("the example: %v", err)
	}
}
