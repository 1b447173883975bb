package roles

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// The vector is made by testdata/gen/list_vectors.py: two of three roots delegate.
func TestDelegationVector(t *testing.T) {
	stored, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "list", "published", "delegation"))
	if err != nil {
		t.Fatal(err)
	}
	if built := signedBy(t, delegation(), roots[:2]...); !bytes.Equal(built, stored) {
		t.Error("it is built differently from the stored one")
	}
	if d, err := root(t, 2).Verify(stored); err != nil || !reflect.DeepEqual(d, delegation()) {
		t.Errorf("%+v, %v", d, err)
	}
}
