// Package stricttoml reads TOML files that people write by hand: a key that
// nobody reads, a value of the wrong type and a syntax error are errors that
// name the line and the key.
package stricttoml

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Decode reads text into v.
func Decode(text []byte, v any) error {
	err := decode(text, v)
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		all := make([]error, len(missing.Errors))
		for i := range missing.Errors {
			line, _ := missing.Errors[i].Position()
			all[i] = fmt.Errorf("line %d: unknown key %q", line, strings.Join(missing.Errors[i].Key(), "."))
		}
		return errors.Join(all...)
	}
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := at.Position()
		what := strings.TrimPrefix(at.Error(), "toml: ")
		if key := strings.Join(at.Key(), "."); key != "" {
			return fmt.Errorf("line %d: %s: %s", line, key, what)
		}
		return fmt.Errorf("line %d: %s", line, what)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", lineOf(err, text, v), err)
	}
	return nil
}

// Encode writes v, for people to change and Decode to read.
func Encode(v any) ([]byte, error) { return toml.Marshal(v) }

func decode(text []byte, v any) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// lineOf finds the line of an error that does not tell it, such as that of an
// encoding.TextUnmarshaler given a number: the first at which the text, cut
// off behind it, fails in the same way.
func lineOf(err error, text []byte, v any) int {
	line, end := 0, 0
	for at := range bytes.Lines(text) {
		line, end = line+1, end+len(at)
		fresh := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if cut := decode(text[:end], fresh); cut != nil && cut.Error() == err.Error() {
			break
		}
	}
	return line
}
