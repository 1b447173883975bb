package words_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/terminal"
)

// Every reason of package terminal has words of its own in both languages.
func TestEveryReasonHasWords(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../terminal/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if typ, isReason := spec.Type.(*ast.Ident); !ok || !isReason || typ.Name != "Reason" {
			return true
		}
		reason, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		text := words.Reason(terminal.Reason(reason))
		if text == words.Reason("no such reason") || text.EN == "" || text.JA == "" {
			t.Errorf("%s has no words", reason)
		}
		return true
	})
	if seen < 20 {
		t.Errorf("only %d reasons found in the source", seen)
	}
}
