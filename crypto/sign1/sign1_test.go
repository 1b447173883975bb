package sign1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
)

// Fixed keys; they sign nothing but tests.
func testKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{0x25}, 32))
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), bytes.Repeat([]byte{0x38}, 48))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"EdDSA": ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0xed}, 32)),
		"ES256": p256,
		"ES384": p384,
	}
}

func mustKeys(t testing.TB, keys ...Key) Keys {
	t.Helper()
	k, err := NewKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignedPayloadVerifiesForItsRoleAndNamesItsScope(t *testing.T) {
	for name, signer := range testKeys(t) {
		keys := mustKeys(t, Key{Public: signer.Public(), Role: RoleList, Scope: "arena"})
		for _, payload := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), 60000)} {
			msg, err := Sign(rand.Reader, RoleList, signer, payload)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			p, err := keys.Verify(RoleList, msg)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(p.Bytes(), payload) || p.Role() != RoleList || p.Scope() != "arena" {
				t.Errorf("%s: got %d bytes, role %q, scope %q", name, len(p.Bytes()), p.Role(), p.Scope())
			}
		}
	}
}

func TestSignatureForOneRoleIsWorthNothingForAnother(t *testing.T) {
	signer := testKeys(t)["EdDSA"]
	msg, err := Sign(nil, "command", signer, []byte("open"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mustKeys(t, Key{Public: signer.Public(), Role: RoleList, Scope: "arena"}).Verify(RoleList, msg); !errors.Is(err, ErrSignature) {
		t.Errorf("same key trusted for lists: %v", err)
	}
	if _, err := mustKeys(t, Key{Public: signer.Public(), Role: "command", Scope: "arena"}).Verify(RoleList, msg); !errors.Is(err, ErrRole) {
		t.Errorf("same key trusted for commands, asked for lists: %v", err)
	}
}

func TestUnknownKeyIsRefused(t *testing.T) {
	keys := testKeys(t)
	msg, err := Sign(nil, RoleList, keys["EdDSA"], []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mustKeys(t, Key{Public: keys["ES256"].Public(), Role: RoleList, Scope: "arena"}).Verify(RoleList, msg); !errors.Is(err, ErrUnknownKey) {
		t.Error(err)
	}
	if _, err := (Keys{}).Verify(RoleList, msg); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("zero Keys: %v", err)
	}
}

func TestOneKeyHasOneRoleAndOneScope(t *testing.T) {
	pub := testKeys(t)["EdDSA"].Public()
	if _, err := NewKeys(Key{Public: pub, Role: RoleList, Scope: "a"}, Key{Public: pub, Role: RoleList, Scope: "b"}); err == nil {
		t.Error("one key in two scopes")
	}
	if _, err := NewKeys(Key{Public: pub, Role: RoleList, Scope: ""}); err == nil {
		t.Error("a key without a scope")
	}
	if _, err := NewKeys(Key{Public: pub, Role: "", Scope: "a"}); err == nil {
		t.Error("a key without a role")
	}
}

func TestOnlyAllowedKeysAreUsed(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, signer := range []crypto.Signer{p521, rsaKey} {
		if _, err := Sign(rand.Reader, RoleList, signer, nil); err == nil {
			t.Errorf("%T signed", signer)
		}
		if _, err := NewKeys(Key{Public: signer.Public(), Role: RoleList, Scope: "a"}); err == nil {
			t.Errorf("%T is trusted", signer)
		}
		if _, err := MarshalPublicKey(signer.Public()); err == nil {
			t.Errorf("%T is written", signer)
		}
	}
}

// The message is taken apart and verified here by hand from RFC 9052 alone, so
// that go-cose and this package cannot be wrong together.
func TestMessageIsWhatTheSpecificationSays(t *testing.T) {
	signer := testKeys(t)["EdDSA"]
	kid, err := KeyID(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	msg, err := Sign(nil, RoleList, signer, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	protected := fmt.Sprintf("a2012704 5820%x", kid)
	prefix := unhex(t, "d2 84 5826", protected, "a0 47", hex.EncodeToString([]byte("payload")), "5840")
	signature, ok := bytes.CutPrefix(msg, prefix)
	if !ok {
		t.Fatalf("message %x\ndoes not begin %x", msg, prefix)
	}
	// Sig_structure = [ "Signature1", protected, external_aad, payload ]
	aad := "gate-agent/list/v1"
	tbs := unhex(t, "84 6a", hex.EncodeToString([]byte("Signature1")), "5826", protected,
		fmt.Sprintf("%02x", 0x40+len(aad)), hex.EncodeToString([]byte(aad)), "47", hex.EncodeToString([]byte("payload")))
	if !ed25519.Verify(signer.Public().(ed25519.PublicKey), tbs, signature) {
		t.Error("the signature is not over the Sig_structure of RFC 9052")
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	for name, signer := range testKeys(t) {
		keys := mustKeys(t, Key{Public: signer.Public(), Role: RoleList, Scope: "arena"})
		msg, err := Sign(nil, RoleList, signer, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(msg) * 8 {
			bad := bytes.Clone(msg)
			bad[i/8] ^= 1 << (i % 8)
			if _, err := keys.Verify(RoleList, bad); err == nil {
				t.Errorf("%s: bit %d of %d may be flipped", name, i, len(msg)*8)
			}
		}
	}
}

func TestPublicKeyFileHoldsOneUsableKey(t *testing.T) {
	for name, signer := range testKeys(t) {
		text, err := MarshalPublicKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		pub, err := ParsePublicKey(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
			t.Errorf("%s came back as another key", name)
		}
		if _, err := ParsePublicKey(append(text, text...)); err == nil {
			t.Errorf("%s: two keys in one file", name)
		}
		if _, err := ParsePublicKey(bytes.Replace(text, []byte("PUBLIC"), []byte("SECRET"), 2)); err == nil {
			t.Errorf("%s: not a public key", name)
		}
	}
	if _, err := ParsePublicKey(nil); err == nil {
		t.Error("an empty file is a key")
	}
}

// A message that verifies is the only encoding of what it says: signing the
// same payload with the same deterministic key gives the same bytes.
func FuzzVerify(f *testing.F) {
	keys := testKeys(f)
	var trusted []Key
	signers := make(map[[32]byte]crypto.Signer)
	for _, s := range keys {
		id, err := KeyID(s.Public())
		if err != nil {
			f.Fatal(err)
		}
		signers[id] = s
		trusted = append(trusted, Key{Public: s.Public(), Role: RoleList, Scope: "arena"})
		msg, err := Sign(nil, RoleList, s, []byte("payload"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg)
	}
	for _, v := range readVectors(f) {
		f.Add([]byte(v.Message))
	}
	set := mustKeys(f, trusted...)
	f.Fuzz(func(t *testing.T, msg []byte) {
		p, err := set.Verify(RoleList, msg)
		if err != nil {
			if p.Role() != "" || p.Bytes() != nil {
				t.Fatal("a payload beside an error")
			}
			return
		}
		_, h, err := parse(msg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Sign(nil, RoleList, signers[h.kid], p.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		// ECDSA signatures differ in their last bytes when made elsewhere.
		if n := len(again) - 96; !bytes.Equal(again[:n], msg[:n]) || len(again) != len(msg) {
			t.Fatalf("two encodings of one message:\n%x\n%x", msg, again)
		}
	})
}

func unhex(t testing.TB, parts ...string) []byte {
	t.Helper()
	var b []byte
	for _, p := range parts {
		x, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(p), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, x...)
	}
	return b
}

// Of several who may sign for one scope, the payload names the one who did.
func TestPayloadNamesItsSigner(t *testing.T) {
	var trusted []Key
	for alg, s := range testKeys(t) {
		trusted = append(trusted, Key{Public: s.Public(), Role: RoleRegistration, Scope: "arena", Signer: "gate of " + alg})
	}
	keys := mustKeys(t, trusted...)
	for alg, s := range testKeys(t) {
		msg, err := Sign(nil, RoleRegistration, s, []byte("record"))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := keys.Verify(RoleRegistration, msg); err != nil || p.Signer() != "gate of "+alg {
			t.Errorf("%s: signed by %q, %v", alg, p.Signer(), err)
		}
	}
}
