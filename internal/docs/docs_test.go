package docs

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/terminal"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages are the Markdown files of the project.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "testdata/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rel)
		}
	}
	if !slices.Contains(all, "README.md") || len(all) < 5 {
		t.Fatalf("only %q", all)
	}
	return all
}

func TestEveryModuleHasItsReason(t *testing.T) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	page := read(t, "docs/dependencies.md")
	named := regexp.MustCompile("(?m)^\\| `([^`]+/[^`]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(page, -1)
	if len(named) == 0 || len(mod.Require) == 0 {
		t.Fatal("nothing to compare")
	}
	pinned := map[string]string{}
	for _, r := range mod.Require {
		pinned[r.Path] = r.Version
	}
	for _, n := range named {
		if pinned[n[1]] != n[2] {
			t.Errorf("docs/dependencies.md has %s %s, go.mod %q", n[1], n[2], pinned[n[1]])
		}
		delete(pinned, n[1])
	}
	for path := range pinned {
		t.Errorf("docs/dependencies.md does not name %s", path)
	}
}

func TestEveryDebianPackageHasItsReason(t *testing.T) {
	page := read(t, "docs/dependencies.md")
	found := 0
	for _, line := range strings.Split(read(t, "Makefile"), "\n") {
		_, list, isList := strings.Cut(line, "_PACKAGES")
		if _, list, isList = strings.Cut(list, "="); !isList {
			if _, list, isList = strings.Cut(line, "need.sh "); !isList {
				continue
			}
		}
		for _, name := range strings.Fields(list) {
			if strings.HasPrefix(name, "$(") || strings.HasPrefix(name, "--") {
				continue
			}
			if found++; name != "arm64" && name != "armhf" && !strings.Contains(page, "`"+name+"`") {
				t.Errorf("docs/dependencies.md does not name the Debian package %s", name)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d packages found in the Makefile", found)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s#]+)(#[^)\s]*)?\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			}
		}
	}
}

// A page that names a test as its evidence names one that exists; README says
// in which folder.
func TestNamedTestsExist(t *testing.T) {
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	folders := map[string][]string{} // of each test
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			folders[m[1]] = append(folders[m[1]], filepath.ToSlash(filepath.Dir(path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`(?:([\\w/]+): )?((?:Test|Fuzz)[A-Z]\\w+)`")
	named := 0
	for _, page := range pages(t) {
		for _, m := range name.FindAllStringSubmatch(read(t, page), -1) {
			named++
			in := func(folder string) bool {
				return page != "README.md" || m[1] == "" || strings.HasSuffix(folder, "/"+m[1])
			}
			if !slices.ContainsFunc(folders[m[2]], in) {
				t.Errorf("%s names the test %s, which does not exist", page, m[0])
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d tests named", named)
	}
}

// reasons are the constants of terminal/reason.go.
func reasons(t *testing.T) []terminal.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "terminal/reason.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []terminal.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, terminal.Reason(value))
		return true
	})
	if len(all) < 20 {
		t.Fatalf("only %d reasons", len(all))
	}
	return all
}

// The page of reasons has each once, in the words that people are told.
func TestEveryReasonIsExplained(t *testing.T) {
	rows := map[terminal.Reason]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|.*$").FindAllStringSubmatch(read(t, "docs/reasons.md"), -1) {
		r := terminal.Reason(m[1])
		if rows[r] != "" {
			t.Errorf("docs/reasons.md has %s twice", r)
		}
		rows[r] = m[0]
	}
	for _, r := range reasons(t) {
		row, said := rows[r], words.Reason(r)
		if row == "" {
			t.Errorf("docs/reasons.md lacks %s", r)
		} else if !strings.Contains(row, said.EN) || !strings.Contains(row, said.JA) {
			t.Errorf("docs/reasons.md: %s is said to people as %q, %q", r, said.EN, said.JA)
		}
		delete(rows, r)
	}
	for r := range rows {
		t.Errorf("docs/reasons.md has %s, which no gate ever says", r)
	}
}

func TestEveryMemberOfAnEventIsExplained(t *testing.T) {
	page := read(t, "docs/events.md")
	for _, typ := range []reflect.Type{reflect.TypeFor[terminal.Event](), reflect.TypeFor[terminal.StagesMS]()} {
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(page, "\n| `"+name+"` |") {
				t.Errorf("docs/events.md lacks the member %s", name)
			}
		}
	}
}
