package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// An event is what reports need of one (docs/journal.md). The hub reads the bytes
// with code of its own: what a terminal writes is for it what it gets.
type event struct {
	Seq         uint64 `json:"seq"`
	Kind        string `json:"kind"`
	At          string `json:"at"`
	Reservation uint64 `json:"reservation"`
	Gate        string `json:"gate"`
	Entitlement string `json:"entitlement"`
	Zone        string `json:"zone"`
	Direction   string `json:"direction"`
	People      uint32 `json:"people"`
	Reentry     uint32 `json:"reentry"`
	ClaimID     string `json:"claim_id"`

	at int64 // Unix milliseconds
}

// kinds are those of docs/journal.md.
var kinds = [...]string{
	"decision", "reserve", "passed", "commit", "annul", "doubt", "incident", "shift", "start", "list", "command", "trace",
	"clock", "checkpoint", "prune",
}

// maxText bounds the names that are indexed, in bytes: an index of PostgreSQL's
// takes no more than some 2 700, and the limits of a list are far below.
const maxText = 256

const instantFormat = "2006-01-02T15:04:05.000Z"

// readEvent reads the bytes of an event with a number. The error says in a few
// words, without any of them, why they cannot be read.
func readEvent(seq uint64, b []byte) (e event, err error) {
	if !utf8.Valid(b) {
		return e, errors.New("not UTF-8")
	}
	if err := json.Unmarshal(b, &e); err != nil {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return e, errors.New("not JSON")
		}
		return e, errors.New("a member is not of its type")
	}
	if e.Seq != seq {
		return e, fmt.Errorf("it says that it is event %d", e.Seq)
	}
	at, err := time.Parse(instantFormat, e.At)
	if err != nil {
		return e, errors.New("its instant is not one")
	}
	e.at = at.UnixMilli()
	if !slices.Contains(kinds[:], e.Kind) {
		return e, errors.New("its kind is unknown")
	}
	if e.Reservation >= seq {
		return e, errors.New("it is about a later event")
	}
	for _, s := range []string{e.Gate, e.Entitlement, e.Zone} {
		if len(s) > maxText || strings.ContainsRune(s, 0) { // which PostgreSQL keeps in no text
			return e, errors.New("a name is too long, or holds a NUL")
		}
	}
	return e, nil
}

// plain is text that every engine keeps.
func plain(s string) string { return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD") }
