package upload

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// An Ack says what a hub holds of a journal: every event up to Through, durably,
// but those that retention had deleted before it came to hear of them.
type Ack struct {
	Terminal, Scope string
	Incarnation     Incarnation
	Through         uint64 // 0: nothing
	Hash            Hash   // of that event; of nothing, FirstHash
	At              time.Time
}

type wireAck struct {
	Version     uint64 `cbor:"0,keyasint"`
	Terminal    string `cbor:"1,keyasint"`
	Scope       string `cbor:"2,keyasint"`
	Incarnation []byte `cbor:"3,keyasint"`
	Through     uint64 `cbor:"4,keyasint"`
	Hash        []byte `cbor:"5,keyasint"`
	At          int64  `cbor:"6,keyasint"` // Unix milliseconds
}

var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

// Sign signs an acknowledgement by the hub's key.
func (a Ack) Sign(signer crypto.Signer) ([]byte, error) {
	payload, err := codec.Marshal(wireAck{version, a.Terminal, a.Scope, a.Incarnation[:], a.Through, a.Hash[:], a.At.UnixMilli()})
	if err == nil {
		payload, err = sign1.Sign(rand.Reader, sign1.RoleAck, signer, payload)
	}
	if err != nil {
		return nil, fmt.Errorf("signing an acknowledgement: %w", err)
	}
	return payload, nil
}

// Keys are the public keys (SubjectPublicKeyInfo) that acknowledge for a scope, as
// a terminal is told them when it enrols.
func Keys(scope string, public [][]byte) (sign1.Keys, error) {
	all := make([]sign1.Key, len(public))
	for i, spki := range public {
		k, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			return sign1.Keys{}, fmt.Errorf("key %d for acknowledgements: %w", i+1, err)
		}
		all[i] = sign1.Key{Public: k, Role: sign1.RoleAck, Scope: scope}
	}
	keys, err := sign1.NewKeys(all...)
	if err != nil {
		return sign1.Keys{}, fmt.Errorf("keys for acknowledgements: %w", err)
	}
	return keys, nil
}

// VerifyAck reads an acknowledgement that a key for sign1.RoleAck and the scope in
// it has signed.
func VerifyAck(keys sign1.Keys, message []byte) (Ack, error) {
	payload, err := keys.Verify(sign1.RoleAck, message)
	if err != nil {
		return Ack{}, fmt.Errorf("acknowledgement: %w", err)
	}
	var w wireAck
	if err := codec.UnmarshalVersion(payload.Bytes(), &w, version); err != nil {
		return Ack{}, fmt.Errorf("acknowledgement: %w", err)
	}
	if again, err := codec.Marshal(w); err != nil || !bytes.Equal(again, payload.Bytes()) ||
		len(w.Incarnation) != len(Incarnation{}) || len(w.Hash) != len(Hash{}) {
		return Ack{}, errors.New("acknowledgement: not in the one form")
	}
	if w.Scope != payload.Scope() {
		return Ack{}, fmt.Errorf("acknowledgement: it is of scope %q, its key is that of %q", w.Scope, payload.Scope())
	}
	return Ack{w.Terminal, w.Scope, Incarnation(w.Incarnation), w.Through, Hash(w.Hash), time.UnixMilli(w.At).UTC()}, nil
}

// A Code says why a hub did not take a batch.
type Code string

// Codes. Full and Unavailable pass by themselves; the others want people.
const (
	Malformed   Code = "malformed"   // not a batch
	TooLarge    Code = "too_large"   // more than MaxBatch bytes
	Unknown     Code = "version"     // a batch of a version that the hub does not know
	Foreign     Code = "foreign"     // of another terminal or scope than sent it
	Clone       Code = "clone"       // the hub holds other events of this journal: it was copied or restored
	Full        Code = "full"        // the hub has no room
	Unavailable Code = "unavailable" // the hub cannot write, or sign, now
)

// A Refusal is the answer of a hub that acknowledges nothing. It is an error.
type Refusal struct {
	Version int    `json:"version"`
	Code    Code   `json:"code"`
	Message string `json:"message"`       // for people, in English
	Seq     uint64 `json:"seq,omitempty"` // of a clone: the first event that is known to differ
	Retry   bool   `json:"retry"`         // the same batch may be taken later
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("refused by the hub (%s): %s", r.Code, r.Message)
}

// Refuse makes a refusal.
func Refuse(code Code, message string) *Refusal {
	return &Refusal{Version: version, Code: code, Message: message, Retry: code == Full || code == Unavailable}
}

// Encode gives its bytes: JSON, which no acknowledgement begins like.
func (r *Refusal) Encode() []byte {
	b, err := json.Marshal(r)
	if err != nil { // it has only strings, numbers and a bool
		panic(err)
	}
	return b
}

// maxReply bounds an answer in bytes.
const maxReply = 4096

// parseReply reads the answer to a batch. A Refusal is the error.
func parseReply(keys sign1.Keys, reply []byte) (Ack, error) {
	if len(reply) > maxReply {
		return Ack{}, fmt.Errorf("the hub's answer has %d bytes, at most %d are allowed", len(reply), maxReply)
	}
	if len(reply) == 0 || reply[0] != '{' {
		return VerifyAck(keys, reply)
	}
	r := new(Refusal)
	if err := json.Unmarshal(reply, r); err != nil {
		return Ack{}, fmt.Errorf("the hub's answer: %w", err)
	}
	if r.Version != version {
		return Ack{}, fmt.Errorf("the hub's answer is of version %d, this program knows %d", r.Version, version)
	}
	return Ack{}, r
}
