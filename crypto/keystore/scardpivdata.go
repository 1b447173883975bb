package keystore

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"fmt"
	"io"

	"github.com/gate-agent/gate-agent/nfc"
)

// The forms of what goes to a PIV card and comes from it.

// tlv is a BER-TLV data object of a one-byte tag.
func tlv(tag byte, value []byte) []byte {
	b := []byte{tag}
	switch n := len(value); {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	return append(b, value...)
}

// cutTLV takes the data object at the beginning of b, of a one-byte tag and at
// most 65535 bytes, apart.
func cutTLV(b []byte) (tag byte, value, rest []byte, err error) {
	short := fmt.Errorf("%w: a data object is cut short", nfc.ErrMalformed)
	if len(b) < 2 {
		return 0, nil, nil, short
	}
	tag, size, b := b[0], int(b[1]), b[2:]
	if tag&0x1F == 0x1F {
		return 0, nil, nil, fmt.Errorf("%w: a data object of a longer tag than those here", nfc.ErrMalformed)
	}
	if size >= 0x80 {
		width := size - 0x80
		if width < 1 || width > 2 || len(b) < width {
			return 0, nil, nil, short
		}
		size = 0
		for _, c := range b[:width] {
			size = size<<8 | int(c)
		}
		b = b[width:]
	}
	if len(b) < size {
		return 0, nil, nil, short
	}
	return tag, b[:size], b[size:], nil
}

// insideTLV is the value of b, which must be one whole data object of that tag.
func insideTLV(tag byte, b []byte) ([]byte, error) {
	got, value, rest, err := cutTLV(b)
	if err != nil {
		return nil, err
	}
	if got != tag || len(rest) > 0 {
		return nil, fmt.Errorf("%w: a data object %02X and %d bytes behind it, want %02X alone", nfc.ErrMalformed, got, len(rest), tag)
	}
	return value, nil
}

// findTLV is the value of the first data object of that tag among those in b, nil
// when there is none.
func findTLV(tag byte, b []byte) ([]byte, error) {
	for len(b) > 0 {
		got, value, rest, err := cutTLV(b)
		if err != nil {
			return nil, err
		}
		if got == tag {
			return value, nil
		}
		b = rest
	}
	return nil, nil
}

// parsePIVCertificate takes the DER of a certificate out of its data object
// (SP 800-73-4 part 1, appendix A, table 10). The error is ErrNoKey when the object
// is there and empty.
func parsePIVCertificate(object []byte) ([]byte, error) {
	container, err := insideTLV(0x53, object)
	if err != nil {
		return nil, err
	}
	certificate, err := findTLV(0x70, container)
	if err != nil {
		return nil, err
	}
	if len(certificate) == 0 {
		return nil, fmt.Errorf("%w: no certificate in its data object", ErrNoKey)
	}
	info, err := findTLV(0x71, container)
	if err != nil {
		return nil, err
	}
	if len(info) != 1 || info[0]&0x01 == 0 {
		return certificate, nil
	}
	// CertInfo says that it is compressed.
	r, err := gzip.NewReader(bytes.NewReader(certificate))
	if err != nil {
		return nil, fmt.Errorf("%w: compressed certificate: %w", nfc.ErrMalformed, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxCertificate+1))
	if err != nil {
		return nil, fmt.Errorf("%w: compressed certificate: %w", nfc.ErrMalformed, err)
	}
	if len(plain) > maxCertificate {
		return nil, fmt.Errorf("%w: compressed certificate of more than %d bytes", nfc.ErrMalformed, maxCertificate)
	}
	return plain, nil
}

// parsePIVSignature takes the response out of a dynamic authentication template
// (part 2 §3.2.4, table 7).
func parsePIVSignature(answer []byte) ([]byte, error) {
	template, err := insideTLV(0x7C, answer)
	if err != nil {
		return nil, err
	}
	signature, err := findTLV(0x82, template)
	if err == nil && len(signature) == 0 {
		err = fmt.Errorf("%w: no response in the authentication template", nfc.ErrMalformed)
	}
	return signature, err
}

// padPKCS1v15 is EMSA-PKCS1-v1_5 (RFC 8017 §9.2) of a digest, of size bytes.
func padPKCS1v15(hash crypto.Hash, digest []byte, size int) []byte {
	info := digestInfo(hash, digest)
	block := bytes.Repeat([]byte{0xFF}, size)
	block[0], block[1], block[size-len(info)-1] = 0x00, 0x01, 0x00
	copy(block[size-len(info):], info)
	return block
}
