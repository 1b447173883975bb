// Package stricttoml reads TOML files that people write by hand: a key that
// nobody reads, a value of the wrong type and a syntax error are errors that
// name the line and the key.
package stricttoml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Decode reads text into v.
func Decode(text []byte, v any) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(v)
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
	return err
}
