package keystore

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strconv"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	pemType       = "GATE-AGENT SEALED KEY"
	sealedVersion = "1"
	saltSize      = 16
	maxSealed     = 16 << 10 // bytes of a sealed file
)

// kdf holds the parameters of argon2id (RFC 9106 §3.1).
type kdf struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// defaultKDF is the least that OWASP's password storage guidance names. More
// would buy nothing: the key source is meant to be 32 random bytes, which
// nobody guesses, and a small ARM board has to pay for it at every start. It
// slows down somebody who guesses at a key source that a person made up.
func defaultKDF() kdf { return kdf{memory: 19456, passes: 2, threads: 1} }

// check bounds what a file may ask for. The header is read before anything
// about it can be authenticated: an upper bound keeps a changed file from
// exhausting the machine, a lower one keeps it from weakening the seal.
func (k kdf) check() error {
	switch {
	case k.memory < 19456 || k.memory > 256<<10:
		return fmt.Errorf("argon2id memory of %d KiB, want 19456 to 262144", k.memory)
	case k.passes < 2 || k.passes > 10:
		return fmt.Errorf("argon2id with %d passes, want 2 to 10", k.passes)
	case k.threads < 1 || k.threads > 4:
		return fmt.Errorf("argon2id with %d threads, want 1 to 4", k.threads)
	}
	return nil
}

// A sealed file is one PEM block (RFC 1421 headers as encoding/pem writes
// them). Its body is XChaCha20-Poly1305 under an argon2id key; its associated
// data is the text of the file up to and with the empty line that ends the
// headers, so every header is authenticated.
type sealed struct {
	purpose Purpose
	keyType KeyType
	kdf     kdf
	salt    []byte // 16 bytes
	nonce   []byte // 24 bytes
	box     []byte // ciphertext and tag
}

// Header names, in the alphabetical order in which encoding/pem writes them.
const (
	hKey     = "Key"
	hMemory  = "Kdf-Memory-KiB"
	hPasses  = "Kdf-Passes"
	hThreads = "Kdf-Threads"
	hNonce   = "Nonce"
	hPurpose = "Purpose"
	hSalt    = "Salt"
	hVersion = "Version"
)

func (s *sealed) encode() []byte {
	return pem.EncodeToMemory(&pem.Block{
		Type: pemType,
		Headers: map[string]string{
			hKey:     string(s.keyType),
			hMemory:  strconv.FormatUint(uint64(s.kdf.memory), 10),
			hPasses:  strconv.FormatUint(uint64(s.kdf.passes), 10),
			hThreads: strconv.FormatUint(uint64(s.kdf.threads), 10),
			hNonce:   base64.StdEncoding.EncodeToString(s.nonce),
			hPurpose: string(s.purpose),
			hSalt:    base64.StdEncoding.EncodeToString(s.salt),
			hVersion: sealedVersion,
		},
		Bytes: s.box,
	})
}

// head is the associated data.
func (s *sealed) head() []byte {
	text := s.encode()
	return text[:bytes.Index(text, []byte("\n\n"))+2]
}

// parseSealed accepts exactly what encode writes: encoding what it returns
// gives the same bytes, so nothing in a file stands outside the seal.
func parseSealed(text []byte) (*sealed, error) {
	damaged := func(format string, a ...any) (*sealed, error) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, a...))
	}
	if len(text) > maxSealed {
		return damaged("larger than %d bytes", maxSealed)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return damaged("no PEM block %q", pemType)
	}
	h := block.Headers
	if v := h[hVersion]; v != sealedVersion {
		return damaged("version %q, this program reads version %s", v, sealedVersion)
	}
	s := &sealed{purpose: Purpose(h[hPurpose]), keyType: KeyType(h[hKey]), box: block.Bytes}
	if err := s.purpose.check(); err != nil {
		return damaged("%w", err)
	}
	if err := s.keyType.check(); err != nil {
		return damaged("%w", err)
	}
	var n [3]uint64
	for i, name := range []string{hMemory, hPasses, hThreads} {
		var err error
		if n[i], err = strconv.ParseUint(h[name], 10, 32); err != nil {
			return damaged("header %s is not a number", name)
		}
	}
	s.kdf = kdf{uint32(n[0]), uint32(n[1]), uint8(min(n[2], 255))}
	if err := s.kdf.check(); err != nil {
		return damaged("%w", err)
	}
	var err error
	if s.salt, err = base64.StdEncoding.DecodeString(h[hSalt]); err != nil || len(s.salt) != saltSize {
		return damaged("header %s is not %d bytes", hSalt, saltSize)
	}
	if s.nonce, err = base64.StdEncoding.DecodeString(h[hNonce]); err != nil || len(s.nonce) != chacha20poly1305.NonceSizeX {
		return damaged("header %s is not %d bytes", hNonce, chacha20poly1305.NonceSizeX)
	}
	if !bytes.Equal(s.encode(), text) {
		return damaged("something stands beside the sealed block, or it is written in another way")
	}
	return s, nil
}

// seal encrypts plain under secret with fresh salt and nonce.
func seal(plain, secret []byte, p Purpose, t KeyType, k kdf) *sealed {
	s := &sealed{
		purpose: p, keyType: t, kdf: k,
		salt:  make([]byte, saltSize),
		nonce: make([]byte, chacha20poly1305.NonceSizeX),
	}
	rand.Read(s.salt)
	rand.Read(s.nonce)
	key := s.deriveKey(secret)
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // the key has the right size
	}
	s.box = aead.Seal(nil, s.nonce, plain, s.head())
	return s
}

func (s *sealed) open(secret []byte) ([]byte, error) {
	key := s.deriveKey(secret)
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, s.nonce, s.box, s.head())
	if err != nil {
		return nil, ErrWrongSecret
	}
	return plain, nil
}

func (s *sealed) deriveKey(secret []byte) []byte {
	return argon2.IDKey(secret, s.salt, s.kdf.passes, s.kdf.memory, s.kdf.threads, chacha20poly1305.KeySize)
}
