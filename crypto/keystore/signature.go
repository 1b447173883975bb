package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// signable checks once, for every medium, what a key is asked to sign, and gives
// the options in their one form: a digest of SHA-256, SHA-384 or SHA-512; for
// Ed25519 a message (hash 0); PSS only for RSA, with a salt as long as the hash.
// The error is ErrCannot.
func signable(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (crypto.SignerOpts, error) {
	hash := opts.HashFunc()
	if _, ok := public.(ed25519.PublicKey); ok {
		if hash != 0 {
			return nil, fmt.Errorf("%w: Ed25519 signs messages, not digests", ErrCannot)
		}
		return hash, nil
	}
	switch hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return nil, fmt.Errorf("%w: sign a digest of %v, want SHA-256, SHA-384 or SHA-512", ErrCannot, hash)
	}
	if len(digest) != hash.Size() {
		return nil, fmt.Errorf("%w: sign a digest of %d bytes, %v has %d", ErrCannot, len(digest), hash, hash.Size())
	}
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok {
		return hash, nil
	}
	if _, ok := public.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("%w: PSS with a key on a curve", ErrCannot)
	}
	switch pss.SaltLength {
	case rsa.PSSSaltLengthAuto, rsa.PSSSaltLengthEqualsHash, hash.Size():
		return &rsa.PSSOptions{Hash: hash, SaltLength: rsa.PSSSaltLengthEqualsHash}, nil
	}
	return nil, fmt.Errorf("%w: PSS with a salt of %d bytes, want as many as the hash", ErrCannot, pss.SaltLength)
}

// verifies reports whether signature is one over what signable allows.
func verifies(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts, signature []byte) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(k, pss.Hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(k, opts.HashFunc(), digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, digest, signature)
	}
	return false
}

// digestInfo is what an RSA key signs of a digest by PKCS #1 v1.5, before the
// padding (RFC 8017 §9.2, note 1).
func digestInfo(hash crypto.Hash, digest []byte) []byte {
	x := map[crypto.Hash]byte{crypto.SHA256: 1, crypto.SHA384: 2, crypto.SHA512: 3}[hash] // 2.16.840.1.101.3.4.2.x
	n := byte(len(digest))
	return append([]byte{
		0x30, 17 + n, 0x30, 0x0D,
		0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, x,
		0x05, 0x00,
		0x04, n,
	}, digest...)
}

// ecdsaSignature is the Ecdsa-Sig-Value (RFC 3279 §2.2.3) of two big-endian numbers.
func ecdsaSignature(r, s []byte) ([]byte, error) {
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
}
