package registration

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// members decodes a record into its members, so that a test may write others.
func members(t *testing.T, r Record) map[uint64]any {
	t.Helper()
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	var m map[uint64]any
	if err := cbor.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	b, err := codec.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// There is one form of record, also for a terminal that is trusted.
func TestMalformedRecordsAreRefused(t *testing.T) {
	r := good(t)
	if b := encoded(t, members(t, r)); !bytes.Equal(b, readFile(t, "vectors", "registration", "card.cbor")) {
		t.Fatal("the members do not encode to the record")
	}
	inside := func(m map[uint64]any, key uint64) map[any]any { return m[key].(map[any]any) }
	signed := func(m map[uint64]any) map[any]any { return inside(m, 11)[uint64(3)].(map[any]any) }
	for name, change := range map[string]func(map[uint64]any){
		"version 0":                  func(m map[uint64]any) { m[0] = 0 },
		"version 2":                  func(m map[uint64]any) { m[0] = 2 },
		"an unknown member":          func(m map[uint64]any) { m[12] = 1 },
		"an unknown member inside":   func(m map[uint64]any) { inside(m, 10)[uint64(3)] = 1 },
		"no scope":                   func(m map[uint64]any) { delete(m, 1) },
		"empty scope":                func(m map[uint64]any) { m[1] = "" },
		"long scope":                 func(m map[uint64]any) { m[1] = strings.Repeat("x", MaxName+1) },
		"scope of two lines":         func(m map[uint64]any) { m[1] = "demo\nhall" },
		"scope as bytes":             func(m map[uint64]any) { m[1] = []byte("demo-hall") },
		"unknown hierarchy":          func(m map[uint64]any) { m[2] = "tests" },
		"no hierarchy":               func(m map[uint64]any) { delete(m, 2) },
		"no terminal":                func(m map[uint64]any) { delete(m, 3) },
		"empty ticket":               func(m map[uint64]any) { m[4] = "" },
		"null ticket":                func(m map[uint64]any) { m[4] = nil },
		"long ticket":                func(m map[uint64]any) { m[4] = strings.Repeat("x", MaxTicket+1) },
		"no time":                    func(m map[uint64]any) { delete(m, 5) },
		"time 0":                     func(m map[uint64]any) { m[5] = 0 },
		"time before 1970":           func(m map[uint64]any) { m[5] = -1 },
		"time beyond 9999":           func(m map[uint64]any) { m[5] = uint64(strictcbor.LastSecond + 1) },
		"time that overflows":        func(m map[uint64]any) { m[5] = ^uint64(0) },
		"time with a fraction":       func(m map[uint64]any) { m[5] = 1.5 },
		"short nonce":                func(m map[uint64]any) { m[6] = make([]byte, 31) },
		"long nonce":                 func(m map[uint64]any) { m[6] = make([]byte, 33) },
		"nonce as an array":          func(m map[uint64]any) { m[6] = make([]uint, 32) },
		"no nonce":                   func(m map[uint64]any) { delete(m, 6) },
		"long token":                 func(m map[uint64]any) { m[7] = strings.Repeat("x", maxToken+1) },
		"EF 0008 of 2 bytes":         func(m map[uint64]any) { m[8] = []byte{0x8F, 0x8F} },
		"EF 0008 of 4 bytes":         func(m map[uint64]any) { m[8] = []byte{0x8F, 0x8F, 0, 0} },
		"empty EF 0008":              func(m map[uint64]any) { m[8] = []byte{} },
		"no certificate":             func(m map[uint64]any) { delete(m, 9) },
		"empty certificate":          func(m map[uint64]any) { m[9] = []byte{} },
		"long certificate":           func(m map[uint64]any) { m[9] = make([]byte, 4097) },
		"no authentication":          func(m map[uint64]any) { delete(m, 10) },
		"unknown scheme":             func(m map[uint64]any) { inside(m, 10)[uint64(1)] = "rsassa-pkcs1-v1_5-sha1" },
		"no scheme":                  func(m map[uint64]any) { delete(inside(m, 10), uint64(1)) },
		"no signature":               func(m map[uint64]any) { delete(inside(m, 10), uint64(2)) },
		"empty signature":            func(m map[uint64]any) { inside(m, 10)[uint64(2)] = []byte{} },
		"long signature":             func(m map[uint64]any) { inside(m, 10)[uint64(2)] = make([]byte, maxSignature+1) },
		"null card-surface":          func(m map[uint64]any) { m[11] = nil },
		"empty card-surface":         func(m map[uint64]any) { m[11] = map[uint64]any{} },
		"no signer's certificate":    func(m map[uint64]any) { delete(inside(m, 11), uint64(1)) },
		"short signer's certificate": func(m map[uint64]any) { inside(m, 11)[uint64(1)] = make([]byte, 567) },
		"no age record":              func(m map[uint64]any) { delete(inside(m, 11), uint64(2)) },
		"age record with filler":     func(m map[uint64]any) { inside(m, 11)[uint64(2)] = make([]byte, 548) },
		"no card signature":          func(m map[uint64]any) { delete(inside(m, 11), uint64(3)) },
		"empty card signature":       func(m map[uint64]any) { signed(m)[uint64(2)] = []byte{} },
		"unknown card scheme":        func(m map[uint64]any) { signed(m)[uint64(1)] = "" },
	} {
		m := members(t, r)
		change(m)
		if got, err := decode(encoded(t, m)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}

	whole := encoded(t, members(t, r))
	for name, b := range map[string][]byte{
		"nothing":                nil,
		"an empty map":           {0xA0},
		"an array":               {0x80},
		"a byte behind it":       append(bytes.Clone(whole), 0),
		"a member twice":         append([]byte{whole[0] + 1}, append(bytes.Clone(whole[1:]), 0x0B, 0xA0)...),
		"of indefinite length":   append(append([]byte{0xBF}, whole[1:]...), 0xFF),
		"tagged":                 append([]byte{0xD8, 0x64}, whole...),
		"version in longer form": append([]byte{whole[0], 0x00, 0x18, 0x01}, whole[3:]...),
		"members in other order": append([]byte{whole[0]}, append(bytes.Clone(whole[3:]), whole[1:3]...)...),
		"deeply nested":          bytes.Repeat([]byte{0xA1, 0x00}, 100),
	} {
		if got, err := decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// A newer version says so, whatever else it has.
func TestNewerRecordAsksForAnUpdate(t *testing.T) {
	m := members(t, good(t))
	m[0], m[99] = 2, "new"
	if _, err := decode(encoded(t, m)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "version 2, this program reads 1: update it") {
		t.Error(err)
	}
}

// What a hub would refuse for its form is not signed.
func TestMalformedRecordIsNotSigned(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"no terminal":           func(r *Record) { r.Terminal = "" },
		"no time":               func(r *Record) { r.At = time.Time{} },
		"no certificate":        func(r *Record) { r.Certificate = nil },
		"no scheme":             func(r *Record) { r.Authentication.Scheme = "" },
		"invalid UTF-8":         func(r *Record) { r.Ticket = "\xFF" },
		"half a card-surface":   func(r *Record) { r.Surface.AgeRecord = nil },
		"unprintable character": func(r *Record) { r.Token = "\x00" },
	} {
		r := good(t).clone()
		change(&r)
		if _, err := Sign(nil, identity, r); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The longest record there can be is one that travels.
func TestLongestRecordFits(t *testing.T) {
	r := good(t).clone()
	r.Scope, r.Terminal, r.Ticket = strings.Repeat("x", MaxName), strings.Repeat("x", MaxName), strings.Repeat("x", MaxTicket)
	r.Certificate = make([]byte, 4096)
	r.Authentication = Signed{cardkey.PSSSHA256, make([]byte, maxSignature)}
	r.Surface.Card = r.Authentication
	if msg := sign(t, r); len(msg) > sign1.MaxSize/8 {
		t.Errorf("%d bytes", len(msg))
	}
}
