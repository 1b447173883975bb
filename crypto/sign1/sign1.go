// Package sign1 signs and verifies COSE_Sign1 messages (RFC 9052 §4.2) for named
// roles.
//
// It promises:
//
//   - A [Payload] exists only because a signature over it was verified, by a key
//     trusted for the role and scope it names.
//   - A signature made for one role is worth nothing for another: the role is
//     the external_aad of the Sig_structure (RFC 9052 §4.4).
//   - The key decides the algorithm, among EdDSA (Ed25519), ES256 (P-256) and
//     ES384 (P-384); the header has to agree (RFC 9053 §2.1 and §2.2).
//   - Exactly one form of message is accepted: tag 18, a protected header of alg
//     and kid in deterministic encoding, an empty unprotected header, an embedded
//     payload, definite lengths. The signature is verified over the bytes that
//     were received.
//
// The kid is the SHA-256 of the key's SubjectPublicKeyInfo in DER (RFC 5280
// §4.1.2.7), all 32 bytes.
package sign1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 of ES384
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/veraison/go-cose"
)

// MaxSize is the longest message Sign makes and Verify reads, in bytes.
const MaxSize = 64 << 10

// Errors of Verify.
var (
	// ErrMalformed: not the one form of message this package accepts.
	ErrMalformed = errors.New("malformed COSE_Sign1 message")
	// ErrUnknownKey: no trusted key has the message's kid.
	ErrUnknownKey = errors.New("signed by an unknown key")
	// ErrRole: the key is trusted, for another role.
	ErrRole = errors.New("signed by a key of another role")
	// ErrSignature: the signature does not verify with the key.
	ErrSignature = errors.New("wrong signature")
)

// A Role is what a signature is for.
type Role string

// Roles.
const (
	RoleList         Role = "list"         // lists of one scope
	RoleRegistration Role = "registration" // records of registrations in one scope, by the terminal that read the card
	RoleCheckpoint   Role = "checkpoint"   // heads of journals in one scope, by the terminal that keeps the journal
	RoleCeremony     Role = "ceremony"     // transcripts of key ceremonies, by the terminal that held one
	RoleRoot         Role = "root"         // delegations of the roles of hubs, by offline keys
	RoleLease        Role = "lease"        // scope keys for terminals of one scope, by its hub
	RoleCommand      Role = "command"      // commands to terminals of one scope
	RoleAck          Role = "ack"          // what a hub holds of the journals of one scope
)

// externalAAD separates the roles from each other and from every other use of a key.
func (r Role) externalAAD() []byte { return []byte("gate-agent/" + string(r) + "/v1") }

// A Key is a public key and what it is trusted for.
type Key struct {
	Public crypto.PublicKey // ed25519.PublicKey, or *ecdsa.PublicKey on P-256 or P-384
	Role   Role
	Scope  string // whom it may sign for

	// Signer names who holds the key, such as a terminal, where more than one
	// may sign for a role and scope and it matters which one did.
	Signer string
}

// Keys is a set of trusted keys. The zero value trusts nobody.
type Keys struct {
	byID map[[32]byte]trusted
}

type trusted struct {
	Key
	verifier cose.Verifier
}

// NewKeys returns a set of trusted keys. One key has one role and one scope:
// given twice, it is refused.
func NewKeys(keys ...Key) (Keys, error) {
	byID := make(map[[32]byte]trusted, len(keys))
	for i, k := range keys {
		if k.Role == "" || k.Scope == "" {
			return Keys{}, fmt.Errorf("key %d has no role or no scope", i+1)
		}
		alg, err := algorithm(k.Public)
		if err != nil {
			return Keys{}, fmt.Errorf("key %d: %w", i+1, err)
		}
		id, err := KeyID(k.Public)
		if err != nil {
			return Keys{}, fmt.Errorf("key %d: %w", i+1, err)
		}
		if _, twice := byID[id]; twice {
			return Keys{}, fmt.Errorf("key %d is given twice: a key has one role and one scope", i+1)
		}
		v, err := cose.NewVerifier(alg, k.Public)
		if err != nil {
			return Keys{}, fmt.Errorf("key %d: %w", i+1, err)
		}
		byID[id] = trusted{k, v}
	}
	return Keys{byID}, nil
}

// A Payload is verified content. The zero Payload has no role.
type Payload struct {
	bytes  []byte
	role   Role
	scope  string
	signer string
	kid    [32]byte
}

// Bytes returns a copy of the content.
func (p Payload) Bytes() []byte { return bytes.Clone(p.bytes) }

// Role returns the role it was signed for.
func (p Payload) Role() Role { return p.role }

// Scope returns the scope its key may sign for.
func (p Payload) Scope() string { return p.scope }

// KeyID returns the kid of the key that signed it.
func (p Payload) KeyID() [32]byte { return p.kid }

// Signer returns the name of who holds its key, "" when the key has none.
func (p Payload) Signer() string { return p.signer }

// Verify returns the payload of a message that a key trusted for role signed
// for role. Its errors are the four of this package, wrapped.
func (k Keys) Verify(role Role, msg []byte) (Payload, error) {
	m, h, err := parse(msg)
	if err != nil {
		return Payload{}, err
	}
	key, ok := k.byID[h.kid]
	if !ok {
		return Payload{}, fmt.Errorf("%w, kid %x", ErrUnknownKey, h.kid[:8])
	}
	if key.Role != role {
		return Payload{}, fmt.Errorf("%w: kid %x is for %q, not %q", ErrRole, h.kid[:8], key.Role, role)
	}
	if key.verifier.Algorithm() != h.alg {
		return Payload{}, fmt.Errorf("%w: algorithm %v, the key's is %v", ErrMalformed, h.alg, key.verifier.Algorithm())
	}
	if err := m.Verify(role.externalAAD(), key.verifier); err != nil {
		return Payload{}, fmt.Errorf("%w, kid %x", ErrSignature, h.kid[:8])
	}
	return Payload{bytes.Clone(m.Payload), key.Role, key.Scope, key.Signer, h.kid}, nil
}

// UnverifiedPayload returns the content of a message whose signature nobody has
// looked at: to show it, never to act on it.
func UnverifiedPayload(msg []byte) ([]byte, error) {
	m, _, err := parse(msg)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(m.Payload), nil
}

// Sign returns a COSE_Sign1 message over payload for role.
//
// The signer's key is Ed25519, ECDSA P-256 or ECDSA P-384; rand is handed to it.
// When rand is nil, keys of the standard library sign deterministically: Ed25519
// always does, ECDSA then follows RFC 6979.
func Sign(rand io.Reader, role Role, signer crypto.Signer, payload []byte) ([]byte, error) {
	if role == "" {
		return nil, errors.New("signing for no role")
	}
	alg, err := algorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	kid, err := KeyID(signer.Public())
	if err != nil {
		return nil, err
	}
	s, err := cose.NewSigner(alg, hashed{signer, hashes[alg]})
	if err != nil {
		return nil, fmt.Errorf("preparing the signer: %w", err)
	}
	if payload == nil {
		payload = []byte{} // nil would be a detached payload
	}
	m := cose.Sign1Message{Headers: header{alg, kid}.cose(), Payload: payload}
	if err := m.Sign(rand, role.externalAAD(), s); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	msg, err := m.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("encoding COSE_Sign1: %w", err)
	}
	if len(msg) > MaxSize {
		return nil, fmt.Errorf("a signed message of %d bytes is too long, at most %d are allowed", len(msg), MaxSize)
	}
	return msg, nil
}

// KeyID returns the kid of a public key.
func KeyID(pub crypto.PublicKey) ([32]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encoding public key: %w", err)
	}
	return sha256.Sum256(der), nil
}

// ParsePublicKey reads one PEM block "PUBLIC KEY" holding a SubjectPublicKeyInfo
// (RFC 7468 §13) of a key this package can verify with, and nothing behind it.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New(`no PEM block "PUBLIC KEY" found`)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("text behind the public key: one key in one file")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing public key: %w", err)
	}
	if _, err := algorithm(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// MarshalPublicKey returns what ParsePublicKey reads.
func MarshalPublicKey(pub crypto.PublicKey) ([]byte, error) {
	if _, err := algorithm(pub); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// hashes is the algorithm allow-list; Ed25519 hashes by itself.
var hashes = map[cose.Algorithm]crypto.Hash{
	cose.AlgorithmEdDSA: 0,
	cose.AlgorithmES256: crypto.SHA256,
	cose.AlgorithmES384: crypto.SHA384,
}

// algorithm returns the one algorithm a key is used with.
func algorithm(pub crypto.PublicKey) (cose.Algorithm, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return cose.AlgorithmEdDSA, nil
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return cose.AlgorithmES256, nil
		case elliptic.P384():
			return cose.AlgorithmES384, nil
		}
	}
	return 0, fmt.Errorf("a key of type %T cannot be used: Ed25519, ECDSA P-256 and P-384 can", pub)
}

// hashed is a signer that is always told its hash. go-cose passes no options
// for ECDSA, and signers in hardware call opts.HashFunc.
type hashed struct {
	crypto.Signer
	hash crypto.Hash
}

func (h hashed) Sign(rand io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return h.Signer.Sign(rand, digest, h.hash)
}
