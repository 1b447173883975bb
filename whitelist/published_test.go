package whitelist

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardid"
)

func row(id, content byte) SealedRow {
	r := SealedRow{ID: cardid.CardID{0: id}}
	if content != 0 {
		r.Sealed = bytes.Repeat([]byte{content}, minRow)
	}
	return r
}

func TestSetDoesNotDependOnOrderOrHistory(t *testing.T) {
	var a, b Set
	for _, r := range []SealedRow{row(1, 1), row(2, 1), row(3, 1)} {
		a.Add(r)
	}
	for _, r := range []SealedRow{row(3, 1), row(1, 2), row(4, 1), row(2, 1)} {
		b.Add(r)
	}
	b.Remove(row(4, 1))
	if a.Digest() == b.Digest() {
		t.Error("sets of different rows have one digest")
	}
	b.Remove(row(1, 2))
	b.Add(row(1, 1))
	if a.Digest() != b.Digest() {
		t.Error("one set has two digests")
	}
	again, err := SetOfState(a.State())
	if err != nil || again.Digest() != a.Digest() {
		t.Errorf("read again: %v", err)
	}
	var none Set
	if none.Digest() != sha256.Sum256(make([]byte, SetStateSize)) {
		t.Error("the set of no rows is not the zero one")
	}
	for _, r := range []SealedRow{row(1, 1), row(2, 1), row(3, 1)} {
		a.Remove(r)
	}
	if a.Digest() != none.Digest() {
		t.Error("a set from which all rows are gone is not that of no rows")
	}
}

func published() Manifest {
	m := manifest()
	m.Seq, m.RowsSHA256 = 40, [32]byte{}
	m.Set = SetID{Seq: 38, Digest: [32]byte{1}}
	m.Snapshot = Snapshot{Seq: 20, SHA256: [32]byte{2}, Size: 1000}
	m.Deltas = []Delta{
		{From: 16, To: 32, Size: 300}, {From: 31, To: 32, Size: 10}, {From: 32, To: 36, Size: 60},
		{From: 36, To: 37, Size: 10}, {From: 20, To: 38, Size: 500}, {From: 37, To: 38, Size: 10},
	}
	return m
}

func TestPathTakesTheFewestBytes(t *testing.T) {
	m := published()
	for from, want := range map[uint64][]uint64{ // to
		38: nil, 37: {38}, 36: {37, 38}, 33: {36, 37, 38}, 31: {32, 36, 37, 38}, 30: {32, 36, 37, 38}, 20: {32, 36, 37, 38},
	} {
		path, ok := m.Path(from)
		var got []uint64
		for _, d := range path {
			got = append(got, d.To)
		}
		if !ok || !slices.Equal(got, want) {
			t.Errorf("from %d: %v, %v, want %v", from, got, ok, want)
		}
	}
	for _, from := range []uint64{0, 15, 39, 1 << 60} {
		if path, ok := m.Path(from); ok {
			t.Errorf("from %d: %v", from, path)
		}
	}
}

func TestPublishedManifestComesBackAndIsChecked(t *testing.T) {
	b, err := published().encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeManifest(b)
	if err != nil || m.Snapshot != published().Snapshot || !slices.Equal(m.Deltas, published().Deltas) || m.Set != published().Set {
		t.Fatalf("%+v, %v", m, err)
	}
	for name, change := range map[string]func(*Manifest){
		"set of the future":             func(m *Manifest) { m.Set.Seq = 41 },
		"both digests":                  func(m *Manifest) { m.RowsSHA256[0] = 1 },
		"snapshot behind the set":       func(m *Manifest) { m.Snapshot.Seq = 39 },
		"no snapshot":                   func(m *Manifest) { m.Snapshot = Snapshot{} },
		"gigantic snapshot":             func(m *Manifest) { m.Snapshot.Size = MaxFile + 1 },
		"gigantic delta":                func(m *Manifest) { m.Deltas[0].Size = MaxFile + 1 },
		"negative size":                 func(m *Manifest) { m.Deltas[0].Size = -1 },
		"delta that goes back":          func(m *Manifest) { m.Deltas[0].From = 32 },
		"delta from nothing":            func(m *Manifest) { m.Deltas[0].From = 0 },
		"delta of the future":           func(m *Manifest) { m.Deltas[5].To = 39 },
		"delta twice":                   func(m *Manifest) { m.Deltas[1] = m.Deltas[0] },
		"deltas out of order":           func(m *Manifest) { m.Deltas[0], m.Deltas[1] = m.Deltas[1], m.Deltas[0] },
		"snapshot that leads nowhere":   func(m *Manifest) { m.Snapshot.Seq = 15 },
		"deltas that lead nowhere":      func(m *Manifest) { m.Deltas = m.Deltas[:4] },
		"too many deltas":               func(m *Manifest) { m.Deltas = make([]Delta, MaxDeltas+1) },
		"a snapshot and deltas, no set": func(m *Manifest) { m.Set = SetID{} },
	} {
		m := published()
		m.Deltas = slices.Clone(m.Deltas)
		if change(&m); m.check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRowsFileIsReadOnlyAsItWasSigned(t *testing.T) {
	rows := []SealedRow{row(1, 1), row(2, 0), row(4, 3)}
	var b bytes.Buffer
	sum, size, err := WriteRows(&b, func(yield func(SealedRow, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	})
	if err != nil || int64(b.Len()) != size || sha256.Sum256(b.Bytes()) != sum {
		t.Fatalf("%d bytes, %v", size, err)
	}
	read := func(r *RowsReader) (n int, err error) {
		for ; ; n++ {
			got, err := r.Next()
			if err != nil {
				return n, err
			}
			if n >= len(rows) || got.ID != rows[n].ID || !bytes.Equal(got.Sealed, rows[n].Sealed) {
				t.Errorf("row %d: %v", n, got)
			}
		}
	}
	d := Delta{From: 1, To: 2, SHA256: sum, Size: size}
	if n, err := read(d.Reader(bytes.NewReader(b.Bytes()))); n != 3 || err != io.EOF {
		t.Errorf("%d rows, %v", n, err)
	}
	if _, err := read(Snapshot{SHA256: sum, Size: size}.Reader(bytes.NewReader(b.Bytes()))); !errors.Is(err, ErrMalformed) {
		t.Errorf("a row without content in a snapshot: %v", err)
	}
	for n := range b.Len() {
		if _, err := read(d.Reader(bytes.NewReader(b.Bytes()[:n]))); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, err := read(d.Reader(io.MultiReader(&b, bytes.NewReader([]byte{0})))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte too many: %v", err)
	}
	d.SHA256[0] ^= 1
	if _, err := read(d.Reader(bytes.NewReader(nil))); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

// Rows that a snapshot's or a delta's reader returns, written again, are the file.
func FuzzRowsReader(f *testing.F) {
	f.Add([]byte(nil), false)
	f.Add(AppendRow(AppendRow(nil, row(1, 1)), row(2, 1)), false)
	f.Add(AppendRow(AppendRow(nil, row(1, 0)), SealedRow{ID: cardid.CardID{2}, Sealed: make([]byte, 808)}), true)
	f.Fuzz(func(t *testing.T, b []byte, delta bool) {
		sum, size := sha256.Sum256(b), int64(len(b))
		r := Snapshot{SHA256: sum, Size: size}.Reader(bytes.NewReader(b))
		if delta {
			r = Delta{SHA256: sum, Size: size}.Reader(bytes.NewReader(b))
		}
		var again bytes.Buffer
		_, _, err := WriteRows(&again, func(yield func(SealedRow, error) bool) {
			for {
				row, err := r.Next()
				if err == io.EOF || !yield(row, err) {
					return
				}
			}
		})
		if err == nil && !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("%x\n%x", b, again.Bytes())
		}
		if _, err := r.Next(); err == nil {
			t.Fatal("it goes on after its end")
		}
	})
}
