package keystore

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// GenerateKeySource makes a key-source file of mode 0600: 32 random bytes as
// one line of base64. A file that exists is left alone and is an error.
func GenerateKeySource(path string) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	defer clear(secret)
	line := base64.StdEncoding.AppendEncode(nil, secret)
	defer clear(line)
	if err := wholefile.New(path, append(line, '\n')); err != nil {
		return fmt.Errorf("making key source: %w", err)
	}
	return nil
}

// sealedMedium keeps keys in files that are sealed under another file.
type sealedMedium struct{}

func (m sealedMedium) generate(ctx context.Context, u URI, p Purpose, t KeyType, pins *pinSource) (crypto.PublicKey, error) {
	key, err := generateKey(t)
	if err != nil {
		return nil, err
	}
	return key.Public(), m.importKey(ctx, u, p, key, pins)
}

func (sealedMedium) importKey(_ context.Context, u URI, p Purpose, key crypto.Signer, _ *pinSource) error {
	t, err := typeOf(key)
	if err != nil {
		return err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(plain)
	return writeSealed(u, plain, p, t)
}

func (sealedMedium) generateWrapper(_ context.Context, u URI, _ *pinSource) error {
	plain := make([]byte, 32)
	rand.Read(plain)
	defer clear(plain)
	return writeSealed(u, plain, Wrap, secret32)
}

// destroy overwrites the file and removes it. Storage that moves what is
// rewritten (flash) may keep the old blocks: they are worth nothing without the
// key source.
func (m sealedMedium) destroy(ctx context.Context, u URI, p Purpose, public crypto.PublicKey, pins *pinSource) (err error) {
	if p == Wrap {
		if _, _, err := openSealed(u, Wrap); err != nil {
			return err
		}
	} else {
		s, err := m.open(ctx, u, p, pins)
		if err != nil {
			return err
		}
		if !SameKey(public, s.Public()) {
			return ErrWrongKey
		}
	}
	return Shred(u.Get("path"))
}

// openSealed opens the file that u names and checks that it is for p.
func openSealed(u URI, p Purpose) (t KeyType, plain []byte, err error) {
	// Sealed as it is: who can read it can guess at its key source for ever.
	text, err := readPrivate("sealed file", u.Get("path"), maxSealed, ErrSealedFile)
	if err != nil {
		return "", nil, err
	}
	s, err := parseSealed(text)
	if err != nil {
		return "", nil, err
	}
	// Before the secret is tried: the header says it already, and once the
	// seal opens the header is known to be true.
	if s.purpose != p {
		return "", nil, fmt.Errorf("%w: it is for %q, not for %q", ErrWrongPurpose, string(s.purpose), string(p))
	}
	if (s.keyType == secret32) != (p == Wrap) {
		return "", nil, fmt.Errorf("%w: %s for purpose %q", ErrWrongKeyType, s.keyType, string(p))
	}
	secret, err := readKeySource(u.Get("key-source"))
	if err != nil {
		return "", nil, err
	}
	defer clear(secret)
	plain, err = s.open(secret)
	return s.keyType, plain, err
}

func (sealedMedium) open(_ context.Context, u URI, p Purpose, _ *pinSource) (session, error) {
	want, plain, err := openSealed(u, p)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	// x509 checks the key: primes against modulus, point against scalar.
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		// The parser's text may quote what it read.
		return nil, fmt.Errorf("%w: no valid PKCS #8 key inside", ErrDamaged)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %T inside", ErrWrongKeyType, parsed)
	}
	if got, err := typeOf(key); err != nil {
		return nil, err
	} else if got != want {
		return nil, fmt.Errorf("%w: %s inside, header says %s", ErrDamaged, got, want)
	}
	return sealedKey{key}, nil
}

// A sealedKey is in the memory of this process once it is open.
type sealedKey struct{ crypto.Signer }

func (k sealedKey) sign(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Sign(rand.Reader, digest, opts)
}

func (sealedKey) alive(context.Context) error { return nil }

// exportable: opening it has exported it.
func (sealedKey) exportable(context.Context) (bool, error) { return true, nil }

func (sealedKey) close() error { return nil }

func writeSealed(u URI, plain []byte, p Purpose, t KeyType) error {
	secret, err := readKeySource(u.Get("key-source"))
	if err != nil {
		return err
	}
	defer clear(secret)
	// A key that is overwritten is gone.
	err = wholefile.New(u.Get("path"), seal(plain, secret, p, t, defaultKDF()).encode())
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	return err
}
