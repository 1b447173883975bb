// Package keystore opens private keys and the secrets that wrap small
// secrets, wherever they are kept, behind one URI.
//
// A private key comes out as a crypto.Signer and never as bytes. A key is for
// one purpose: the purpose is bound to the stored key, and opening it for
// another one fails.
//
// The URI follows the shape of RFC 7512 (the PKCS #11 URI scheme): a scheme
// names the medium, attributes say where on it. The only medium of today is a
// file that is sealed under a second file:
//
//	sealed:path=/var/lib/gate-agent/ea.pem;key-source=/run/credentials/gate-agent/seal
//
// docs/keystore.md describes the file. What a medium protects against differs
// much; [Custody] says it in a sentence that a program prints when it starts.
package keystore

import (
	"crypto"
	"errors"
	"fmt"
)

// Errors that callers act on. Each is wrapped with the file it concerns; none
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
	// use: a wrapping secret where a signing key is needed, or the reverse.
	ErrWrongKeyType = errors.New("key is of the wrong type")

	// ErrKeySource says that the key-source file may not be used: others can
	// read it, it is empty, or it is too large.
	ErrKeySource = errors.New("key source refused")

	// ErrSealedFile says the same of the sealed file itself.
	ErrSealedFile = errors.New("sealed file refused")
)

// A Purpose is what a key is for: 1 to 32 of a–z, 0–9 and hyphen. A key for
// one purpose does not open for another.
type Purpose string

const (
	ExternalAuth Purpose = "external-auth" // the terminal proves itself to a card
	Identity     Purpose = "identity"      // signs what the terminal reports, such as a registration
	List         Purpose = "list"          // signs lists
	Wrap         Purpose = "wrap"          // wraps small secrets; only for OpenWrapper
)

func (p Purpose) check() error {
	if len(p) < 1 || len(p) > 32 {
		return fmt.Errorf("purpose has %d characters, want 1 to 32", len(p))
	}
	for _, c := range []byte(p) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("purpose %q: want only a–z, 0–9 and hyphen", string(p))
		}
	}
	return nil
}

// A Wrapper seals small secrets, such as the key of a scope, so that they can
// lie on a disk. The label is authenticated and not stored: what was wrapped
// under one label does not unwrap under another.
type Wrapper interface {
	// Wrap seals 1 to 4096 bytes under a label of 1 to 255 bytes.
	Wrap(secret []byte, label string) ([]byte, error)

	// Unwrap opens what Wrap made. The error is ErrWrongSecret when the blob
	// belongs to another wrapper or label or was changed, ErrDamaged when it
	// has not the form of a blob.
	Unwrap(blob []byte, label string) ([]byte, error)
}

// OpenSigner opens the private key at uri for a purpose. It is for the start
// of a program: opening a sealed key takes about 19 MiB and, on a small ARM
// board, a good part of a second.
func OpenSigner(uri string, p Purpose) (crypto.Signer, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	if p == Wrap {
		return nil, fmt.Errorf("opening signing key %s: purpose %q: %w", u, p, ErrWrongPurpose)
	}
	key, err := openSealedSigner(u, p)
	if err != nil {
		return nil, fmt.Errorf("opening %s key %s: %w", p, u, err)
	}
	return key, nil
}

// OpenWrapper opens the wrapping secret at uri. It costs as much as OpenSigner.
func OpenWrapper(uri string) (Wrapper, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	w, err := openSealedWrapper(u)
	if err != nil {
		return nil, fmt.Errorf("opening wrapping secret %s: %w", u, err)
	}
	return w, nil
}

// Custody says in one sentence what somebody needs to use the key at uri
// elsewhere: whether a copy of this machine's disk is enough.
func Custody(uri string) (string, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return "", err
	}
	inMemory, err := onMemoryFS(u.Get("key-source"))
	if err != nil {
		return "", fmt.Errorf("looking where the key source of %s lies: %w", u, err)
	}
	if inMemory {
		return "sealed: key source in memory; a copied disk opens it only together with whatever puts the key source there", nil
	}
	return "sealed: key source on disk; a copied disk opens it", nil
}
