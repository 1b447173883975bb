package docs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard/adversary"
)

// docs/adversaries.md shows the table of the code, line for line.
func TestEveryAdversaryIsOnItsPage(t *testing.T) {
	page := read(t, "docs/adversaries.md")
	var shown []string
	for _, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, "## ") || strings.HasPrefix(line, "| `") || strings.HasSuffix(line, " adversaries.") {
			shown = append(shown, line)
		}
	}
	var want []string
	for _, m := range []string{adversary.TapUse, adversary.ExternalAuth, adversary.FirstUse} {
		var rows []string
		for _, a := range adversary.All() {
			mark := ""
			if a.Short {
				mark = " ◆"
			}
			if a.Method == m {
				rows = append(rows, fmt.Sprintf("| `%s`%s | %s | `%s` |", a.Name, mark, a.Lie, a.Reason))
			}
		}
		want = append(append(want, "## "+m, fmt.Sprintf("%d adversaries.", len(rows))), rows...)
	}
	for i := range max(len(want), len(shown)) {
		if i >= len(want) || i >= len(shown) || want[i] != shown[i] {
			t.Fatalf("docs/adversaries.md differs from the table; these lines should be there, each table under its heading:\n%s", strings.Join(want, "\n"))
		}
	}
}
