package keystore

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// GenerateKeySource makes a key-source file of mode 0600: 32 random bytes as
// one line of base64. A file that exists is left alone and is an error.
func GenerateKeySource(path string) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	defer clear(secret)
	line := base64.StdEncoding.AppendEncode(nil, secret)
	defer clear(line)
	if err := writeNew(path, append(line, '\n')); err != nil {
		return fmt.Errorf("making key source: %w", err)
	}
	return nil
}

// GenerateSealedSigner makes a private key for a purpose, seals it at uri and
// returns its public key. The key source must exist; the sealed file must not.
func GenerateSealedSigner(uri string, p Purpose, t KeyType) (crypto.PublicKey, error) {
	key, err := generateKey(t)
	if err != nil {
		return nil, err
	}
	if err := SealSigner(uri, p, key); err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// SealSigner seals a private key that exists already (RSA-2048, Ed25519 or
// P-256) at uri. The key source must exist; the sealed file must not.
func SealSigner(uri string, p Purpose, key crypto.Signer) error {
	t, err := typeOf(key)
	if err != nil {
		return fmt.Errorf("sealing %s key: %w", p, err)
	}
	if p == Wrap {
		return fmt.Errorf("sealing signing key: purpose %q: %w", string(p), ErrWrongPurpose)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("sealing %s key: %w", p, err)
	}
	defer clear(plain)
	return writeSealed(uri, plain, p, t)
}

// GenerateSealedWrapper makes a 32-byte wrapping secret and seals it at uri.
// The key source must exist; the sealed file must not.
func GenerateSealedWrapper(uri string) error {
	plain := make([]byte, 32)
	rand.Read(plain)
	defer clear(plain)
	return writeSealed(uri, plain, Wrap, secret32)
}

func writeSealed(uri string, plain []byte, p Purpose, t KeyType) error {
	if err := p.check(); err != nil {
		return err
	}
	u, err := ParseURI(uri)
	if err != nil {
		return err
	}
	secret, err := readKeySource(u.Get("key-source"))
	if err != nil {
		return err
	}
	defer clear(secret)
	if err := writeNew(u.Get("path"), seal(plain, secret, p, t, defaultKDF()).encode()); err != nil {
		return fmt.Errorf("writing sealed %s key: %w", p, err)
	}
	return nil
}

// writeNew writes a file of mode 0600 that appears whole or not at all, and
// survives a power cut once writeNew returns. It never replaces one: a key
// that is overwritten is gone. Hence link, which fails where rename replaces.
func writeNew(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".keystore-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
