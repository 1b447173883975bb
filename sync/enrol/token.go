package enrol

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// A Token lets one terminal enrol once, and tells it which hub to trust. Whoever has
// it first is that terminal: hand it over as a key is handed over.
type Token struct {
	Address  string            // of the hub: https://HOST:PORT
	CA       [sha256.Size]byte // SHA-256 of the certificate that vouches for the hub's server, in DER
	Scope    string            // 1 to 64 bytes
	Terminal string            // its name, 1 to 64 bytes
	Secret   [SecretSize]byte
	Expires  time.Time // the hub decides, by its own clock
}

// SecretSize is how many random bytes a token has: nobody guesses them.
const SecretSize = 16

// tokenPrefix begins a token and has its version.
const tokenPrefix = "gate1."

// MaxToken bounds a token in bytes.
const MaxToken = 1024

// ErrToken says that a text is no token, or was not copied whole.
var ErrToken = errors.New("no enrolment token, or one that was not copied whole: it is one line that begins with " + tokenPrefix)

type tokenBody struct {
	_        struct{} `cbor:",toarray"`
	Address  string
	CA       []byte
	Scope    string
	Terminal string
	Secret   []byte
	Expires  uint64
}

func codec() strictcbor.Codec {
	return strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})
}

// checkSize is how many bytes of SHA-256 end a token, against mistakes of copying.
const checkSize = 4

// NewSecret is the secret of a new token.
func NewSecret() (s [SecretSize]byte) {
	rand.Read(s[:])
	return s
}

// Text is the token in one line without its end. The error is about an address or
// names that ParseToken would refuse.
func (t Token) Text() (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	body, err := codec().Marshal(tokenBody{
		Address: t.Address, CA: t.CA[:], Scope: t.Scope, Terminal: t.Terminal, Secret: t.Secret[:], Expires: strictcbor.Seconds(t.Expires),
	})
	if err != nil {
		return "", fmt.Errorf("writing a token: %w", err)
	}
	sum := sha256.Sum256(body)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(body, sum[:checkSize]...)), nil
}

// ParseToken reads what Text wrote; white space around it does not count. The error
// is ErrToken and holds nothing of the text.
func ParseToken(text string) (t Token, err error) {
	coded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok || len(text) > MaxToken {
		return t, ErrToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(coded)
	if err != nil || len(b) < checkSize {
		return t, ErrToken
	}
	body, check := b[:len(b)-checkSize], b[len(b)-checkSize:]
	sum := sha256.Sum256(body)
	var in tokenBody
	if !bytes.Equal(sum[:checkSize], check) || codec().Unmarshal(body, &in) != nil || len(in.CA) != len(t.CA) || len(in.Secret) != len(t.Secret) {
		return t, ErrToken
	}
	t = Token{Address: in.Address, Scope: in.Scope, Terminal: in.Terminal, Expires: strictcbor.Time(in.Expires)}
	copy(t.CA[:], in.CA)
	copy(t.Secret[:], in.Secret)
	if again, err := t.Text(); err != nil || again != strings.TrimSpace(text) {
		return Token{}, ErrToken
	}
	return t, nil
}

func (t Token) check() error {
	if err := checkAddress(t.Address); err != nil {
		return err
	}
	for what, name := range map[string]string{"scope": t.Scope, "terminal": t.Terminal} {
		if err := strictcbor.CheckText(name, 1, maxName); err != nil {
			return fmt.Errorf("%s %w", what, err)
		}
	}
	return strictcbor.CheckTime(t.Expires)
}

// maxName bounds the name of a scope or a terminal, in bytes.
const maxName = 64

// checkAddress wants https://HOST:PORT or https://HOST, and nothing behind it.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || address != "https://"+u.Host || len(address) > 300 {
		return errors.New("the hub's address is not https://HOST:PORT")
	}
	return nil
}
