// Package enrol makes a terminal one that its hub knows, and keeps it so: a one-time
// token, a certificate for its identity key, and that renewed in time. The private key
// never leaves its medium. docs/enrolment.md has the protocol, which is a promise.
//
//	terminal                                     hub
//	   │ ── TLS 1.3, hub shows its authority ──▶  │   another one: not a byte more
//	   │ ── secret, names, request, delivery ──▶  │   POST /enrol/v1
//	   │ ◀── 202 waiting: fingerprint ──────────  │   until somebody approves
//	   │ ◀── 200 certificate, authority, hub ───  │
//	   │ ── request, by the certificate's key ─▶  │   POST /enrol/v1/renew, at two thirds
//
// It promises that the terminal sends nothing secret to whoever does not show the
// authority that its token names, and that the certificate it takes over is for its own
// key and name, by that authority.
package enrol

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Where a hub answers, below its address.
const (
	Path      = "/enrol/v1"
	RenewPath = "/enrol/v1/renew"
)

// Version is that of the bodies.
const Version = 1

// Bounds of a body, in bytes.
const (
	MaxRequest = 16 << 10
	MaxAnswer  = 128 << 10
)

// A Request asks for a certificate. Without a secret it is a renewal, and only CSR
// counts.
type Request struct {
	Version  int    `json:"version"`
	Secret   []byte `json:"secret,omitempty"`
	Scope    string `json:"scope,omitempty"`
	Terminal string `json:"terminal,omitempty"`
	CSR      []byte `json:"csr"`                // PKCS #10 (RFC 2986) in DER, signed by the identity key
	Delivery []byte `json:"delivery,omitempty"` // public key of X25519, SubjectPublicKeyInfo in DER
}

// An Answer is what became of a request.
type Answer struct {
	Version     int    `json:"version"`
	Waiting     bool   `json:"waiting,omitempty"` // somebody has to approve these keys: ask again
	Fingerprint string `json:"fingerprint,omitempty"`

	Certificate string `json:"certificate,omitempty"` // PEM
	CA          string `json:"ca,omitempty"`          // PEM, one or more
	Hub         *Hub   `json:"hub,omitempty"`
}

// A Refusal is an answer that is none: a code for programs, words for people.
type Refusal struct {
	Version int    `json:"version"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (r *Refusal) Error() string { return fmt.Sprintf("the hub refuses: %s (%s)", r.Message, r.Code) }

// A Code is why a hub refuses.
type Code string

// The codes of refusals. Others may come; they are refusals too.
const (
	Malformed  Code = "malformed"   // the body is none of this version
	BadVersion Code = "version"     // the hub does not know the version
	NoToken    Code = "token"       // no token has this secret for this terminal
	TokenEnded Code = "token_ended" // its time is over
	TokenUsed  Code = "token_used"  // other keys came with it before
	BadRequest Code = "request"     // the certificate request or a key is none
	BadKeys    Code = "keys"        // the keys cannot be those of this terminal
	Unknown    Code = "unknown"     // no terminal in force has this key
	Busy       Code = "busy"        // too much is asked
	Failed     Code = "failed"      // the hub has a problem of its own
)

// A Hub is what a terminal knows of its hub.
type Hub struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	HTTPS    string   `json:"https"` // https://HOST:PORT
	NATS     []string `json:"nats"`  // tls://HOST:PORT; none where the hub has none
	Scope    string   `json:"scope"`
	Terminal string   `json:"terminal"`
	AckKeys  [][]byte `json:"ack_keys"` // SubjectPublicKeyInfo, of what acknowledges events
	Trust    Trust    `json:"trust"`
}

// Trust is whose signatures a terminal takes, where its configuration does not say: set
// when it enrols, by whoever handed out the token, and by no renewal. Keys are
// SubjectPublicKeyInfo in DER.
type Trust struct {
	Lists     [][]byte `json:"list_keys,omitempty"`
	Leases    [][]byte `json:"lease_keys,omitempty"`
	Commands  [][]byte `json:"command_keys,omitempty"`
	Root      [][]byte `json:"root_keys,omitempty"` // with these, none of the others
	Threshold int      `json:"threshold,omitempty"`
}

// maxKeys bounds the keys of a kind.
const maxKeys = 64

// check says what is wrong with a hub that somebody else wrote.
func (h Hub) check() error {
	switch {
	case h.Version != Version:
		return fmt.Errorf("version %d, this program knows %d", h.Version, Version)
	case h.Scope == "" || h.Terminal == "":
		return errors.New("it names no scope or no terminal")
	case len(h.Trust.Root) > 0 && (h.Trust.Threshold < 1 || h.Trust.Threshold > len(h.Trust.Root)):
		return errors.New("its threshold is none of its root keys")
	case max(len(h.Trust.Lists), len(h.Trust.Leases), len(h.Trust.Commands), len(h.Trust.Root)) > maxKeys:
		return fmt.Errorf("more than %d keys of a kind", maxKeys)
	}
	return checkAddress(h.HTTPS)
}

// Fingerprint is what people compare on both sides before they approve: of identity and
// delivery key together, 80 bits in groups of four hexadecimal digits. The delivery key
// may be none.
func Fingerprint(identity, delivery []byte) string {
	h := sha256.New()
	h.Write([]byte("gate-agent enrolment v1\x00"))
	a, b := sha256.Sum256(identity), sha256.Sum256(delivery)
	h.Write(a[:])
	h.Write(b[:])
	digits := strings.ToUpper(hex.EncodeToString(h.Sum(nil)[:10]))
	var groups []string
	for ; digits != ""; digits = digits[4:] {
		groups = append(groups, digits[:4])
	}
	return strings.Join(groups, "-")
}

// ErrMalformed says that a body is none.
var ErrMalformed = errors.New("malformed")

// ErrVersion says that a body is of a version that this program does not know.
var ErrVersion = errors.New("unknown version")

// ReadRequest reads a request strictly: one JSON object of version 1, no unknown
// members, at most MaxRequest bytes. The error is ErrMalformed or ErrVersion.
func ReadRequest(r io.Reader) (q Request, err error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxRequest+1))
	if err != nil {
		return q, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(b) > MaxRequest {
		return q, fmt.Errorf("%w: more than %d bytes", ErrMalformed, MaxRequest)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return q, ErrMalformed // the error may quote the secret
	}
	if v.Version != Version {
		return q, ErrVersion
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return Request{}, ErrMalformed
	}
	return q, nil
}

// readAnswer reads what a hub has answered with.
func readAnswer(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxAnswer+1))
	if err != nil {
		return err
	}
	if len(b) > MaxAnswer {
		return fmt.Errorf("%w answer: more than %d bytes", ErrMalformed, MaxAnswer)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w answer", ErrMalformed)
	}
	return nil
}
