package whitelist

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"

	"github.com/gate-agent/gate-agent/crypto/cardid"
)

// A SealedRow is a row as the file holds it.
type SealedRow struct {
	ID     cardid.CardID
	Sealed []byte // minimum 168, maximum MaxRow bytes; in a delta none for a row that is gone
}

// rowPrefix begins every row: an array of two, a byte string of 32.
var rowPrefix = [3]byte{0x82, 0x58, 0x20}

// AppendRow appends the one encoding of a row to b.
func AppendRow(b []byte, r SealedRow) []byte {
	b = append(b, rowPrefix[:]...)
	b = append(b, r.ID[:]...)
	switch n := len(r.Sealed); {
	case n == 0:
		b = append(b, 0x40)
	case n < 1<<8:
		b = append(b, 0x58, byte(n))
	default:
		b = append(b, 0x59)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(b, r.Sealed...)
}

// WriteRows writes rows, which come ascending by CardID, as a snapshot or a delta
// has them. It returns the digest of the bytes, and their number.
func WriteRows(w io.Writer, rows iter.Seq2[SealedRow, error]) (sum [32]byte, size int64, err error) {
	h := sha256.New()
	bw := bufio.NewWriterSize(io.MultiWriter(w, h), 1<<16)
	var item []byte
	var last cardid.CardID
	for r, err := range rows {
		switch n := len(r.Sealed); {
		case err != nil:
			return sum, size, err
		case size > 0 && bytes.Compare(r.ID[:], last[:]) <= 0:
			return sum, size, ErrOrder
		case n != 0 && n < minRow || n > MaxRow:
			return sum, size, fmt.Errorf("%w: a sealed row of %d bytes, allowed are %d to %d", ErrTooLarge, n, minRow, MaxRow)
		}
		item, last = AppendRow(item[:0], r), r.ID
		if size += int64(len(item)); size > MaxFile {
			return sum, size, fmt.Errorf("%w: the file would have more than %d bytes", ErrTooLarge, MaxFile)
		}
		bw.Write(item) // a bufio.Writer keeps its first error for Flush
	}
	if err := bw.Flush(); err != nil {
		return sum, size, fmt.Errorf("writing rows: %w", err)
	}
	return [32]byte(h.Sum(nil)), size, nil
}

// A RowsReader reads a snapshot or a delta once, from its first byte to its last,
// in bounded memory. Nothing it returned may count before Next returned io.EOF.
type RowsReader struct {
	rows rowReader
	sum  hash.Hash
	want [32]byte
	err  error // once returned, for ever
}

// Reader reads the snapshot.
func (s Snapshot) Reader(r io.Reader) *RowsReader { return newRowsReader(r, s.SHA256, s.Size, false) }

// Reader reads the delta. A row without content is gone.
func (d Delta) Reader(r io.Reader) *RowsReader { return newRowsReader(r, d.SHA256, d.Size, true) }

func newRowsReader(r io.Reader, sum [32]byte, size int64, gone bool) *RowsReader {
	return &RowsReader{rows: rowReader{br: bufio.NewReaderSize(r, 1<<16), most: size, left: size, gone: gone}, sum: sha256.New(), want: sum}
}

// Next returns the next row; its bytes are valid until the next call. After the
// last one, when size and digest are as the manifest says, it returns io.EOF.
func (r *RowsReader) Next() (SealedRow, error) {
	if r.err != nil {
		return SealedRow{}, r.err
	}
	var row SealedRow
	switch row, r.err = r.rows.next(); {
	case r.err == nil:
		r.sum.Write(r.rows.item)
	case r.err != io.EOF:
		r.err = fmt.Errorf("row %d: %w", r.rows.n+1, r.err)
	case r.rows.left > 0:
		r.err = ErrTruncated
	case [32]byte(r.sum.Sum(nil)) != r.want:
		r.err = ErrTampered
	}
	return row, r.err
}

// A rowReader reads rows that are strictly ascending by CardID, each in its one
// encoding.
type rowReader struct {
	br   *bufio.Reader
	most int64 // bytes of the file
	left int64 // of them, to come
	gone bool  // rows without content are rows
	n    uint64
	last cardid.CardID
	item []byte // the last row
}

// next returns io.EOF where a row would begin.
func (r *rowReader) next() (SealedRow, error) {
	r.item = r.item[:0]
	if _, err := r.br.Peek(1); err != nil {
		if err != io.EOF {
			err = fmt.Errorf("reading list: %w", err)
		}
		return SealedRow{}, err
	}
	// Prefix, CardID, and the shortest form of a length: 40, 58 nn or 59 nnnn.
	if err := r.read(len(rowPrefix) + 32 + 1); err != nil {
		return SealedRow{}, err
	}
	id := cardid.CardID(r.item[len(rowPrefix):])
	if r.gone && bytes.HasPrefix(r.item, rowPrefix[:]) && r.item[len(r.item)-1] == 0x40 {
		if r.n > 0 && bytes.Compare(id[:], r.last[:]) <= 0 {
			return SealedRow{}, ErrOrder
		}
		r.last = id
		r.n++
		return SealedRow{ID: id}, nil
	}
	if err := r.read(1); err != nil {
		return SealedRow{}, err
	}
	n, long := int(r.item[len(r.item)-1]), r.item[len(r.item)-2] == 0x59
	if long {
		if err := r.read(1); err != nil {
			return SealedRow{}, err
		}
		n = n<<8 | int(r.item[len(r.item)-1])
	}
	head := r.item[:len(rowPrefix)+32+1]
	switch {
	case !bytes.HasPrefix(head, rowPrefix[:]), !long && head[len(head)-1] != 0x58, long && n < 1<<8, n < minRow:
		return SealedRow{}, fmt.Errorf("%w: not a CardID and a sealed row", ErrMalformed)
	case n > MaxRow:
		return SealedRow{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, n, MaxRow)
	case r.n > 0 && bytes.Compare(id[:], r.last[:]) <= 0:
		return SealedRow{}, ErrOrder
	}
	at := len(r.item)
	if err := r.read(n); err != nil {
		return SealedRow{}, err
	}
	r.last = id
	r.n++
	return SealedRow{id, r.item[at:]}, nil
}

// read appends n bytes to r.item.
func (r *rowReader) read(n int) error {
	if r.left -= int64(n); r.left < 0 {
		return fmt.Errorf("%w: the file has more than %d bytes", ErrTooLarge, r.most)
	}
	at := len(r.item)
	r.item = slices.Grow(r.item, n)[:at+n]
	switch _, err := io.ReadFull(r.br, r.item[at:]); err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return ErrTruncated
	default:
		return fmt.Errorf("reading list: %w", err)
	}
}
