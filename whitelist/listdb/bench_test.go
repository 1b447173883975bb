package listdb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const benchRows = 100_000

// benchList is made once: sealing takes longer than what is measured.
func benchList(b *testing.B) []byte {
	b.Helper()
	name := filepath.Join(os.TempDir(), fmt.Sprintf("listdb-bench-%d.list", os.Getpid()))
	if file, err := os.ReadFile(name); err == nil {
		return file
	}
	file := list(b, manifest(1), benchRows)
	if err := os.WriteFile(name, file, 0o600); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.Remove(name) })
	return file
}

func BenchmarkLookup100k(b *testing.B) {
	s := open(b, b.TempDir())
	load(b, s, benchList(b))
	heads := make([][]byte, 1000)
	for i := range heads {
		heads[i] = head(i * benchRows / len(heads))
	}
	i := 0
	for b.Loop() {
		v, err := s.Current() // as one tap does
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Lookup(context.Background(), heads[i%len(heads)]); err != nil {
			b.Fatal(err)
		}
		v.Release()
		i++
	}
}

func BenchmarkImport100k(b *testing.B) {
	file := benchList(b)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		load(b, open(b, b.TempDir()), file)
	}
}

func BenchmarkVerify100k(b *testing.B) {
	s := open(b, b.TempDir())
	load(b, s, benchList(b))
	for b.Loop() {
		if err := s.Verify(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
