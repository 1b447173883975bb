package claims

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// The vectors are made by testdata/gen/claims_vectors.py from the words of
// docs/claims.md.
func TestVectors(t *testing.T) {
	type passage struct {
		N        uint64 `json:"n"`
		Exit     bool   `json:"exit"`
		Terminal string `json:"terminal"`
		People   uint32 `json:"people"`
		Reentry  uint32 `json:"reentry"`
	}
	var v struct {
		Scope string `json:"scope"`
		Logs  []struct {
			Name        string `json:"name"`
			Entitlement string `json:"entitlement"`
			Records     []struct{ Key, Value string }
			Passages    []passage `json:"passages"`
			Next        uint64    `json:"next"`
			Unsure      []uint64  `json:"unsure"`
		} `json:"logs"`
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "claims", "logs.json"))
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil || len(v.Logs) < 4 {
		t.Fatal(len(v.Logs), err)
	}
	for _, l := range v.Logs {
		var log []Numbered
		for _, r := range l.Records {
			token, n, err := ParseKey(r.Key)
			if err != nil || token != Token(v.Scope, l.Entitlement) {
				t.Fatalf("%s: key %s: %v", l.Name, r.Key, err)
			}
			e := Numbered{N: n}
			if e.Record, e.Err = Parse(v.Scope, token, []byte(r.Value)); e.Err == nil {
				if again, err := e.Record.Encode(); err != nil || string(again) != r.Value {
					t.Errorf("%s: %s\nis written as %s (%v)", l.Name, r.Value, again, err)
				}
			}
			log = append(log, e)
		}
		h := Fold(log)
		got := []passage{}
		for _, p := range h.Passages {
			if p.People > 0 {
				got = append(got, passage{p.N, p.Exit, p.Terminal, p.People, p.Reentry})
			}
		}
		if !reflect.DeepEqual(got, l.Passages) || h.Next != l.Next || len(h.Unsure) != len(l.Unsure) || len(l.Unsure) > 0 && !reflect.DeepEqual(h.Unsure, l.Unsure) {
			t.Errorf("%s: %+v, next %d, unsure %d\nwant %+v, %d, %d", l.Name, got, h.Next, h.Unsure, l.Passages, l.Next, l.Unsure)
		}
	}
}
