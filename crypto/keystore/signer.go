package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
)

// A KeyType names what a stored key is.
type KeyType string

const (
	RSA2048 KeyType = "rsa-2048" // what a card-verifiable certificate holds
	Ed25519 KeyType = "ed25519"
	P256    KeyType = "p-256"

	secret32 KeyType = "secret-32" // a wrapping secret
)

func (t KeyType) check() error {
	switch t {
	case RSA2048, Ed25519, P256, secret32:
		return nil
	}
	return fmt.Errorf("unknown key type %q", string(t))
}

// typeOf says which KeyType a private key is.
func typeOf(key any) (KeyType, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits != 2048 {
			return "", fmt.Errorf("%w: RSA key of %d bits, want 2048", ErrWrongKeyType, bits)
		}
		return RSA2048, nil
	case ed25519.PrivateKey:
		return Ed25519, nil
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() {
			return "", fmt.Errorf("%w: curve %s, want P-256", ErrWrongKeyType, k.Curve.Params().Name)
		}
		return P256, nil
	}
	return "", fmt.Errorf("%w: %T, want RSA-2048, Ed25519 or P-256", ErrWrongKeyType, key)
}

func generateKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return nil, fmt.Errorf("%w: cannot make a signing key of type %q", ErrWrongKeyType, string(t))
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

func openSealedSigner(u URI, p Purpose) (crypto.Signer, error) {
	want, plain, err := openSealed(u, p)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	// x509 checks the key: primes against modulus, point against scalar.
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		// The parser's text may quote what it read.
		return nil, fmt.Errorf("%w: no valid PKCS #8 key inside", ErrDamaged)
	}
	if got, err := typeOf(key); err != nil {
		return nil, err
	} else if got != want {
		return nil, fmt.Errorf("%w: %s inside, header says %s", ErrDamaged, got, want)
	}
	return &signer{key.(crypto.Signer)}, nil
}

// signer keeps a private key from being type-asserted, printed or encoded.
type signer struct{ key crypto.Signer }

func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(rand, digest, opts)
}

// Format writes the same words for every verb: fmt looks into unexported
// fields otherwise.
func (s *signer) Format(f fmt.State, _ rune) { io.WriteString(f, "keystore: private key") }
