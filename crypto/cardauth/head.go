package cardauth

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// A Head is the beginning of an X.509 certificate: everything before its
// subjectPublicKeyInfo (RFC 5280 §4.1). It is what a card gives away first
// and what names a credential on the list. It proves nothing: anybody who has
// seen a certificate can repeat its head.
type Head struct {
	raw       []byte
	size      int // length of the whole certificate in bytes
	notBefore time.Time
	notAfter  time.Time
}

// ErrHeadIncomplete says that the bytes end before subjectPublicKeyInfo.
var ErrHeadIncomplete = errors.New("certificate head is incomplete")

// ErrHeadMalformed says that the bytes do not begin an X.509 certificate.
var ErrHeadMalformed = errors.New("certificate head is malformed")

// MaxCertificate bounds the certificates that are read from a card, in bytes.
// Real ones have about 1,600.
const MaxCertificate = 4096

// maxHead bounds a head, in bytes. Real ones have about 250.
const maxHead = 1024

// Bytes returns the head as the certificate has it: from the outer SEQUENCE
// header up to, not including, subjectPublicKeyInfo.
func (h Head) Bytes() []byte { return h.raw }

// CertificateSize is the length of the whole certificate in bytes, as its
// outer header announces it; at most MaxCertificate.
func (h Head) CertificateSize() int { return h.size }

// Validity returns the certificate's validity period.
func (h Head) Validity() (notBefore, notAfter time.Time) { return h.notBefore, h.notAfter }

// ParseHead finds the head in the first bytes of a certificate. It reads DER
// only as far as subjectPublicKeyInfo, so a card need not send its signature
// to be recognised. ErrHeadIncomplete asks for more bytes; more bytes never
// change a head that was found.
func ParseHead(prefix []byte) (Head, error) {
	p := derReader{b: prefix}
	size := p.enter(tagSequence) // Certificate
	tbs := p.enter(tagSequence)  // TBSCertificate
	p.skip(tagVersion)
	p.skip(tagInteger)  // serialNumber
	p.skip(tagSequence) // signature
	p.skip(tagSequence) // issuer
	validity := p.enter(tagSequence)
	notBefore := p.time()
	notAfter := p.time()
	validityRead := p.at
	p.skip(tagSequence) // subject
	end := p.at
	key := p.enter(tagSequence) // subjectPublicKeyInfo has begun
	switch {
	case p.err != nil:
		return Head{}, p.err
	case size > MaxCertificate:
		return Head{}, fmt.Errorf("%w: certificate of %d bytes, at most %d", ErrHeadMalformed, size, MaxCertificate)
	case tbs > size || key > tbs || validity != validityRead:
		return Head{}, fmt.Errorf("%w: lengths contradict each other", ErrHeadMalformed)
	case notAfter.Before(notBefore):
		return Head{}, fmt.Errorf("%w: validity ends before it begins", ErrHeadMalformed)
	}
	return Head{raw: bytes.Clone(prefix[:end]), size: size, notBefore: notBefore, notAfter: notAfter}, nil
}

// DER identifier octets (ITU-T X.690 §8.1.2) that a head is made of.
const (
	tagInteger         = 0x02
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagVersion         = 0xA0
)

// A derReader walks through DER that may end anywhere. The first error stays.
type derReader struct {
	b   []byte
	at  int
	err error
}

// header reads an identifier and a length octet by octet, and returns the length
// of the contents that follow.
func (p *derReader) header(tag byte) int {
	if p.err != nil {
		return 0
	}
	if len(p.b)-p.at < 2 {
		p.err = ErrHeadIncomplete
		return 0
	}
	if got := p.b[p.at]; got != tag {
		p.err = fmt.Errorf("%w: tag %02X at offset %d, want %02X", ErrHeadMalformed, got, p.at, tag)
		return 0
	}
	n := int(p.b[p.at+1])
	p.at += 2
	if n < 0x80 {
		return n
	}
	octets := n & 0x7F
	if octets == 0 || octets > 2 {
		p.err = fmt.Errorf("%w: length of %d octets at offset %d", ErrHeadMalformed, octets, p.at-1)
		return 0
	}
	if len(p.b)-p.at < octets {
		p.err = ErrHeadIncomplete
		return 0
	}
	n = 0
	for _, o := range p.b[p.at : p.at+octets] {
		n = n<<8 | int(o)
	}
	if n < 0x80 || octets == 2 && n < 0x100 {
		p.err = fmt.Errorf("%w: length not in its shortest form at offset %d", ErrHeadMalformed, p.at-1)
		return 0
	}
	p.at += octets
	return n
}

// take enters an element, returns its contents and stands behind it.
func (p *derReader) take(tag byte) []byte {
	n := p.header(tag)
	switch {
	case p.err != nil:
		return nil
	case p.at+n > maxHead:
		p.err = fmt.Errorf("%w: longer than %d bytes", ErrHeadMalformed, maxHead)
		return nil
	case p.at+n > len(p.b):
		p.err = ErrHeadIncomplete
		return nil
	}
	p.at += n
	return p.b[p.at-n : p.at]
}

func (p *derReader) skip(tag byte) { p.take(tag) }

// enter enters an element and returns where it ends.
func (p *derReader) enter(tag byte) int {
	n := p.header(tag)
	return p.at + n
}

// time reads one end of a validity period (RFC 5280 §4.1.2.5).
func (p *derReader) time() time.Time {
	tag, layout := byte(tagUTCTime), "060102150405Z"
	if p.err == nil && p.at < len(p.b) && p.b[p.at] == tagGeneralizedTime {
		tag, layout = tagGeneralizedTime, "20060102150405Z"
	}
	contents := p.take(tag)
	if p.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(layout, string(contents))
	if err != nil || t.Format(layout) != string(contents) {
		p.err = fmt.Errorf("%w: validity is not a time in DER", ErrHeadMalformed)
		return time.Time{}
	}
	if tag == tagUTCTime && t.Year() >= 2050 { // RFC 5280: 50 to 99 mean 19xx
		t = t.AddDate(-100, 0, 0)
	}
	return t
}
