package keystore

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"
)

// Go's own RSA would take the longest salt there is for PSSSaltLengthAuto, and any
// other on request; a card or token has no choice. One key signs alike wherever it
// lies.
func TestSaltIsAsLongAsTheHashOnEveryMedium(t *testing.T) {
	_, uri := store(t)
	if _, err := new(Store).Generate(t.Context(), uri, ExternalAuth, RSA2048); err != nil {
		t.Fatal(err)
	}
	k, err := new(Store).OpenSigner(t.Context(), uri, ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	for _, salt := range []int{rsa.PSSSaltLengthAuto, rsa.PSSSaltLengthEqualsHash, sha256.Size} {
		signature, err := k.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPSS(k.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: sha256.Size}); err != nil {
			t.Errorf("salt %d: %v", salt, err)
		}
	}
	if _, err := k.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 64}); !errors.Is(err, ErrCannot) {
		t.Errorf("another salt: %v, want ErrCannot", err)
	}
}

func TestNoMediumIsAskedForWhatIsNoSignature(t *testing.T) {
	digest := make([]byte, sha256.Size)
	for _, typ := range []KeyType{RSA2048, P256, Ed25519} {
		key, err := generateKey(typ)
		if err != nil {
			t.Fatal(err)
		}
		for name, opts := range map[string]crypto.SignerOpts{
			"SHA-1":          crypto.SHA1,
			"another hash":   crypto.SHA512,
			"PSS of nothing": &rsa.PSSOptions{},
		} {
			if _, err := signable(key.Public(), digest, opts); !errors.Is(err, ErrCannot) && !(typ == Ed25519 && opts.HashFunc() == 0) {
				t.Errorf("%s, %s: %v, want ErrCannot", typ, name, err)
			}
		}
		_, pss := signable(key.Public(), digest, &rsa.PSSOptions{Hash: crypto.SHA256})
		if (pss == nil) != (typ == RSA2048) {
			t.Errorf("%s, PSS: %v", typ, pss)
		}
		_, message := signable(key.Public(), []byte("of any length"), crypto.Hash(0))
		if (message == nil) != (typ == Ed25519) {
			t.Errorf("%s, message: %v", typ, message)
		}
	}
}

func BenchmarkSignSealed(b *testing.B) {
	for _, typ := range []KeyType{RSA2048, P256} {
		_, uri := store(b)
		if _, err := new(Store).Generate(b.Context(), uri, ExternalAuth, typ); err != nil {
			b.Fatal(err)
		}
		k, err := new(Store).OpenSigner(b.Context(), uri, ExternalAuth)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(typ), func(b *testing.B) {
			for b.Loop() {
				if err := signs(k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
