// Package ceremony is the transcript of a key ceremony: of a terminal's key that
// was made on its medium before two people, and its verification by whoever
// certifies or takes the key.
//
// It promises that a [Transcript] which Verify returns was signed by the identity
// key that the caller trusts, that the key it tells of signed what it says (proof
// of possession), and that the check value is that key's. What rests on the word
// of the terminal and of the two people alone is said in docs/key-ceremony.md:
// that there were two, that they are who they say, and that the key was made where
// the transcript says.
//
// A transcript holds names of people, and no secret.
package ceremony

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// A Transcript is what happened. Sign makes a message of it, Verify gives it back.
type Transcript struct {
	Terminal  string // who held the ceremony
	Scope     string
	Hierarchy string // Production or Test
	Program   string // its version

	Begun, Ended time.Time // in whole milliseconds, as all instants
	People       [2]Person

	Purpose    keystore.Purpose // ExternalAuth, Identity or Checkpoint
	Medium     string           // scheme of the key's URI
	Custody    string           // what the medium protects against, a sentence
	Exportable bool             // the medium gave the private key out when it was tried

	Public crypto.PublicKey // of the key that was made
	Nonce  [32]byte         // makes the proof of possession one of this ceremony
	Steps  []Step           // in their one order

	proof []byte
}

// A Person is one of the two. That it is another one than the other is what they
// say.
type Person struct {
	Name string // as CleanName leaves it
	Role Role
}

// A Role is what a person does in a ceremony.
type Role string

// Roles, in the order of Transcript.People.
const (
	Operator Role = "operator" // gave the command
	Witness  Role = "witness"
)

// A Step is something that was done, at its end.
type Step struct {
	What   Action
	At     time.Time
	Person int // who did it, 1 or 2; 0 is the program
	Tries  int // how often a check value was typed, 1 to MaxTries; 0 for what is not typed
}

// An Action is what a step did.
type Action string

// Actions.
const (
	Named       Action = "named"        // both have typed their names
	Generated   Action = "generated"    // the medium made the key
	Confirmed   Action = "confirmed"    // a person has typed the key's check value
	TestSigned  Action = "test-signed"  // the key, opened anew, made a signature that verifies
	ExportTried Action = "export-tried" // the program tried to take the private key out
)

// course is the one order of steps, by their What and Person.
func course() []Step {
	return []Step{{What: Named}, {What: Generated}, {What: Confirmed, Person: 1}, {What: Confirmed, Person: 2}, {What: TestSigned}, {What: ExportTried}}
}

// MaxTries is how often a person may type a check value.
const MaxTries = 3

// Hierarchies of a transcript.
const (
	Production = "production"
	Test       = "test"
)

// Errors of Verify, beside those of package sign1.
var (
	// ErrMalformed: not a transcript of this version, or not encoded in the one way.
	ErrMalformed = errors.New("malformed key ceremony transcript")
	// ErrProof: the key that it tells of has not signed it.
	ErrProof = errors.New("no proof of possession of the key")
)

// KeyType is the type of the key that was made, "" when there is none.
func (t Transcript) KeyType() keystore.KeyType {
	kt, _ := keystore.TypeOf(t.Public)
	return kt
}

// KCV is the key's check value, "" when there is no key.
func (t Transcript) KCV() string {
	kcv, _ := keystore.KCV(t.Public)
	return kcv
}

// CleanName brings a name to its one form: single spaces inside and none around it.
func CleanName(name string) string { return strings.Join(strings.Fields(name), " ") }

// CheckName checks a name that CleanName gave: 1 to 64 printable characters.
func CheckName(name string) error {
	if name != CleanName(name) {
		return fmt.Errorf("%w: the name has spaces around it, or several in a row", ErrMalformed)
	}
	if n := len([]rune(name)); n < 1 || n > 64 {
		return fmt.Errorf("%w: the name has %d characters, allowed are 1 to 64", ErrMalformed, n)
	}
	return checkText("name", name, 1, 256)
}

// SameName reports whether two names are one, whatever their letters' case.
func SameName(a, b string) bool { return strings.EqualFold(CleanName(a), CleanName(b)) }

// Sign has the new key prove that it is there, over all that t says, and the
// identity key of the terminal sign the whole. What it returns verifies.
func Sign(identity, key crypto.Signer, t Transcript) ([]byte, error) {
	if t.Public == nil || !keystore.SameKey(t.Public, key.Public()) {
		return nil, errors.New("signing a key ceremony transcript: it is of another key")
	}
	t.proof = nil
	content, err := t.encode()
	if err != nil {
		return nil, err
	}
	if t.proof, err = keystore.SignMessage(key, proofMessage(content)); err != nil {
		return nil, fmt.Errorf("proving possession of the key: %w", err)
	}
	payload, err := t.encode()
	if err != nil {
		return nil, err
	}
	msg, err := sign1.Sign(nil, sign1.RoleCeremony, identity, payload)
	if err != nil {
		return nil, fmt.Errorf("signing a key ceremony transcript: %w", err)
	}
	if _, err := Verify(identity.Public(), msg); err != nil {
		return nil, fmt.Errorf("verifying what was signed: %w", err)
	}
	return msg, nil
}

// proofMessage is what the new key signs: no other use of it begins like this.
func proofMessage(content []byte) []byte {
	return append([]byte("gate-agent/ceremony-proof/v1\x00"), content...)
}

// Verify returns the transcript that signer signed, the identity key of a terminal.
// Whose key it is, and so which terminal and scope the transcript may name, is
// known to the caller, who compares. The errors are those of this package and of
// sign1, wrapped.
func Verify(signer crypto.PublicKey, msg []byte) (Transcript, error) {
	// The key may sign for whatever its terminal serves: the scope is compared by
	// the caller.
	keys, err := sign1.NewKeys(sign1.Key{Public: signer, Role: sign1.RoleCeremony, Scope: "*"})
	if err != nil {
		return Transcript{}, fmt.Errorf("key ceremony transcript: %w", err)
	}
	payload, err := keys.Verify(sign1.RoleCeremony, msg)
	if err != nil {
		return Transcript{}, fmt.Errorf("key ceremony transcript: %w", err)
	}
	t, err := decode(payload.Bytes())
	if err != nil {
		return Transcript{}, err
	}
	if keystore.SameKey(t.Public, signer) {
		return Transcript{}, fmt.Errorf("%w: the key that was made has signed it as the terminal's", ErrMalformed)
	}
	proof := t.proof
	t.proof = nil
	content, err := t.encode()
	if err != nil {
		return Transcript{}, err
	}
	if err := keystore.VerifyMessage(t.Public, proofMessage(content), proof); err != nil {
		return Transcript{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	t.proof = proof
	return t, nil
}

// spki is the SubjectPublicKeyInfo in DER of the key that was made (RFC 5280
// §4.1.2.7), nil when there is none.
func (t Transcript) spki() []byte {
	der, err := x509.MarshalPKIXPublicKey(t.Public)
	if err != nil {
		return nil
	}
	return der
}
