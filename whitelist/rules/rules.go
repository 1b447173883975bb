// Package rules is the rules of a list: pretix's check-in logic, in JsonLogic.
//
// It takes what pretix's rule editor writes, in the notation of
// https://jsonlogic.com, and answers as pretix does; docs/rules.md has every
// operator and variable, and every difference. It promises:
//
//   - What compiles has a meaning: operators, variables, numbers of values and
//     their types were checked. At the gate only a date that the event does not
//     have can fail.
//   - An answer depends on rule and [Facts] alone. A part that cannot be
//     evaluated fails the rule, wherever it stands: a rule that works for one
//     person works for everybody.
//   - Text, nesting and operators are bounded, so time and memory are.
//
// An engine for all of JsonLogic was rejected. It compares anything with
// anything: a misspelt variable is null, and null is less than 1, so that a
// mistake opens the gate. To find mistakes, to name their place and to explain an
// answer, the rule has to be in types anyway; evaluating those is what is least.
package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of a rule.
const (
	MaxText      = 16 << 10 // bytes
	MaxDepth     = 32       // operators and lists within each other
	MaxOperators = 1024
	MaxTolerance = 366 * 24 * 60 // minutes, to either side
)

// Rules say who may enter. The zero Rules let everybody pass. They do not change:
// several goroutines may use them.
type Rules struct {
	rule *condition // nil lets everybody pass
}

// Compile checks the text of a rule; "" and "{}" let everybody pass. Its errors
// name the place in the rule, as a JSON Pointer (RFC 6901).
func Compile(text string) (Rules, error) {
	if len(text) > MaxText {
		return Rules{}, fmt.Errorf("rule: %d bytes, at most %d are allowed", len(text), MaxText)
	}
	if text = strings.Trim(text, space); text == "" || text[0] == '{' && strings.Trim(text[1:], space) == "}" {
		return Rules{}, nil
	}
	p, err := parse(text)
	if err != nil {
		return Rules{}, err
	}
	op, ok := p.value.(*operation)
	if !ok {
		return Rules{}, p.errorf("a rule is an object with one operator, not %s", p.what())
	}
	if (op.name == "and" || op.name == "or") && len(op.args) == 0 {
		return Rules{}, nil // pretix's editor, after the last condition was removed
	}
	c, err := newCondition(p)
	if err != nil {
		return Rules{}, err
	}
	return Rules{&c}, nil
}

// Facts are what a rule can ask for, at one instant and for one ticket.
type Facts struct {
	Now       time.Time
	Location  *time.Location // nil is UTC
	DayStarts time.Duration  // after local midnight, below 24 hours

	Product, Variation, Gate uint32 // 0 is none

	Inside  bool        // entry_status is present
	Entries []time.Time // with this ticket, ascending

	From, To, Admission time.Time // of the event; zero is unknown
}

// Evaluate reports whether the rule lets pass. An error, which names the part
// that has no value, lets nobody pass.
func (r Rules) Evaluate(f Facts) (bool, error) {
	if r.rule == nil {
		return true, nil
	}
	return r.rule.holds(&f)
}

// A Check is one comparison of a rule.
type Check struct {
	Text  string // such as "entries_today < 3"
	Found string // such as "entries_today = 2"; why, where there is no value
	Holds bool
}

// Explain returns the rule's comparisons in the order written, whether the rule
// depends on them or not. The error joins those of the parts that have no value.
func (r Rules) Explain(f Facts) (checks []Check, err error) {
	var errs []error
	r.walk(func(c *condition) {
		if c.op == "and" || c.op == "or" {
			return
		}
		check := Check{Text: c.text(), Found: c.found(&f)}
		holds, err := c.holds(&f)
		if err != nil {
			check.Found = err.Error()
			errs = append(errs, err)
		}
		check.Holds = holds
		checks = append(checks, check)
	})
	return checks, errors.Join(errs...)
}

// IDs are those that a rule names, ascending, each once.
type IDs struct{ Products, Variations, Gates []uint32 }

// IDs returns the IDs that the rule names: who makes a list refuses those that
// the list does not have.
func (r Rules) IDs() (ids IDs) {
	add := func(v value) {
		switch {
		case v.op != "lookup":
		case v.kind == product:
			ids.Products = append(ids.Products, uint32(v.n))
		case v.kind == variation:
			ids.Variations = append(ids.Variations, uint32(v.n))
		default:
			ids.Gates = append(ids.Gates, uint32(v.n))
		}
	}
	r.walk(func(c *condition) {
		add(c.a)
		add(c.b)
		for _, v := range c.list {
			add(v)
		}
	})
	for _, list := range []*[]uint32{&ids.Products, &ids.Variations, &ids.Gates} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return ids
}

// String returns the rule in the one form that all texts with its meaning and
// names share, "" for the zero Rules. It is no longer than the text it came from.
func (r Rules) String() string {
	if r.rule == nil {
		return ""
	}
	return r.rule.json()
}

func (r Rules) walk(visit func(*condition)) {
	var each func(*condition)
	each = func(c *condition) {
		visit(c)
		for i := range c.conditions {
			each(&c.conditions[i])
		}
	}
	if r.rule != nil {
		each(r.rule)
	}
}
