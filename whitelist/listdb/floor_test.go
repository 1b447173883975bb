package listdb

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A floor that parses, encoded again, gives the same bytes.
func FuzzFloor(f *testing.F) {
	b, err := floor{Scope: scope, Hierarchy: whitelist.Test, Epoch: 1, Seq: 1 << 40}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b) - sha256.Size; n >= 0 { // get past the checksum
			sum := sha256.Sum256(b[:n])
			b = append(bytes.Clone(b[:n]), sum[:]...)
		}
		got, err := parseFloor(b)
		if err != nil {
			return
		}
		if again, err := got.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}
