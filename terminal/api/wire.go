package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// An answer is a handler that returns what it has to say.
type answer func(*http.Request) (any, error)

// ServeHTTP implements http.Handler.
func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	body, err := a(r)
	status := http.StatusOK
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		p := problem(err)
		p.head(w.Header())
		body, status = p, p.Status
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may be gone
}

// decode reads the body of a request: one JSON object with exactly the members
// of v, each once and none of them null. A member that is forgotten must not
// mean the opposite of what was meant.
func decode(r *http.Request, v any) error {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/json" {
		return malformed("Content-Type is %q, want application/json", r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Problem{kind: tooLarge, Detail: "a request has at most 64 KiB"}
	}
	if err != nil {
		return malformed("reading the request: %v", err)
	}
	got, err := members(body)
	if err != nil {
		return err
	}
	zero, err := json.Marshal(v)
	if err != nil {
		return err
	}
	want, err := members(zero)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			return malformed("unknown member %q, there are %q", name, slices.Sorted(maps.Keys(want)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch value, ok := got[name]; {
		case !ok:
			return malformed("the member %q is missing", name)
		case string(value) == "null":
			return malformed("the member %q is null", name)
		}
	}
	if err := json.Unmarshal(body, v); err != nil {
		if typ, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			kind, _, _ := strings.Cut(typ.Value, " ") // what follows is the value
			return malformed("the member %q is a %s, want %s", typ.Field, kind, typ.Type)
		}
		return malformed("%v", err)
	}
	return nil
}

// members takes a JSON object apart.
func members(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, malformed("want one JSON object")
	}
	all := make(map[string]json.RawMessage)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, malformed("%v", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, malformed("%v", err)
		}
		key := name.(string) // of an object
		if _, twice := all[key]; twice {
			return nil, malformed("the member %q comes twice", key)
		}
		all[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, malformed("the object does not end")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, malformed("something comes behind the object")
	}
	return all, nil
}
