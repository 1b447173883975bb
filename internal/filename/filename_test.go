package filename

import (
	"io/fs"
	"testing"
)

func TestEveryNameHasAPlainFileOfItsOwn(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{
		"gate-1-left", "Gate_2.a", "ゲート1", "gate 1", "a/b", "a\\b", "..", ".", ".hidden", "", "~gate", "%2e", "a%2fb", "gate-1-left ",
	} {
		f := Of(name)
		if !fs.ValidPath(f) || f[0] == '.' {
			t.Errorf("%q has the file %q", name, f)
		}
		if other, twice := seen[f]; twice {
			t.Errorf("%q and %q have one file", name, other)
		}
		seen[f] = name
	}
	if f := Of("gate-1-left"); f != "gate-1-left" {
		t.Errorf("a plain name has the file %q", f)
	}
}
