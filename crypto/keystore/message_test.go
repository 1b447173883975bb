package keystore

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
)

func TestMessageIsSignedByTheAlgorithmOfTheKey(t *testing.T) {
	for _, kt := range []KeyType{RSA2048, Ed25519, P256, P384} {
		key, err := generateKey(kt)
		if err != nil {
			t.Fatal(err)
		}
		other, err := generateKey(kt)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := SignMessage(key, []byte("message"))
		if err != nil {
			t.Fatalf("%s: %v", kt, err)
		}
		if err := VerifyMessage(key.Public(), []byte("message"), signature); err != nil {
			t.Errorf("%s: %v", kt, err)
		}
		for name, err := range map[string]error{
			"another message":   VerifyMessage(key.Public(), []byte("messagf"), signature),
			"another key":       VerifyMessage(other.Public(), []byte("message"), signature),
			"no signature":      VerifyMessage(key.Public(), []byte("message"), nil),
			"half of signature": VerifyMessage(key.Public(), []byte("message"), signature[:len(signature)/2]),
		} {
			if !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %s: %v", kt, name, err)
			}
		}
	}
}

func TestMessageIsNotSignedByAKeyOfAnotherType(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SignMessage(key, []byte("message")); !errors.Is(err, ErrWrongKeyType) {
		t.Error(err)
	}
	if err := VerifyMessage(key.Public(), []byte("message"), nil); !errors.Is(err, ErrWrongKeyType) {
		t.Error(err)
	}
}
