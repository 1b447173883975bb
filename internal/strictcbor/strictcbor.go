// Package strictcbor reads and writes CBOR (RFC 8949) that is signed or kept:
// maps with integer keys, whose key 0 is a version where there is one.
//
// It promises that what is written is in the core deterministic encoding
// (§4.2.1), and that reading refuses duplicate and unknown keys, indefinite
// lengths, tags, and more nesting or members than the format has. Who reads
// encodes the value again and compares: then one value has one encoding, and a
// member that is null, empty or cut short shows.
package strictcbor

import (
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Limits are those of a format.
type Limits struct {
	Nested int // levels of maps and arrays, at least 4
	Array  int // elements, at least 16
	Map    int // pairs, at least 16
}

// A Codec reads and writes one format.
type Codec struct {
	enc         cbor.EncMode
	dec, tagged cbor.DecMode
}

// New makes a codec. It panics on limits that are none.
func New(l Limits) Codec {
	options := func(tags cbor.TagsMode) cbor.DecOptions {
		return cbor.DecOptions{
			DupMapKey:         cbor.DupMapKeyEnforcedAPF,
			IndefLength:       cbor.IndefLengthForbidden,
			TagsMd:            tags,
			ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
			MaxNestedLevels:   l.Nested,
			MaxArrayElements:  l.Array,
			MaxMapPairs:       l.Map,
		}
	}
	return Codec{
		enc: must(cbor.EncOptions{
			Sort:        cbor.SortCoreDeterministic,
			IndefLength: cbor.IndefLengthForbidden,
			TagsMd:      cbor.TagsForbidden,
		}.EncMode()),
		dec:    must(options(cbor.TagsForbidden).DecMode()),
		tagged: must(options(cbor.TagsAllowed).DecMode()),
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options that contradict each other
	}
	return v
}

// Marshal encodes v.
func (c Codec) Marshal(v any) ([]byte, error) { return c.enc.Marshal(v) }

// Unmarshal decodes exactly b into v.
func (c Codec) Unmarshal(b []byte, v any) error { return c.dec.Unmarshal(b, v) }

// UnmarshalVersion decodes exactly b, a map whose key 0 is to be this version.
// A newer version may have keys that are unknown here: that it is newer is said
// first.
func (c Codec) UnmarshalVersion(b []byte, v any, version uint64) error {
	has, ok := c.version(b)
	if ok && has > version {
		return fmt.Errorf("version %d, this program reads %d: update it", has, version)
	}
	if err := c.dec.Unmarshal(b, v); err != nil {
		return err
	}
	if has != version {
		return fmt.Errorf("version %d, this program reads %d", has, version)
	}
	return nil
}

// version looks at nothing but the version.
func (c Codec) version(b []byte) (v uint64, ok bool) {
	var w map[uint64]cbor.RawMessage
	return v, c.dec.Unmarshal(b, &w) == nil && c.dec.Unmarshal(w[0], &v) == nil
}

// First gives the first item of b, which may be tagged. The error is
// io.ErrUnexpectedEOF when b ends within it.
func (c Codec) First(b []byte) (item []byte, err error) {
	var raw cbor.RawMessage
	rest, err := c.tagged.UnmarshalFirst(b, &raw)
	return b[:len(b)-len(rest)], err
}

// CheckText wants text of so many bytes, in UTF-8, every character of which can be
// printed: names are shown to people, who compare them. The error continues a sentence
// that begins with what the text is.
func CheckText(s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("has %d bytes, allowed are %d to %d", len(s), least, most)
	}
	if !utf8.ValidString(s) {
		return errors.New("is not UTF-8")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return errors.New("has a character that cannot be printed")
		}
	}
	return nil
}

// LastSecond is the last one RFC 3339 can write, 9999-12-31T23:59:59Z.
const LastSecond = 253402300799

// Time is the instant of so many seconds since 1970. Of more than CheckTime takes it
// makes an instant that CheckTime refuses.
func Time(seconds uint64) time.Time {
	return time.Unix(int64(min(seconds, LastSecond+1)), 0).UTC()
}

// Seconds is what Time reads, without fractions. CheckTime comes first.
func Seconds(t time.Time) uint64 { return uint64(t.Unix()) }

// CheckTime wants a time that RFC 3339 can write and that is after 1970. The error
// continues a sentence that begins with what the time is.
func CheckTime(t time.Time) error {
	if s := t.Unix(); s <= 0 || s > LastSecond {
		return errors.New("is not between 1970 and 9999")
	}
	return nil
}
