package listdb

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"sync/atomic"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// An overlay is list.overlay, open: the rows of deltas one after the other, each
// byte of it written once. Its users are snapshots, and each knows how much of the
// file counts for it: what comes behind that is another's, or was left by a power cut.
type overlay struct {
	file  *os.File
	users atomic.Int64
}

func newOverlay(f *os.File) *overlay {
	o := &overlay{file: f}
	o.users.Store(1)
	return o
}

func (o *overlay) hold() *overlay {
	if o != nil {
		o.users.Add(1)
	}
	return o
}

func (o *overlay) release() {
	if o != nil && o.users.Add(-1) == 0 {
		o.file.Close() // what counts of it was made durable
	}
}

// An index says where in an overlay the newest row of a CardID is, ascending by
// CardID. It never changes: a longer one is another, so that a view keeps its own.
// An entry takes 40 bytes.
type index []entry

type entry struct {
	id cardid.CardID
	at uint32 // maxOverlay is below 4 GiB
	n  uint16 // bytes of the row; gone of one without content
}

// Bounds of an overlay, beyond which deltas go into a new base.
const (
	maxEntries = 200_000
	maxOverlay = 1 << 30 // bytes
)

// with returns an index that has more entries. Of two for one CardID the one that
// comes later in the overlay counts.
func (x index) with(more []entry) index {
	more = slices.Clone(more)
	slices.SortFunc(more, func(a, b entry) int { return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(b.at, a.at)) })
	more = slices.CompactFunc(more, func(a, b entry) bool { return a.id == b.id })
	out := make(index, 0, len(x)+len(more))
	for _, e := range more {
		i, found := x.find(e.id)
		out = append(append(out, x[:i]...), e)
		if found {
			i++
		}
		x = x[i:]
	}
	return append(out, x...)
}

func (x index) find(id cardid.CardID) (at int, found bool) {
	return slices.BinarySearchFunc(x, id, func(e entry, id cardid.CardID) int { return bytes.Compare(e.id[:], id[:]) })
}

// read returns the row of an entry, in buf when it is long enough.
func (o *overlay) read(e entry, buf []byte) (whitelist.SealedRow, error) {
	buf = slices.Grow(buf[:0], int(e.n))[:e.n]
	if _, err := o.file.ReadAt(buf, int64(e.at)); err != nil {
		return whitelist.SealedRow{}, fmt.Errorf("%w: %s: %w", ErrUnreadable, overlayFile, err)
	}
	row, n, err := parseRow(buf)
	if err != nil || n != len(buf) || row.ID != e.id {
		return whitelist.SealedRow{}, fmt.Errorf("%w: %s has changed", whitelist.ErrTampered, overlayFile)
	}
	return row, nil
}

// rows yields the rows of an index, those that are gone without content.
func (o *overlay) rows(x index) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		buf := make([]byte, gone+2+whitelist.MaxRow)
		for _, e := range x {
			if row, err := o.read(e, buf); !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// A row is an array of two, a byte string of 32 and one of its length:
// docs/list-format.md.
const (
	rowPrefix = "\x82\x58\x20"
	rowHead   = len(rowPrefix) + len(cardid.CardID{}) // bytes
	gone      = rowHead + 1                           // bytes of a row without content
)

var errRow = fmt.Errorf("%w: not a row", whitelist.ErrTampered)

// parseRow reads the row with which b begins, in its one encoding.
func parseRow(b []byte) (row whitelist.SealedRow, n int, err error) {
	if len(b) < gone || string(b[:len(rowPrefix)]) != rowPrefix {
		return row, 0, errRow
	}
	row.ID = cardid.CardID(b[len(rowPrefix):])
	size, at, least := 0, gone, 0
	switch kind := b[rowHead]; {
	case kind == 0x40:
	case kind == 0x58 && len(b) > gone:
		size, at, least = int(b[gone]), gone+1, 1
	case kind == 0x59 && len(b) > gone+1:
		size, at, least = int(binary.BigEndian.Uint16(b[gone:])), gone+2, 1<<8
	default:
		least = whitelist.MaxRow + 1
	}
	if size < least || size > whitelist.MaxRow || len(b) < at+size {
		return row, 0, errRow
	}
	row.Sealed = b[at : at+size]
	return row, at + size, nil
}

// scan yields the rows of a part of the overlay in the order of the file, and tells
// where each begins.
func (o *overlay) scan(from, to int64) iter.Seq2[entry, whitelist.SealedRow] {
	return func(yield func(entry, whitelist.SealedRow) bool) {
		br := bufio.NewReaderSize(io.NewSectionReader(o.file, from, to-from), 1<<16)
		for at := from; at < to; {
			b, _ := br.Peek(gone + 2 + whitelist.MaxRow)
			row, n, err := parseRow(b)
			if err != nil {
				return // the digest over the part does not fit either
			}
			if !yield(entry{row.ID, uint32(at), uint16(n)}, row) {
				return
			}
			br.Discard(n)
			at += int64(n)
		}
	}
}

// above yields the rows of two sequences as one, all three ascending by CardID. A
// row of upper stands in the place of lower's; one without content hides it.
func above(lower, upper iter.Seq2[whitelist.SealedRow, error]) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		next, stop := iter.Pull2(upper)
		defer stop()
		up, upErr, more := next()
		for low, err := range lower {
			if err != nil {
				yield(low, err)
				return
			}
			hidden := false
			for more && upErr == nil && bytes.Compare(up.ID[:], low.ID[:]) <= 0 {
				hidden = up.ID == low.ID
				if len(up.Sealed) > 0 && !yield(up, nil) {
					return
				}
				up, upErr, more = next()
			}
			if upErr != nil {
				yield(up, upErr)
				return
			}
			if !hidden && !yield(low, nil) {
				return
			}
		}
		for ; more; up, upErr, more = next() {
			if (upErr != nil || len(up.Sealed) > 0) && !yield(up, upErr) || upErr != nil {
				return
			}
		}
	}
}
