package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gate-agent/gate-agent"

// A pkg is what the go command says of a package; ours are named ./nfc and so
// on, as in the rules.
type pkg struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	GoFiles      []string
	CgoFiles     []string
	TestGoFiles  []string
	XTestGoFiles []string
}

// load lists the packages of the module.
func load(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = local(p.ImportPath)
		for _, paths := range [][]string{p.Imports, p.TestImports, p.XTestImports, p.Deps} {
			for i := range paths {
				paths[i] = local(paths[i])
			}
		}
		all = append(all, p)
	}
}

func local(importPath string) string {
	if rest, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return "./" + rest
	}
	return importPath
}

// matches reports whether an import path is one of the patterns.
func matches(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		parent, below := strings.CutSuffix(pattern, "/...")
		return importPath == parent || below && strings.HasPrefix(importPath, parent+"/")
	})
}

// standard reports whether a package is of the standard library, or one of
// golang.org/x that the standard library carries.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// check returns every violation of the rules, as sentences that end with the
// rule's reason.
func check(rules []rule, all []pkg) (violations []string) {
	for _, r := range rules {
		used := false
		for _, p := range all {
			if !matches(r.who, p.ImportPath) || matches(r.except, p.ImportPath) {
				continue
			}
			used = true
			found := map[string]bool{}
			imports := p.Imports
			if r.tests {
				imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
			}
			for _, i := range imports {
				// A package's own tests, outside it, import it.
				if i != p.ImportPath && matches(r.direct, i) {
					found[fmt.Sprintf("%s imports %s: %s", p.ImportPath, i, r.why)] = true
				}
			}
			for _, d := range p.Deps {
				if matches(r.deps, d) || r.others && !standard(d) && !matches(r.who, d) {
					found[fmt.Sprintf("%s depends on %s: %s", p.ImportPath, d, r.why)] = true
				}
			}
			violations = append(violations, slices.Sorted(maps.Keys(found))...)
		}
		if !used {
			violations = append(violations, fmt.Sprintf("no package is %q: the rule %q holds nothing", r.who, r.why))
		}
	}
	return violations
}

func TestImportsKeepTheRules(t *testing.T) {
	for _, v := range check(rules, load(t)) {
		t.Error(v)
	}
}

// Every pattern of every rule is broken once, by a package that the rule is
// about, and has to be noticed with the rule's reason.
func TestEveryRuleBites(t *testing.T) {
	for _, r := range rules {
		t.Run(r.why, func(t *testing.T) {
			if r.why == "" || len(r.direct)+len(r.deps) == 0 && !r.others {
				t.Fatal("a rule needs something to forbid, and a reason")
			}
			for _, who := range r.who {
				guilty := func() pkg { return pkg{ImportPath: example(who)} }
				bites := func(what string, p pkg) {
					t.Helper()
					got := check([]rule{r}, []pkg{p})
					if !slices.ContainsFunc(got, func(s string) bool {
						return strings.HasPrefix(s, p.ImportPath) && strings.HasSuffix(s, r.why)
					}) {
						t.Errorf("%s %s %s unnoticed", p.ImportPath, what, slices.Concat(p.Imports, p.XTestImports, p.Deps))
					}
				}
				for _, pattern := range r.direct {
					p := guilty()
					p.Imports = []string{"fmt", example(pattern)}
					bites("imports", p)
					if r.tests {
						p := guilty()
						p.XTestImports = []string{example(pattern)}
						bites("imports in a test", p)
					}
				}
				for _, pattern := range r.deps {
					p := guilty()
					p.Deps = []string{"errors", example(pattern)}
					bites("depends on", p)
				}
				if r.others {
					p := guilty()
					p.Deps = []string{"crypto/rsa", "example.com/rsa"}
					bites("depends on", p)
				}
			}
		})
	}
}

// example is a package that a pattern matches: below the parent when the
// pattern reaches below.
func example(pattern string) string {
	return strings.Replace(pattern, "...", "example", 1)
}

func TestInnocentPackagesPass(t *testing.T) {
	all := []pkg{
		{ImportPath: "./nfc", Imports: []string{"context", "errors"}, Deps: []string{"context", "errors", "unsafe"}},
		{ImportPath: "./nfcx", Imports: []string{"net/http", "log/slog"}}, // not below ./nfc
		{ImportPath: "./nfc/jpki", Imports: []string{"./crypto/cardauth", "./nfc"}, Deps: []string{"crypto/x509", "net", "net/netip", "sync"}},
		{ImportPath: "./nfc/jpki", XTestImports: []string{"net"}}, // a test may
	}
	nfc := rules[0]
	if got := check([]rule{nfc}, all); got != nil {
		t.Errorf("blamed: %q", got)
	}
	if got := check([]rule{nfc}, all[1:2]); len(got) != 1 || !strings.HasPrefix(got[0], "no package is") {
		t.Errorf("a rule that holds nothing is not noticed: %q", got)
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range load(t) {
		if !documented(t, p) {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
	}
}

// documented reports whether a file of the package, or of its tests when there
// is nothing else, has a package comment.
func documented(t *testing.T, p pkg) bool {
	t.Helper()
	files := slices.Concat(p.GoFiles, p.CgoFiles)
	if len(files) == 0 {
		files = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
	}
	begins := "Package "
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name.Name == "main" {
			program := path.Base(p.ImportPath)
			begins = strings.ToUpper(program[:1]) + program[1:] + " "
		}
		if f.Doc != nil && strings.HasPrefix(f.Doc.Text(), begins) {
			return true
		}
	}
	return false
}
