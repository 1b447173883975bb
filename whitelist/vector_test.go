package whitelist

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The format is fixed: a list of yesterday reads today, and is built the same.
// The vectors are not made by this package, but by testdata/gen/list_vectors.py.
func TestListVectors(t *testing.T) {
	for name, c := range map[string]struct {
		manifest Manifest
		rows     []Listed
	}{
		"four-rows.list": {manifest(), listed()},
		"venue.list":     {venueManifest(), venueListed()},
	} {
		stored, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", "list", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(write(t, c.manifest, c.rows), stored) {
			t.Errorf("%s is built differently from the stored one", name)
		}
		if _, rows, err := read(trust(t), bytes.NewReader(stored)); err != nil || len(rows) != len(c.rows) {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
	}
}
