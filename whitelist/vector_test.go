package whitelist

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// The vector is made by: go test ./whitelist -run TestListVector -update
// Its content is listed() and manifest(), its keys are listKey and scopeKey.
var update = flag.Bool("update", false, "write the vector anew")

// The format is fixed: a list of yesterday reads today, and is built the same.
func TestListVector(t *testing.T) {
	name := filepath.Join("..", "testdata", "vectors", "list", "four-rows.list")
	made := write(t, manifest(), listed())
	if *update {
		if err := os.WriteFile(name, made, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, stored) {
		t.Error("the list is built differently from the stored one")
	}
	if _, rows, err := read(trust(t), bytes.NewReader(stored)); err != nil || len(rows) != len(listed()) {
		t.Errorf("the stored list: %d rows, %v", len(rows), err)
	}
}
