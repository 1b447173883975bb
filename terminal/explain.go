package terminal

import (
	"fmt"

	"github.com/gate-agent/gate-agent/whitelist/rules"
)

// A Step is one check of a decision, with the values that it had.
type Step struct {
	Entitlement string // "" where the check is not of one
	Check       string
	OK          bool
	Detail      string
}

// Explain decides as Decide does, and tells every check on the way. It takes a
// card that has proved nothing for one that would: what it returns opens no gate.
func Explain(f Facts) (Ruling, []Step) {
	t := new(trail)
	return judge(f, t), t.steps
}

// A trail collects steps. None is kept by a nil trail, which is that of a tap.
type trail struct {
	steps []Step
	of    string
}

// assumes reports whether the card is taken to prove itself.
func (t *trail) assumes() bool { return t != nil }

// check notes a check and reports whether it failed.
func (t *trail) check(name string, ok bool, format string, values ...any) (failed bool) {
	if t != nil {
		t.steps = append(t.steps, Step{t.of, name, ok, fmt.Sprintf(format, values...)})
	}
	return !ok
}

// entitlement says whose checks follow.
func (t *trail) entitlement(id string) {
	if t != nil {
		t.of = id
	}
}

// rules notes each comparison of the rules, and reports whether they deny.
func (t *trail) rules(r rules.Rules, f rules.Facts, pass bool, err error) (failed bool) {
	if t != nil {
		if checks, explainErr := r.Explain(f); explainErr == nil {
			for _, c := range checks {
				t.check("rules", c.Holds, "%s (%s)", c.Text, c.Found)
			}
		}
	}
	if err != nil {
		return t.check("rules", false, "cannot be judged: %v", err)
	}
	return t.check("rules", pass, "all together: %t", pass)
}
