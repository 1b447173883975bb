package whitelist

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// Limits of a list file, in bytes.
const (
	MaxFile   int64 = 2 << 30       // the whole file
	MaxHeader       = sign1.MaxSize // the signed manifest
	MaxRow          = 8 << 10       // one sealed row

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
		plain, err := l.Row.encode()
		if err := cmp.Or(err, l.Row.checkUnder(l.Head), m.Venue.checkRow(l.Row)); err != nil {
			return fmt.Errorf("row %d: %w", i+1, err)
		}
		if len(plain) > cardid.MaxPlaintext {
			return fmt.Errorf("row %d: %w: %d bytes, at most %d can be sealed: it needs fewer entitlements, gates or zones, or shorter messages",
				i+1, ErrTooLarge, len(plain), cardid.MaxPlaintext)
		}
		b, err := key.Seal(m.Scope, m.Epoch, l.Head, plain)
		if err != nil {
			return fmt.Errorf("row %d: %w", i+1, err)
		}
		sealed[i] = SealedRow{key.ID(l.Head), b}
	}
	return WriteSealed(w, signer, key.Check(), m, sealed)
}

// WriteSealed is Write for rows that are sealed already, with the key check of
// their scope key. It cannot hold them against the venue. It sorts rows in place.
func WriteSealed(w io.Writer, signer crypto.Signer, check [16]byte, m Manifest, rows []SealedRow) error {
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
	payload, err := m.encode()
	if err != nil {
		return fmt.Errorf("writing manifest: %w", err)
	}
	if len(payload) > maxManifest {
		return fmt.Errorf("writing manifest: %w: %d bytes, at most %d can be signed: its venue needs fewer or shorter names and rules",
			ErrTooLarge, len(payload), maxManifest)
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

// A SealedRow is a row as the file holds it.
type SealedRow struct {
	ID     cardid.CardID
	Sealed []byte // minimum 168, maximum MaxRow bytes
}

// rowPrefix begins every row: an array of two, a byte string of 32.
var rowPrefix = [3]byte{0x82, 0x58, 0x20}

// AppendRow appends the one encoding of a row to b.
func AppendRow(b []byte, r SealedRow) []byte {
	b = append(b, rowPrefix[:]...)
	b = append(b, r.ID[:]...)
	if n := len(r.Sealed); n < 1<<8 {
		b = append(b, 0x58, byte(n))
	} else {
		b = append(b, 0x59)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(b, r.Sealed...)
}

// A Reader reads a list file once, from its first byte to its last, in bounded
// memory. Nothing it returned may count before Next returned io.EOF.
type Reader struct {
	br       *bufio.Reader
	payload  sign1.Payload
	signed   []byte
	manifest Manifest

	sum  hash.Hash
	rows uint64
	left int64 // bytes until MaxFile
	last cardid.CardID
	item []byte
	err  error // once returned, for ever
}

// NewReader reads and verifies the manifest of a list.
func NewReader(r io.Reader, keys sign1.Keys) (*Reader, error) {
	br := bufio.NewReaderSize(r, MaxHeader)
	head, err := br.Peek(MaxHeader)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading list: %w", err)
	}
	whole := err == io.EOF
	if len(head) == 0 {
		return nil, fmt.Errorf("%w: the file is empty", ErrTruncated)
	}
	signed, err := codec.First(head)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && whole:
		return nil, fmt.Errorf("%w: it ends within the signed manifest", ErrTruncated)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: the signed manifest has more than %d bytes", ErrTooLarge, MaxHeader)
	case err != nil:
		return nil, fmt.Errorf("%w: the file does not begin with a signed manifest: %v", ErrMalformed, err)
	}
	signed = bytes.Clone(signed)
	payload, err := keys.Verify(sign1.RoleList, signed)
	if err != nil {
		return nil, fmt.Errorf("verifying manifest: %w", err)
	}
	m, err := ParseManifest(payload)
	if err != nil {
		return nil, err
	}
	if m.Rows > uint64(MaxFile)/minRow {
		return nil, fmt.Errorf("%w: %d rows cannot fit into %d bytes", ErrTooLarge, m.Rows, MaxFile)
	}
	if _, err := br.Discard(len(signed)); err != nil {
		return nil, fmt.Errorf("reading list: %w", err)
	}
	return &Reader{
		br: br, payload: payload, signed: signed, manifest: m,
		sum: sha256.New(), left: MaxFile - int64(len(signed)),
	}, nil
}

// Manifest returns the verified manifest.
func (r *Reader) Manifest() Manifest { return r.manifest }

// Payload returns the verified content the manifest was read from.
func (r *Reader) Payload() sign1.Payload { return r.payload }

// Signed returns the signed manifest, the bytes as they were received.
func (r *Reader) Signed() []byte { return bytes.Clone(r.signed) }

// Next returns the next row; its bytes are valid until the next call. After the
// last row, when count and digest are as signed and the file ends, it returns
// io.EOF. Any other error means that nothing read so far may be used.
func (r *Reader) Next() (SealedRow, error) {
	if r.err != nil {
		return SealedRow{}, r.err
	}
	var row SealedRow
	if r.rows == r.manifest.Rows {
		r.err = r.end()
	} else if row, r.err = r.next(); r.err != nil {
		r.err = fmt.Errorf("row %d of %d: %w", r.rows+1, r.manifest.Rows, r.err)
	} else {
		r.rows++
	}
	return row, r.err
}

func (r *Reader) next() (SealedRow, error) {
	r.item = r.item[:0]
	// Prefix, CardID, and the shortest form of a length: 58 nn or 59 nnnn.
	if err := r.read(len(rowPrefix) + 32 + 2); err != nil {
		return SealedRow{}, err
	}
	id := cardid.CardID(r.item[len(rowPrefix):])
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
	case r.rows > 0 && bytes.Compare(id[:], r.last[:]) <= 0:
		return SealedRow{}, ErrOrder
	}
	at := len(r.item)
	if err := r.read(n); err != nil {
		return SealedRow{}, err
	}
	r.last = id
	r.sum.Write(r.item)
	return SealedRow{id, r.item[at:]}, nil
}

// read appends n bytes to r.item.
func (r *Reader) read(n int) error {
	if r.left -= int64(n); r.left < 0 {
		return fmt.Errorf("%w: the file has more than %d bytes", ErrTooLarge, MaxFile)
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

func (r *Reader) end() error {
	switch _, err := r.br.ReadByte(); err {
	case io.EOF:
	case nil:
		return ErrTrailing
	default:
		return fmt.Errorf("reading list: %w", err)
	}
	if [32]byte(r.sum.Sum(nil)) != r.manifest.RowsSHA256 {
		return ErrTampered
	}
	return io.EOF
}
