package sign1

import (
	"bytes"
	"fmt"

	"github.com/veraison/go-cose"
)

// header is the protected header: { 1: alg, 4: kid } and nothing else.
type header struct {
	alg cose.Algorithm
	kid [32]byte
}

func (h header) cose() cose.Headers {
	return cose.Headers{Protected: cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: h.alg,
		cose.HeaderLabelKeyID:     h.kid[:],
	}}
}

// parse decodes a message and holds it to the one accepted form. go-cose
// forbids indefinite lengths, tags inside the message and duplicate labels;
// what it leaves open (further headers, longer encodings of an integer) is
// closed here by comparing the header's bytes with the only ones possible.
func parse(msg []byte) (*cose.Sign1Message, header, error) {
	if len(msg) > MaxSize {
		return nil, header{}, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	m := new(cose.Sign1Message)
	if err := m.UnmarshalCBOR(msg); err != nil {
		return nil, header{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	alg, err := m.Headers.Protected.Algorithm()
	if err != nil {
		return nil, header{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if _, ok := hashes[alg]; !ok {
		return nil, header{}, fmt.Errorf("%w: algorithm %v is not allowed", ErrMalformed, alg)
	}
	kid, _ := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if len(kid) != 32 {
		return nil, header{}, fmt.Errorf("%w: the kid has %d bytes, not 32", ErrMalformed, len(kid))
	}
	h := header{alg, [32]byte(kid)}

	want, err := h.cose().Protected.MarshalCBOR()
	if err != nil {
		return nil, header{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if !bytes.Equal(m.Headers.RawProtected, want) {
		return nil, header{}, fmt.Errorf("%w: the protected header is not exactly alg and kid", ErrMalformed)
	}
	if !bytes.Equal(m.Headers.RawUnprotected, []byte{0xa0}) {
		return nil, header{}, fmt.Errorf("%w: the unprotected header is not empty", ErrMalformed)
	}
	if m.Payload == nil {
		return nil, header{}, fmt.Errorf("%w: no payload inside", ErrMalformed)
	}
	if len(msg) != 2+len(want)+1+bstrSize(m.Payload)+bstrSize(m.Signature) {
		return nil, header{}, fmt.Errorf("%w: a length is not in its shortest form", ErrMalformed)
	}
	return m, h, nil
}

// bstrSize is the size of a byte string in its shortest encoding (RFC 8949 §4.2.1).
func bstrSize(b []byte) int {
	switch n := len(b); {
	case n < 24:
		return 1 + n
	case n < 1<<8:
		return 2 + n
	case n < 1<<16:
		return 3 + n
	default:
		return 5 + n
	}
}
