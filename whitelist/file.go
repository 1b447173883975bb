package whitelist

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// Limits of a list file, in bytes.
const (
	MaxFile   int64 = 2 << 30       // the whole file
	MaxHeader       = sign1.MaxSize // the signed manifest
	MaxRow          = 8 << 10       // one sealed row

	MaxHead = roles.MaxSize + MaxHeader // what stands before the rows

	minRow = 128 + cardid.Overhead // the smallest class of sealed rows

	maxManifest = MaxHeader - 1<<8 // header and signature have fewer bytes
)

// A Listed is one certificate or order of a list to be written.
type Listed struct {
	Head []byte // certificate head, see package cardid, or OrderHead
	Row  Row
}

// Write seals, sorts, signs and writes a list. Of m it fills in ScopeKeyCheck,
// Rows and RowsSHA256. Times are cut to whole seconds.
//
// It refuses rows that name what m.Venue does not, and without a venue rows
// that programs from before there were venues do not read.
//
// The same input gives the same bytes when the signer is an Ed25519 or ECDSA
// key of the standard library; the order of rows does not matter. The sealed
// rows are held in memory: about 830 bytes for a row with two RSA-2048 keys.
func Write(w io.Writer, signer crypto.Signer, key cardid.ScopeKey, m Manifest, rows []Listed) error {
	if err := m.check(); err != nil { // before a million rows are sealed
		return fmt.Errorf("writing manifest: %w", err)
	}
	sealed := make([]SealedRow, len(rows))
	for i, l := range rows {
		var err error
		if sealed[i], err = m.Seal(key, l); err != nil {
			return fmt.Errorf("row %d: %w", i+1, err)
		}
	}
	return writeSealed(w, signer, key.Check(), m, sealed)
}

// Seal seals one row for m's scope and epoch, after it was held against m's venue.
func (m Manifest) Seal(key cardid.ScopeKey, l Listed) (SealedRow, error) {
	plain, err := l.Row.encode()
	if err := cmp.Or(err, l.Row.checkUnder(l.Head), m.Venue.checkRow(l.Row)); err != nil {
		return SealedRow{}, err
	}
	if len(plain) > cardid.MaxPlaintext {
		return SealedRow{}, fmt.Errorf("%w: %d bytes, at most %d can be sealed: it needs fewer entitlements, gates or zones, or shorter messages",
			ErrTooLarge, len(plain), cardid.MaxPlaintext)
	}
	sealed, err := key.Seal(m.Scope, m.Epoch, l.Head, plain)
	if err != nil {
		return SealedRow{}, err
	}
	return SealedRow{key.ID(l.Head), sealed}, nil
}

// writeSealed is Write for rows that are sealed already, with the key check of
// their scope key. It cannot hold them against the venue. It sorts rows in place.
func writeSealed(w io.Writer, signer crypto.Signer, check [16]byte, m Manifest, rows []SealedRow) error {
	slices.SortFunc(rows, func(a, b SealedRow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	sum := sha256.New()
	var item []byte
	size := int64(MaxHeader)
	for i, r := range rows {
		if i > 0 && r.ID == rows[i-1].ID {
			return fmt.Errorf("%w: one certificate is listed twice", ErrOrder)
		}
		if n := len(r.Sealed); n < minRow || n > MaxRow {
			return fmt.Errorf("%w: a sealed row of %d bytes, allowed are %d to %d", ErrTooLarge, n, minRow, MaxRow)
		}
		item = AppendRow(item[:0], r)
		sum.Write(item)
		size += int64(len(item))
	}
	if size > MaxFile {
		return fmt.Errorf("%w: the file would have more than %d bytes", ErrTooLarge, MaxFile)
	}

	m.ScopeKeyCheck, m.Rows, m.RowsSHA256 = check, uint64(len(rows)), [32]byte(sum.Sum(nil))
	payload, err := m.Encode()
	if err != nil {
		return err
	}
	signed, err := sign1.Sign(nil, sign1.RoleList, signer, payload)
	if err != nil {
		return fmt.Errorf("writing manifest: %w", err)
	}

	bw := bufio.NewWriterSize(w, 1<<16)
	bw.Write(signed) // a bufio.Writer keeps its first error for Flush
	for _, r := range rows {
		item = AppendRow(item[:0], r)
		bw.Write(item)
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("writing list: %w", err)
	}
	return nil
}

// A Reader reads a list file once, from its first byte to its last, in bounded
// memory. Nothing it returned may count before Next returned io.EOF.
type Reader struct {
	head Head
	rows rowReader
	sum  hash.Hash // of a list that has no set
	set  Set       // of one that has
	err  error     // once returned, for ever
}

// NewReader reads and verifies the head of a list.
func NewReader(r io.Reader, trust roles.Trust) (*Reader, error) {
	br := bufio.NewReaderSize(r, MaxHead)
	start, err := br.Peek(MaxHead)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading list: %w", err)
	}
	h, n, err := readHead(start, trust, err == io.EOF)
	if err != nil {
		return nil, err
	}
	if _, err := br.Discard(n); err != nil {
		return nil, fmt.Errorf("reading list: %w", err)
	}
	return &Reader{head: h, rows: rowReader{br: br, most: MaxFile, left: MaxFile - int64(n)}, sum: sha256.New()}, nil
}

// Head returns the verified head.
func (r *Reader) Head() Head { return r.head }

// Manifest returns the verified manifest.
func (r *Reader) Manifest() Manifest { return r.head.Manifest }

// Set is that of the rows read so far. Of a list that has none (before version 3)
// it is that of no rows.
func (r *Reader) Set() *Set { return &r.set }

// Next returns the next row; its bytes are valid until the next call. After the
// last row, when count and digest are as signed and the file ends, it returns
// io.EOF. Any other error means that nothing read so far may be used.
func (r *Reader) Next() (SealedRow, error) {
	if r.err != nil {
		return SealedRow{}, r.err
	}
	var row SealedRow
	if r.rows.n == r.head.Manifest.Rows {
		r.err = r.end()
	} else if row, r.err = r.rows.next(); r.err != nil {
		if r.err == io.EOF {
			r.err = ErrTruncated
		}
		r.err = fmt.Errorf("row %d of %d: %w", r.rows.n+1, r.head.Manifest.Rows, r.err)
	} else if r.head.Manifest.Published() {
		r.set.Add(row)
	} else {
		r.sum.Write(r.rows.item)
	}
	return row, r.err
}

func (r *Reader) end() error {
	switch _, err := r.rows.br.ReadByte(); err {
	case io.EOF:
	case nil:
		return ErrTrailing
	default:
		return fmt.Errorf("reading list: %w", err)
	}
	digest := [32]byte(r.sum.Sum(nil))
	if r.head.Manifest.Published() {
		digest = r.set.Digest()
	}
	if digest != r.head.Manifest.Digest() {
		return ErrTampered
	}
	return io.EOF
}
