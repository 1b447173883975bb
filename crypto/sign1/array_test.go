package sign1

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

func signedBy(t testing.TB, b byte) []byte {
	t.Helper()
	m, err := Sign(nil, RoleRoot, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestArrayKeepsEachMessageOnce(t *testing.T) {
	a, b := signedBy(t, 1), signedBy(t, 2)
	array, err := JoinArrays([][]byte{ArrayOf(a), ArrayOf(b), ArrayOf(a)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := SplitArray(array, 2)
	if err != nil || len(messages) != 2 || !bytes.Equal(messages[0], a) || !bytes.Equal(messages[1], b) {
		t.Errorf("%d messages, %v", len(messages), err)
	}
}

func TestArraysOfAnotherFormAreRefused(t *testing.T) {
	one, two := ArrayOf(signedBy(t, 1)), ArrayOf(signedBy(t, 2))
	both, err := JoinArrays([][]byte{one, two}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "empty array": {0x80}, "one message, bare": one[1:], "cut": one[:len(one)-1],
		"something behind": append(bytes.Clone(one), 0), "too many": both, "no array": {0x40}, "a longer head": append([]byte{0x98, 1}, one[1:]...),
	} {
		if _, err := SplitArray(b, 1); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is split: %v", name, err)
		}
		if _, err := JoinArrays([][]byte{b}, 1); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is joined: %v", name, err)
		}
	}
	if _, err := JoinArrays([][]byte{one, two}, 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("more than the most are joined: %v", err)
	}
	if _, err := JoinArrays(nil, 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("nothing is joined: %v", err)
	}
}
