// Package upload brings the journal of a terminal to its hub: every event once,
// in order, whatever is cut off in between.
//
// It promises that what the hub has not acknowledged counts as not sent, also
// after kill -9 and after a hub that lost its disk, and that a journal which is
// another than the hub knows (a clone, or one restored from a copy) is told and
// never mixed with it. docs/upload.md describes batches, acknowledgements and
// refusals; their version is a promise.
//
// Batch, Ack and Refusal are what goes over the wire, for both ends; an Uploader
// is the terminal's end.
package upload

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// version of batches, acknowledgements and refusals.
const version = 1

// Limits of a batch.
const (
	MaxBatch  = 256 << 10 // bytes
	MaxEvents = 256
	MaxEvent  = 192 << 10 // bytes of an event; a longer one is sent by its hash alone
	room      = 248 << 10 // bytes of the events of a batch: what a header leaves
	maxName   = 64        // bytes of a scope or a terminal
)

// A Hash is a link of a journal's chain (docs/journal.md).
type Hash = [sha256.Size]byte

// An Incarnation is the random name of a journal.
type Incarnation = [16]byte

// FirstHash is what the first event of a journal follows.
func FirstHash(id Incarnation) Hash {
	return sha256.Sum256(append([]byte("gate-agent journal start v1\x00"), id[:]...))
}

// NextHash is the hash of an event behind one whose hash is prev.
func NextHash(prev Hash, event []byte) Hash {
	h := sha256.New()
	h.Write([]byte("gate-agent journal event v1\x00"))
	h.Write(prev[:])
	h.Write(event)
	return Hash(h.Sum(nil))
}

// instantFormat is that of the journal: UTC, three decimals.
const instantFormat = "2006-01-02T15:04:05.000Z"

func instant(t time.Time) string { return t.UTC().Format(instantFormat) }

func parseInstant(s string) (time.Time, error) {
	t, err := time.Parse(instantFormat, s)
	if err == nil && instant(t) != s {
		err = fmt.Errorf("instant %q: want the form %s", s, instantFormat)
	}
	return t, err
}

// fixed reads hexadecimal of exactly len(to) bytes, in small letters.
func fixed(to []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(to) || hex.EncodeToString(b) != s {
		return fmt.Errorf("want %d hexadecimal digits", 2*len(to))
	}
	copy(to, b)
	return nil
}
