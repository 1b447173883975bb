package link

import (
	"strings"
	"testing"
)

func TestEveryNameHasATokenOfItsOwn(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{
		"gate-1-left", "Gate_2", "ゲート1", "gate 1", "gate.1", "gate.>", "*", ">", "", "_gate", "gate-1-left ",
		strings.Repeat("a", 64), strings.Repeat("a", 65), Token("*"),
	} {
		token := Token(name)
		if len(token) > maxToken || token == "" || strings.Trim(token, tokenChars) != "" {
			t.Errorf("%q has the token %q", name, token)
		}
		if other, twice := seen[token]; twice {
			t.Errorf("%q and %q have one token", name, other)
		}
		seen[token] = name
	}
}

func TestNoTerminalSpeaksForAnother(t *testing.T) {
	one, _ := SubjectsOf("hall", "gate-1", []byte("one")).Permissions()
	two, _ := SubjectsOf("hall", "gate-2", []byte("two")).Permissions()
	for i, subject := range one[:3] {
		if subject == two[i] {
			t.Errorf("both may publish to %s", subject)
		}
	}
}
