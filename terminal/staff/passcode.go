package staff

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Limits of a passcode, in bytes.
const (
	MinPasscode = 6
	MaxPasscode = 64
)

// A hash is a passcode as the roster has it, in the PHC string format:
//
//	$argon2id$v=19$m=19456,t=2,p=1$SALT$SUM
//
// with salt and sum in base64 without padding. Argon2id (RFC 9106) because a
// passcode is short and a roster is copied: each guess costs its memory. bcrypt
// was rejected: it needs 4 KiB a guess, and cuts a passcode off at 72 bytes, or
// at a zero byte.
type hash struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
	salt    []byte
	sum     []byte
}

const (
	algorithm = "argon2id"
	saltSize  = 16
	sumSize   = 32
)

// cost is the least that OWASP's password storage guidance names: a tenth of a
// second on a small ARM board.
var cost = hash{memory: 19456, passes: 2, threads: 1}

// Hash returns the text that stands for a passcode in a roster.
func Hash(passcode []byte) (string, error) {
	switch {
	case len(passcode) < MinPasscode || len(passcode) > MaxPasscode:
		return "", fmt.Errorf("a passcode has %d to %d bytes", MinPasscode, MaxPasscode)
	case !utf8.Valid(passcode):
		return "", errors.New("a passcode is UTF-8")
	}
	h := cost
	h.salt = make([]byte, saltSize)
	rand.Read(h.salt)
	h.sum = h.of(passcode)
	return h.String(), nil
}

// of is the sum of a passcode under the salt and the cost of h.
func (h hash) of(passcode []byte) []byte {
	return argon2.IDKey(passcode, h.salt, h.passes, h.memory, h.threads, sumSize)
}

// is reports whether h is that of the passcode.
func (h hash) is(passcode []byte) bool {
	return subtle.ConstantTimeCompare(h.of(passcode), h.sum) == 1
}

var encoding = base64.RawStdEncoding.Strict()

func (h hash) String() string {
	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s", algorithm, argon2.Version, h.memory, h.passes, h.threads,
		encoding.EncodeToString(h.salt), encoding.EncodeToString(h.sum))
}

var errHash = errors.New("the passcode is not what gate-agent staff passcode prints: run it and paste the whole line")

// parseHash reads what String writes, and nothing else.
func parseHash(text string) (h hash, err error) {
	var salt, sum string
	_, err = fmt.Sscanf(strings.ReplaceAll(text, "$", " "), " "+algorithm+" v=19 m=%d,t=%d,p=%d %s %s", &h.memory, &h.passes, &h.threads, &salt, &sum)
	if err != nil {
		return h, errHash
	}
	var saltErr, sumErr error
	h.salt, saltErr = encoding.DecodeString(salt)
	h.sum, sumErr = encoding.DecodeString(sum)
	if saltErr != nil || sumErr != nil || h.String() != text { // there is one way to write it
		return h, errHash
	}
	return h, h.check()
}

// check bounds what a guess costs, on both sides: a cheap one is soon found, and
// a dear one keeps the terminal from its work.
func (h hash) check() error {
	switch {
	case len(h.salt) != saltSize || len(h.sum) != sumSize:
		return errHash
	case h.memory < cost.memory || h.memory > 64<<10:
		return fmt.Errorf("the passcode's hash takes %d KiB, want %d to %d", h.memory, cost.memory, 64<<10)
	case h.passes < cost.passes || h.passes > 10:
		return fmt.Errorf("the passcode's hash has %d passes, want %d to 10", h.passes, cost.passes)
	case h.threads < 1 || h.threads > 4:
		return fmt.Errorf("the passcode's hash has %d threads, want 1 to 4", h.threads)
	}
	return nil
}
