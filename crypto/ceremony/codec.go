package ceremony

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// The wire form of docs/key-ceremony.md. Decoding is strict, and what was decoded
// is encoded again and compared: one value has one encoding (RFC 8949 §4.2.1).

const version = 1

type wireTranscript struct {
	Version    uint64       `cbor:"0,keyasint"`
	Terminal   string       `cbor:"1,keyasint"`
	Scope      string       `cbor:"2,keyasint"`
	Hierarchy  string       `cbor:"3,keyasint"`
	Program    string       `cbor:"4,keyasint"`
	Begun      uint64       `cbor:"5,keyasint"`
	Ended      uint64       `cbor:"6,keyasint"`
	People     []wirePerson `cbor:"7,keyasint"`
	Purpose    string       `cbor:"8,keyasint"`
	Medium     string       `cbor:"9,keyasint"`
	Custody    string       `cbor:"10,keyasint"`
	KeyType    string       `cbor:"11,keyasint"`
	SPKI       []byte       `cbor:"12,keyasint"`
	KCV        string       `cbor:"13,keyasint"`
	Exportable bool         `cbor:"14,keyasint"`
	Nonce      [32]byte     `cbor:"15,keyasint"`
	Steps      []wireStep   `cbor:"16,keyasint"`
	Proof      []byte       `cbor:"17,keyasint,omitempty"` // absent from what it signs
}

type wirePerson struct {
	Name string `cbor:"1,keyasint"`
	Role string `cbor:"2,keyasint"`
}

type wireStep struct {
	What   string `cbor:"1,keyasint"`
	At     uint64 `cbor:"2,keyasint"`
	Person uint64 `cbor:"3,keyasint,omitempty"`
	Tries  uint64 `cbor:"4,keyasint,omitempty"`
}

// codec: a transcript holds arrays of maps.
var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 18})

// decode reads a whole transcript, with its proof. The proof is not verified.
func decode(b []byte) (Transcript, error) {
	var w wireTranscript
	if err := codec.UnmarshalVersion(b, &w, version); err != nil {
		return Transcript{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if n := len(w.Proof); n < 1 || n > 512 {
		return Transcript{}, fmt.Errorf("%w: proof of %d bytes, allowed are 1 to 512", ErrMalformed, n)
	}
	if len(w.People) != 2 {
		return Transcript{}, fmt.Errorf("%w: %d people, want 2", ErrMalformed, len(w.People))
	}
	public, err := x509.ParsePKIXPublicKey(w.SPKI)
	if err != nil {
		return Transcript{}, fmt.Errorf("%w: public key: %v", ErrMalformed, err)
	}
	t := Transcript{
		Terminal: w.Terminal, Scope: w.Scope, Hierarchy: w.Hierarchy, Program: w.Program,
		Begun: instant(w.Begun), Ended: instant(w.Ended),
		Purpose: keystore.Purpose(w.Purpose), Medium: w.Medium, Custody: w.Custody, Exportable: w.Exportable,
		Public: public, Nonce: w.Nonce, proof: w.Proof,
	}
	for i, p := range w.People {
		t.People[i] = Person{p.Name, Role(p.Role)}
	}
	for _, s := range w.Steps {
		t.Steps = append(t.Steps, Step{Action(s.What), instant(s.At), small(s.Person), small(s.Tries)})
	}
	again, err := t.encode()
	if err != nil {
		return Transcript{}, err
	}
	if !bytes.Equal(again, b) { // type and check value that are not the key's, too
		return Transcript{}, fmt.Errorf("%w: not in deterministic encoding, or type or check value are not those of the key", ErrMalformed)
	}
	return t, nil
}

// encode checks and encodes t, without a proof where it has none.
func (t Transcript) encode() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	w := wireTranscript{
		Version: version, Terminal: t.Terminal, Scope: t.Scope, Hierarchy: t.Hierarchy, Program: t.Program,
		Begun: millis(t.Begun), Ended: millis(t.Ended),
		Purpose: string(t.Purpose), Medium: t.Medium, Custody: t.Custody, KeyType: string(t.KeyType()),
		SPKI: t.spki(), KCV: t.KCV(), Exportable: t.Exportable, Nonce: t.Nonce, Proof: t.proof,
	}
	for _, p := range t.People {
		w.People = append(w.People, wirePerson{p.Name, string(p.Role)})
	}
	for _, s := range t.Steps {
		w.Steps = append(w.Steps, wireStep{string(s.What), millis(s.At), uint64(s.Person), uint64(s.Tries)})
	}
	return codec.Marshal(w)
}

// lastMilli is the last one RFC 3339 can write, 9999-12-31T23:59:59.999Z.
const lastMilli = 253402300799999

func millis(t time.Time) uint64 { return uint64(t.UnixMilli()) }

// instant is beyond what check allows when ms is.
func instant(ms uint64) time.Time { return time.UnixMilli(int64(min(ms, lastMilli+1))).UTC() }

// small keeps what check refuses a number that check refuses.
func small(n uint64) int { return int(min(n, 1000)) }

// Check checks what is known before anybody comes: where the ceremony is held, and
// for what.
func (t Transcript) Check() error {
	for _, f := range []struct {
		name, text string
		most       int
	}{
		{"terminal", t.Terminal, 64}, {"scope", t.Scope, 64}, {"program version", t.Program, 128},
		{"medium", t.Medium, 32}, {"custody", t.Custody, 256},
	} {
		if err := checkText(f.name, f.text, 1, f.most); err != nil {
			return err
		}
	}
	if t.Hierarchy != Production && t.Hierarchy != Test {
		return fmt.Errorf("%w: hierarchy is neither %q nor %q", ErrMalformed, Production, Test)
	}
	switch t.Purpose {
	case keystore.ExternalAuth, keystore.Identity, keystore.Checkpoint:
		return nil
	}
	return fmt.Errorf("%w: it is for no purpose of a terminal's key", ErrMalformed)
}

// check enforces what docs/key-ceremony.md says of the form.
func (t Transcript) check() error {
	if err := t.Check(); err != nil {
		return err
	}
	if _, err := keystore.TypeOf(t.Public); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	for i, role := range []Role{Operator, Witness} {
		if err := CheckName(t.People[i].Name); err != nil {
			return err
		}
		if t.People[i].Role != role {
			return fmt.Errorf("%w: person %d is not the %s", ErrMalformed, i+1, role)
		}
	}
	if SameName(t.People[0].Name, t.People[1].Name) {
		return fmt.Errorf("%w: both people have one name", ErrMalformed)
	}
	return t.checkSteps()
}

// checkSteps wants the one course, at instants that do not go back.
func (t Transcript) checkSteps() error {
	order := course()
	if len(t.Steps) != len(order) {
		return fmt.Errorf("%w: %d steps, want %d", ErrMalformed, len(t.Steps), len(order))
	}
	before := t.Begun
	if ms := before.UnixMilli(); ms <= 0 {
		return fmt.Errorf("%w: it began before 1970", ErrMalformed)
	}
	for i, s := range t.Steps {
		typed := s.What == Confirmed
		switch {
		case s.What != order[i].What || s.Person != order[i].Person:
			return fmt.Errorf("%w: step %d is not %q", ErrMalformed, i+1, order[i].What)
		case typed && (s.Tries < 1 || s.Tries > MaxTries) || !typed && s.Tries != 0:
			return fmt.Errorf("%w: step %d took %d tries", ErrMalformed, i+1, s.Tries)
		case s.At.Before(before):
			return fmt.Errorf("%w: step %d is before the one before it", ErrMalformed, i+1)
		}
		before = s.At
	}
	if t.Ended.Before(before) || t.Ended.UnixMilli() > lastMilli {
		return fmt.Errorf("%w: it ended before its last step, or after 9999", ErrMalformed)
	}
	return nil
}

func checkText(what, s string, least, most int) error {
	if err := strictcbor.CheckText(s, least, most); err != nil {
		return fmt.Errorf("%w: the %s %w", ErrMalformed, what, err)
	}
	return nil
}
