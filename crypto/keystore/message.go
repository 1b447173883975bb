package keystore

import (
	"crypto"
	_ "crypto/sha256" // the hashes of messageHash
	_ "crypto/sha512"
	"errors"
)

// ErrSignature says that a signature is not that of the key over the message.
var ErrSignature = errors.New("wrong signature")

// SignMessage signs a message, of any length, by the one algorithm that a key of
// its type has here: RSA-2048 RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2),
// Ed25519 without prehash (RFC 8032 §5.1), P-256 and P-384 ECDSA with SHA-256 and
// SHA-384, as an Ecdsa-Sig-Value in DER (RFC 3279 §2.2.3). No message that is
// signed here may be one that the key signs for its purpose: begin it with words
// that say what it is.
func SignMessage(signer crypto.Signer, message []byte) ([]byte, error) {
	hash, err := messageHash(signer.Public())
	if err != nil {
		return nil, err
	}
	return signer.Sign(nil, digestOf(hash, message), hash)
}

// VerifyMessage verifies what SignMessage made. The error is ErrSignature, or
// ErrWrongKeyType for a key of no type that there is.
func VerifyMessage(public crypto.PublicKey, message, signature []byte) error {
	hash, err := messageHash(public)
	if err != nil {
		return err
	}
	if !verifies(public, digestOf(hash, message), hash, signature) {
		return ErrSignature
	}
	return nil
}

// messageHash is 0 where the algorithm hashes by itself.
func messageHash(public crypto.PublicKey) (crypto.Hash, error) {
	t, err := TypeOf(public)
	switch t {
	case RSA2048, P256:
		return crypto.SHA256, nil
	case P384:
		return crypto.SHA384, nil
	}
	return 0, err
}

func digestOf(hash crypto.Hash, message []byte) []byte {
	if hash == 0 {
		return message
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}
