package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A part is a value of the text, and its place as a JSON Pointer.
type part struct {
	at    string
	value any // nil, bool, json.Number, string, *[]part or *operation
}

// An operation is JsonLogic's object of one member. Its arguments are the
// member's list, or the member itself where it is no list.
type operation struct {
	name string
	args []part
}

func (p part) errorf(format string, a ...any) error {
	return errorAt(p.at, format, a...)
}

func errorAt(at, format string, a ...any) error {
	if at == "" {
		at = "the top"
	}
	return fmt.Errorf("rule, at %s: %w", at, fmt.Errorf(format, a...))
}

// what says what the part is, for errors.
func (p part) what() string {
	switch v := p.value.(type) {
	case nil:
		return "null"
	case *[]part:
		return "a list"
	case *operation:
		return fmt.Sprintf("%q", v.name)
	case string:
		return fmt.Sprintf("the text %q", v)
	}
	return fmt.Sprint(p.value)
}

const space = " \t\r\n" // of JSON

// parse reads the text as JSON (RFC 8259).
func parse(text string) (part, error) {
	if !utf8.ValidString(text) {
		return part{}, errors.New("rule: not UTF-8")
	}
	// The decoder below reads token by token, and would not look behind the last.
	if err := json.Unmarshal([]byte(text), new(json.RawMessage)); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return part{}, fmt.Errorf("rule: not JSON, at byte %d: %w", syntax.Offset, err)
		}
		return part{}, fmt.Errorf("rule: not JSON: %w", err)
	}
	r := reader{Decoder: json.NewDecoder(strings.NewReader(text))}
	r.UseNumber()
	return r.part("", 0)
}

type reader struct {
	*json.Decoder
	operators int
}

func (r *reader) part(at string, depth int) (part, error) {
	token, err := r.Token()
	if err != nil {
		return part{}, errorAt(at, "%w", err)
	}
	if _, ok := token.(json.Delim); ok && depth == MaxDepth {
		return part{}, errorAt(at, "more than %d operators and lists within each other", MaxDepth)
	}
	switch token {
	case json.Delim('['):
		list, err := r.list(at, depth+1)
		return part{at, &list}, err
	case json.Delim('{'):
		op, err := r.operation(at, depth+1)
		return part{at, &op}, err
	}
	return part{at, token}, nil
}

func (r *reader) list(at string, depth int) (list []part, err error) {
	for i := 0; r.More(); i++ {
		p, err := r.part(fmt.Sprintf("%s/%d", at, i), depth)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	_, err = r.Token()
	return list, err
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// operation reads an object behind its brace. With one member in each, no member
// can be there twice.
func (r *reader) operation(at string, depth int) (op operation, err error) {
	if r.operators++; r.operators > MaxOperators {
		return op, errorAt(at, "more than %d operators", MaxOperators)
	}
	if !r.More() {
		return op, errorAt(at, "an empty condition: remove it")
	}
	token, err := r.Token()
	if err != nil {
		return op, errorAt(at, "%w", err)
	}
	op.name, _ = token.(string)
	p, err := r.part(at+"/"+pointer.Replace(op.name), depth)
	if err != nil {
		return op, err
	}
	if list, ok := p.value.(*[]part); ok {
		op.args = *list
	} else {
		op.args = []part{p}
	}
	if r.More() {
		token, _ := r.Token()
		return op, errorAt(at, "%q stands beside %q: one operator in each object; join conditions with \"and\" or \"or\"", token, op.name)
	}
	_, err = r.Token()
	return op, err
}
