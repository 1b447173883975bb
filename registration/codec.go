package registration

import (
	"bytes"
	"fmt"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// The wire form of docs/registration.md. Decoding is strict, and what was
// decoded is encoded again and compared: one value has one encoding
// (RFC 8949 §4.2.1), and a field that is null, empty or cut short shows.

const version = 1

type wireRecord struct {
	Version        uint64       `cbor:"0,keyasint"`
	Scope          string       `cbor:"1,keyasint"`
	Hierarchy      string       `cbor:"2,keyasint"`
	Terminal       string       `cbor:"3,keyasint"`
	Ticket         string       `cbor:"4,keyasint,omitempty"`
	At             uint64       `cbor:"5,keyasint"`
	Nonce          [32]byte     `cbor:"6,keyasint"`
	Token          string       `cbor:"7,keyasint,omitempty"`
	Marked         []byte       `cbor:"8,keyasint,omitempty"`
	Certificate    []byte       `cbor:"9,keyasint"`
	Authentication wireSigned   `cbor:"10,keyasint"`
	Surface        *wireSurface `cbor:"11,keyasint,omitempty"`
}

type wireSigned struct {
	Scheme    string `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"`
}

type wireSurface struct {
	SignerCertificate []byte     `cbor:"1,keyasint"`
	AgeRecord         []byte     `cbor:"2,keyasint"`
	Card              wireSigned `cbor:"3,keyasint"`
}

// codec: a record holds a card-surface, that a signature; there are no arrays.
var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

func decode(b []byte) (Record, error) {
	var w wireRecord
	if err := codec.UnmarshalVersion(b, &w, version); err != nil {
		return Record{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	r := Record{
		Scope: w.Scope, Hierarchy: w.Hierarchy, Terminal: w.Terminal, Ticket: w.Ticket,
		At: strictcbor.Time(w.At), Nonce: w.Nonce, Token: w.Token, Marked: w.Marked,
		Certificate: w.Certificate, Authentication: w.Authentication.signed(),
	}
	if s := w.Surface; s != nil {
		r.Surface = &Surface{SignerCertificate: s.SignerCertificate, AgeRecord: s.AgeRecord, Card: s.Card.signed()}
	}
	again, err := r.encode()
	if err != nil {
		return Record{}, err
	}
	if !bytes.Equal(again, b) {
		return Record{}, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return r, nil
}

// encode checks and encodes r.
func (r Record) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	w := wireRecord{
		Version: version,
		Scope:   r.Scope, Hierarchy: r.Hierarchy, Terminal: r.Terminal, Ticket: r.Ticket,
		At: uint64(r.At.Unix()), Nonce: r.Nonce, Token: r.Token, Marked: r.Marked,
		Certificate: r.Certificate, Authentication: r.Authentication.wire(),
	}
	if s := r.Surface; s != nil {
		w.Surface = &wireSurface{SignerCertificate: s.SignerCertificate, AgeRecord: s.AgeRecord, Card: s.Card.wire()}
	}
	return codec.Marshal(w)
}

func (s Signed) wire() wireSigned   { return wireSigned{string(s.Scheme), s.Signature} }
func (w wireSigned) signed() Signed { return Signed{cardkey.Scheme(w.Scheme), w.Signature} }

// Limits of a record, in bytes.
const (
	MaxName      = 64  // of a scope or a terminal
	MaxTicket    = 128 // of a ticket
	maxToken     = 32  // CK_TOKEN_INFO of PKCS #11
	markedSize   = 3   // EF 0008
	maxSignature = 512
)

// CheckNames checks what is known of a record before there is a card.
func (r Record) CheckNames() error {
	for _, t := range []struct {
		name, text string
		least, max int
	}{
		{"scope", r.Scope, 1, MaxName},
		{"terminal", r.Terminal, 1, MaxName},
		{"ticket", r.Ticket, 0, MaxTicket},
		{"token", r.Token, 0, maxToken},
	} {
		if err := checkText(t.name, t.text, t.least, t.max); err != nil {
			return err
		}
	}
	if r.Hierarchy != Production && r.Hierarchy != Test {
		return fmt.Errorf("%w: hierarchy is neither %q nor %q", ErrMalformed, Production, Test)
	}
	return nil
}

// check enforces what docs/registration.md says of the form. What the parts
// mean is for Verify.
func (r Record) check() error {
	if err := r.CheckNames(); err != nil {
		return err
	}
	if err := strictcbor.CheckTime(r.At); err != nil {
		return fmt.Errorf("%w: at %w", ErrMalformed, err)
	}
	if n := len(r.Marked); n != 0 && n != markedSize {
		return fmt.Errorf("%w: EF 0008 of %d bytes, want %d", ErrMalformed, n, markedSize)
	}
	if n := len(r.Certificate); n == 0 || n > cardauth.MaxCertificate {
		return fmt.Errorf("%w: certificate of %d bytes, at most %d", ErrMalformed, n, cardauth.MaxCertificate)
	}
	if err := r.Authentication.check("authentication"); err != nil {
		return err
	}
	s := r.Surface
	if s == nil {
		return nil
	}
	if n := len(s.SignerCertificate); n != cardauth.CVCertificateSize {
		return fmt.Errorf("%w: signer certificate of %d bytes, want %d", ErrMalformed, n, cardauth.CVCertificateSize)
	}
	if n := len(s.AgeRecord); n != cardauth.AgeRecordSize {
		return fmt.Errorf("%w: age record of %d bytes, want %d", ErrMalformed, n, cardauth.AgeRecordSize)
	}
	return s.Card.check("card")
}

func (s Signed) check(whose string) error {
	if s.Scheme.Hash() == 0 {
		return fmt.Errorf("%w: unknown scheme of the %s signature", ErrMalformed, whose)
	}
	if n := len(s.Signature); n == 0 || n > maxSignature {
		return fmt.Errorf("%w: %s signature of %d bytes, at most %d", ErrMalformed, whose, n, maxSignature)
	}
	return nil
}

func checkText(what, s string, least, most int) error {
	if err := strictcbor.CheckText(s, least, most); err != nil {
		return fmt.Errorf("%w: the %s %w", ErrMalformed, what, err)
	}
	return nil
}
