// Package claims is the log that the gates of a venue share, so that one ticket goes
// through one gate: for each entitlement its entries and exits, numbered, each number
// written once and never changed.
//
// It promises: of all who write number n of a log one succeeds, and has seen numbers 1
// to n-1; what was written is neither changed nor deleted; the same records give every
// reader the same history. What a gate did is in its own journal: the log is an index
// of all journals and can be made from them again.
//
// docs/claims.md is the format and what it promises to other programs.
package claims

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Version is that of the records that this program writes, and the only one that it
// reads.
const Version = 1

// MaxRecord bounds a record in bytes.
const MaxRecord = 2048

// MaxNumber bounds the numbers of a log.
const MaxNumber = 1 << 30

// A Kind says what a record is about.
type Kind string

// Kinds.
const (
	Entry  Kind = "entry"
	Exit   Kind = "exit"
	Settle Kind = "settle" // what came of an entry or an exit, by the terminal that wrote it
)

// A Record is one number of a log. docs/claims.md says what each kind has.
type Record struct {
	Version     int    `json:"version"`
	Kind        Kind   `json:"kind"`
	Entitlement string `json:"entitlement"`
	Writer
	ID   string    `json:"id"` // of the passage, unique for its writer; a settle has that of what it settles
	Gate string    `json:"gate,omitempty"`
	Zone string    `json:"zone,omitempty"`
	At   time.Time `json:"at"` // UTC, whole milliseconds; of a settle when it was written

	People  uint32 `json:"people,omitempty"`
	Reentry uint32 `json:"reentry,omitempty"` // of them, who use nothing up
	Late    bool   `json:"late,omitempty"`    // written when people may have passed already
	Doubt   bool   `json:"doubt,omitempty"`   // nobody can tell whether people passed
	Of      uint64 `json:"of,omitempty"`      // number of the record that this one settles

	// Reservation is the number of the event in the writer's journal, 0 where the
	// record came first.
	Reservation uint64 `json:"reservation,omitempty"`
}

// A Writer is a terminal with one journal.
type Writer struct {
	Terminal    string `json:"terminal"`
	Incarnation string `json:"incarnation"` // of its journal, 32 hexadecimal digits
}

// ErrUnreadable says that a record is malformed, or of a version that this program does
// not know. Its number is taken all the same.
var ErrUnreadable = errors.New("record of a claim cannot be read")

// Encode gives the bytes of a record; it fills in the version. The error is
// ErrUnreadable when nobody could read it.
func (r Record) Encode() ([]byte, error) {
	r.Version = Version
	r.At = r.At.UTC().Truncate(time.Millisecond)
	b := new(bytes.Buffer)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if !utf8.ValidString(r.Entitlement + r.Terminal + r.ID + r.Gate + r.Zone) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrUnreadable)
	}
	_, err := parse(text)
	return text, err
}

// Parse reads a record that was found under a key of a scope's bucket. Members that it
// does not know are passed over. The error is ErrUnreadable.
func Parse(scope, token string, b []byte) (Record, error) {
	r, err := parse(b)
	if err == nil && Token(scope, r.Entitlement) != token {
		return Record{}, fmt.Errorf("%w: it is of another entitlement than its key", ErrUnreadable)
	}
	return r, err
}

func parse(b []byte) (r Record, err error) {
	bad := func(format string, a ...any) (Record, error) {
		return Record{}, fmt.Errorf("%w: %s", ErrUnreadable, fmt.Sprintf(format, a...))
	}
	if len(b) > MaxRecord || !utf8.Valid(b) {
		return bad("it has %d bytes, or is not UTF-8", len(b))
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return bad("%v", err)
	}
	if head.Version != Version {
		return bad("it is of version %d, this program reads %d", head.Version, Version)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return bad("%v", err)
	}
	incarnation, hexErr := hex.DecodeString(r.Incarnation)
	switch {
	case r.Kind != Entry && r.Kind != Exit && r.Kind != Settle:
		return bad("unknown kind %q", r.Kind)
	case r.Entitlement == "" || r.Terminal == "" || r.ID == "" || r.At.IsZero() || r.At.UTC().Year() < 1 || r.At.UTC().Year() > 9999:
		return bad("entitlement, terminal, id or at is missing")
	case hexErr != nil || len(incarnation) != 16 || strings.ToLower(r.Incarnation) != r.Incarnation:
		return bad("incarnation is not 32 hexadecimal digits")
	case r.Kind == Settle && (r.Of == 0 || r.Of > MaxNumber):
		return bad("it settles number %d", r.Of)
	case r.Kind != Settle && (r.People == 0 || r.Reentry > r.People || r.Of != 0 || r.Doubt):
		return bad("people %d, reentry %d, of %d", r.People, r.Reentry, r.Of)
	}
	return r, nil
}

// Token is an entitlement in a key: SHA-256 of the label, a zero byte, the scope, a
// zero byte and the entitlement; of it the first 16 bytes in hexadecimal.
func Token(scope, entitlement string) string {
	h := sha256.Sum256([]byte("gate-agent claim v1\x00" + scope + "\x00" + entitlement))
	return hex.EncodeToString(h[:16])
}

// Key is where number n of a log is.
func Key(token string, n uint64) string { return token + "." + strconv.FormatUint(n, 10) }

// ParseKey takes a key apart. The error is ErrUnreadable.
func ParseKey(key string) (token string, n uint64, err error) {
	token, digits, _ := strings.Cut(key, ".")
	n, err = strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > MaxNumber || len(token) != 32 || strings.Trim(token, "0123456789abcdef") != "" || Key(token, n) != key {
		return "", 0, fmt.Errorf("%w: key %q", ErrUnreadable, key)
	}
	return token, n, nil
}
