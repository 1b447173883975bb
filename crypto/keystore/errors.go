package keystore

import (
	"crypto"
	"errors"
	"fmt"
)

// Errors that callers act on. Each is wrapped with the key it concerns; none
// ever carries secret bytes.
var (
	// ErrWrongSecret says that a stored key or a wrapped secret does not open.
	// An authenticated cipher cannot tell a wrong secret from a changed
	// ciphertext or a changed header, so both are meant.
	ErrWrongSecret = errors.New("wrong secret, or the content was changed")

	// ErrDamaged says that a file or a wrapped secret has not the form that
	// this package writes; no secret was tried on it.
	ErrDamaged = errors.New("not in the form this program writes, or damaged")

	// ErrWrongPurpose says that the key exists and is for something else.
	ErrWrongPurpose = errors.New("key is for another purpose")

	// ErrWrongKeyType says that the key is of a kind that the caller cannot
	// use: a wrapping secret where a signing key is needed, or the reverse, or
	// an algorithm or size that this program does not use.
	ErrWrongKeyType = errors.New("key is of the wrong type")

	// ErrWrongKey says that the medium came back with another key than it had.
	ErrWrongKey = errors.New("the medium holds another key")

	// ErrKeySource says that a key-source or pin-source file may not be used:
	// others can read it, it is empty, or it is too large.
	ErrKeySource = errors.New("key source refused")

	// ErrSealedFile says the same of the sealed file itself.
	ErrSealedFile = errors.New("sealed file refused")

	// ErrAbsent says that the medium is not there: a token that was pulled, a
	// reader or device that is not plugged in, a module that does not answer.
	// It may come back, and the key with it.
	ErrAbsent = errors.New("the medium is not there")

	// ErrNoKey says that the medium is there and holds no such key.
	ErrNoKey = errors.New("no such key on the medium")

	// ErrAmbiguous says that more than one key fits.
	ErrAmbiguous = errors.New("more than one key fits")

	// ErrExists says that a key is there already; keys are never replaced.
	ErrExists = errors.New("a key is there already")

	// ErrCannot says that the medium has no such operation.
	ErrCannot = errors.New("this medium cannot do that")
)

// A PINError says that a medium did not take its PIN, or that it was not sent.
// Its zero value is a PIN that the medium called wrong.
type PINError struct {
	Medium string // for people: the token or card

	Locked  bool // no try is left
	NotSent bool // none was spent: the last PIN that the medium saw was wrong, or it is the same PIN again

	// Left is how many tries are left, where that is Known. PKCS #11 says only
	// whether one is missing or a single one is left.
	Left  int
	Known bool
}

func (e *PINError) Error() string {
	left := ""
	if e.Known {
		left = fmt.Sprintf(", tries left: %d", e.Left)
	}
	switch {
	case e.Locked:
		return fmt.Sprintf("%s is locked: no try is left for its PIN. Unlock it with the tool of whoever issued it", e.Medium)
	case e.NotSent && e.Known && e.Left == 1:
		return fmt.Sprintf("%s has one try left for its PIN, which nobody spends here: the PIN was not sent. Give it all its tries again with the tool of whoever issued it", e.Medium)
	case e.NotSent:
		return fmt.Sprintf("%s has seen a wrong PIN%s: the PIN was not sent, so that no further try is lost. Correct the pin-source, then try it once with gate-agent key test --retry-pin", e.Medium, left)
	}
	return fmt.Sprintf("%s calls the PIN wrong%s: it is not sent again. Correct the pin-source", e.Medium, left)
}

// wrongKey is ErrWrongKey, with what the medium holds and what was wanted where one
// look tells them apart.
func wrongKey(got, want crypto.PublicKey) error {
	is, errIs := TypeOf(got)
	not, errNot := TypeOf(want)
	if errIs != nil || errNot != nil || is == not {
		return ErrWrongKey
	}
	return fmt.Errorf("%w: it is %s, wanted is %s", ErrWrongKey, is, not)
}
