package rules

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A condition holds or does not.
type condition struct {
	op string // as in the text; "true" and "false" are those

	conditions []condition   // of and, or
	a, b       value         // of comparisons; of inList only a
	list       []value       // of inList, lookups of a's kind
	tolerance  time.Duration // of isBefore, isAfter
}

const operators = "and, or, ==, !=, <, <=, >, >=, inList, isBefore and isAfter"

func newCondition(p part) (c condition, err error) {
	if yes, ok := p.value.(bool); ok {
		return condition{op: strconv.FormatBool(yes)}, nil
	}
	op, ok := p.value.(*operation)
	if !ok {
		return c, p.errorf("%s is no condition; those are true, false, %s", p.what(), operators)
	}
	c.op = op.name
	switch c.op {
	case "and", "or":
		c.conditions = make([]condition, len(op.args))
		for i, arg := range op.args {
			if c.conditions[i], err = newCondition(arg); err != nil {
				return c, err
			}
		}
	case "==", "!=", "<", "<=", ">", ">=":
		err = c.compare(p, op.args)
	case "inList":
		err = c.inList(p, op.args)
	case "isBefore", "isAfter":
		err = c.order(p, op.args)
	case "var", "lookup", "objectList", "buildTime", "entries_since", "entries_before", "entries_days_since", "entries_days_before":
		err = p.errorf("%q gives a value: compare it with another", op.name)
	default:
		err = p.errorf("unknown operator %q; conditions are true, false, %s", op.name, operators)
	}
	return c, err
}

func (c *condition) compare(p part, args []part) (err error) {
	if len(args) != 2 {
		return p.errorf("%q compares 2 values, not %d", c.op, len(args))
	}
	if c.a, err = newValue(args[0]); err != nil {
		return err
	}
	if c.b, err = newValue(args[1]); err != nil {
		return err
	}
	ordered := c.op != "==" && c.op != "!="
	switch {
	case c.a.kind != c.b.kind:
		return p.errorf("%q compares %s with %s", c.op, c.a.kind, c.b.kind)
	case c.a.kind == moment:
		return p.errorf("%q compares no times: use isBefore or isAfter", c.op)
	case ordered && c.a.kind != number:
		return p.errorf("%q compares numbers, not %s: use ==, != or inList", c.op, c.a.kind)
	}
	return nil
}

func (c *condition) inList(p part, args []part) (err error) {
	if len(args) != 2 {
		return p.errorf("inList has 2 values, a variable and an objectList, not %d", len(args))
	}
	if c.a, err = newValue(args[0]); err != nil {
		return err
	}
	if k := c.a.kind; k != product && k != variation && k != gate {
		return args[0].errorf("inList looks for a product, a variation or a gate, not %s", k)
	}
	op, ok := args[1].value.(*operation)
	if !ok || op.name != "objectList" {
		return args[1].errorf("inList looks in an objectList, not in %s", args[1].what())
	}
	c.list = make([]value, len(op.args))
	for i, arg := range op.args {
		if c.list[i], err = newValue(arg); err != nil {
			return err
		}
		if v := c.list[i]; v.op != "lookup" || v.kind != c.a.kind {
			return arg.errorf("not a lookup of %s", c.a.kind)
		}
	}
	return nil
}

func (c *condition) order(p part, args []part) (err error) {
	if len(args) != 2 && len(args) != 3 {
		return p.errorf("%s has 2 values, both times, or 3 with a tolerance in minutes, not %d", c.op, len(args))
	}
	if c.a, err = newMoment(args[0]); err != nil {
		return err
	}
	if c.b, err = newMoment(args[1]); err != nil {
		return err
	}
	if len(args) == 3 && args[2].value != nil { // pretix's editor writes null for an empty field
		minutes, err := wholeNumber(args[2])
		if err != nil || minutes < -MaxTolerance || minutes > MaxTolerance {
			return args[2].errorf("a tolerance is a whole number of minutes, at most %d, not %s", MaxTolerance, args[2].what())
		}
		c.tolerance = time.Duration(minutes) * time.Minute
	}
	return nil
}

// holds evaluates every part, also behind the one that decides.
func (c *condition) holds(f *Facts) (bool, error) {
	switch c.op {
	case "true", "false":
		return c.op == "true", nil
	case "and", "or":
		all := c.op == "and"
		result := all
		for i := range c.conditions {
			h, err := c.conditions[i].holds(f)
			if err != nil {
				return false, err
			}
			if h != all {
				result = h
			}
		}
		return result, nil
	case "isBefore", "isAfter":
		a, err := c.a.moment(f)
		if err != nil {
			return false, err
		}
		b, err := c.b.moment(f)
		if err != nil {
			return false, err
		}
		if c.op == "isAfter" {
			a, b = b, a
		}
		return a.Before(b.Add(c.tolerance)), nil
	}
	a, err := c.a.number(f)
	if err != nil {
		return false, err
	}
	if c.op == "inList" {
		for i := range c.list {
			if c.list[i].n == a {
				return true, nil
			}
		}
		return false, nil
	}
	b, err := c.b.number(f)
	if err != nil {
		return false, err
	}
	switch c.op {
	case "==":
		return a == b, nil
	case "!=":
		return a != b, nil
	case "<":
		return a < b, nil
	case "<=":
		return a <= b, nil
	case ">":
		return a > b, nil
	default: // ">="
		return a >= b, nil
	}
}

// text returns a comparison for people.
func (c *condition) text() string {
	switch c.op {
	case "true", "false":
		return c.op
	case "inList":
		list := make([]string, len(c.list))
		for i, v := range c.list {
			list[i] = v.text()
		}
		return fmt.Sprintf("%s is one of [%s]", c.a.text(), strings.Join(list, ", "))
	case "isBefore", "isAfter":
		s := fmt.Sprintf("%s is %s %s", c.a.text(), strings.ToLower(c.op[len("is"):]), c.b.text())
		if c.tolerance != 0 {
			s += fmt.Sprintf(", tolerance %d min", int64(c.tolerance/time.Minute))
		}
		return s
	}
	return fmt.Sprintf("%s %s %s", c.a.text(), c.op, c.b.text())
}

// found returns the values of a comparison that are not in its text.
func (c *condition) found(f *Facts) string {
	var all []string
	for _, v := range []value{c.a, c.b} {
		if s := v.found(f); s != "" {
			all = append(all, v.text()+" = "+s)
		}
	}
	return strings.Join(all, ", ")
}

// json writes the shortest form.
func (c *condition) json() string {
	switch c.op {
	case "true", "false":
		return c.op
	case "and", "or":
		args := make([]string, len(c.conditions))
		for i := range c.conditions {
			args[i] = c.conditions[i].json()
		}
		return writeOperation(c.op, args...)
	case "inList":
		list := make([]string, len(c.list))
		for i := range c.list {
			list[i] = c.list[i].json()
		}
		return writeOperation(c.op, c.a.json(), writeOperation("objectList", list...))
	}
	args := []string{c.a.json(), c.b.json()}
	if c.tolerance != 0 {
		args = append(args, strconv.FormatInt(int64(c.tolerance/time.Minute), 10))
	}
	return writeOperation(c.op, args...)
}

// writeOperation writes an operation; a single argument stands without its list.
func writeOperation(name string, args ...string) string {
	if len(args) == 1 {
		return `{"` + name + `":` + args[0] + `}`
	}
	return `{"` + name + `":[` + strings.Join(args, ",") + `]}`
}

func writeString(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string, to memory
	return strings.TrimSuffix(b.String(), "\n")
}
