package cardkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var p384Key = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

func newKey(t testing.TB, public crypto.PublicKey) cardkey.Key {
	t.Helper()
	k, err := cardkey.New(public)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysThatNoCardHasAreRefused(t *testing.T) {
	n := rsaKey().N
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]crypto.PublicKey{
		"none":                     nil,
		"a typed nil":              (*rsa.PublicKey)(nil),
		"a typed nil curve":        (*ecdsa.PublicKey)(nil),
		"no modulus":               &rsa.PublicKey{E: 65537},
		"negative modulus":         &rsa.PublicKey{N: new(big.Int).Neg(n), E: 65537},
		"even modulus":             &rsa.PublicKey{N: new(big.Int).SetBit(n, 0, 0), E: 65537},
		"RSA-1024":                 &rsa.PublicKey{N: new(big.Int).Rsh(n, 1024), E: 65537},
		"RSA-2047":                 &rsa.PublicKey{N: new(big.Int).SetBit(n, 2047, 0), E: 65537},
		"RSA-4096":                 &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(n, 2048), 0, 1), E: 65537},
		"exponent 1":               &rsa.PublicKey{N: n, E: 1},
		"exponent 3":               &rsa.PublicKey{N: n, E: 3},
		"P-256":                    &p256.PublicKey,
		"a point beside the curve": &ecdsa.PublicKey{Curve: elliptic.P384(), X: big.NewInt(1), Y: big.NewInt(1)},
		"no point":                 &ecdsa.PublicKey{Curve: elliptic.P384()},
		"no curve":                 &ecdsa.PublicKey{},
		"Ed25519":                  edwards,
		"a key by value":           rsaKey().PublicKey,
	} {
		if k, err := cardkey.New(public); !errors.Is(err, cardkey.ErrKind) || !k.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignatureCountsUnderItsOwnSchemeAlone(t *testing.T) {
	message := []byte("challenge")
	sum256, sum384 := sha256.Sum256(message), sha512.Sum384(message)
	pkcs, err := rsa.SignPKCS1v15(nil, rsaKey(), crypto.SHA256, sum256[:])
	if err != nil {
		t.Fatal(err)
	}
	pss, err := rsa.SignPSS(rand.Reader, rsaKey(), crypto.SHA256, sum256[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.SignASN1(rand.Reader, p384Key(), sum384[:])
	if err != nil {
		t.Fatal(err)
	}
	one, two := newKey(t, &rsaKey().PublicKey), newKey(t, &p384Key().PublicKey)
	right := map[cardkey.Scheme]struct {
		key               cardkey.Key
		digest, signature []byte
	}{
		cardkey.PKCS1v15SHA256:  {one, sum256[:], pkcs},
		cardkey.PSSSHA256:       {one, sum256[:], pss},
		cardkey.ECDSAP384SHA384: {two, sum384[:], ec},
	}
	for scheme, r := range right {
		if scheme.Hash().Size() != len(r.digest) {
			t.Errorf("%s: its hash is %v", scheme, scheme.Hash())
		}
		if err := r.key.Verify(scheme, r.digest, r.signature); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
		wrong := bytes.Clone(r.digest)
		wrong[0] ^= 1
		for what, digest := range map[string][]byte{"another": wrong, "a short": r.digest[1:], "no": nil} {
			if r.key.Verify(scheme, digest, r.signature) == nil {
				t.Errorf("%s: %s digest is accepted", scheme, what)
			}
		}
		for _, signature := range [][]byte{nil, r.signature[1:], append(bytes.Clone(r.signature), 0)} {
			if r.key.Verify(scheme, r.digest, signature) == nil {
				t.Errorf("%s: a signature of %d bytes is accepted", scheme, len(signature))
			}
		}
		for other, o := range right {
			for _, key := range []cardkey.Key{one, two, {}} {
				for _, digest := range [][]byte{r.digest, o.digest} {
					if key.Verify(other, digest, r.signature) == nil && other != scheme {
						t.Errorf("a signature of %s is accepted as %s", scheme, other)
					}
				}
			}
		}
		if r.key.Verify("none", r.digest, r.signature) == nil || (cardkey.Key{}).Verify(scheme, r.digest, r.signature) == nil {
			t.Errorf("%s: accepted under no scheme, or by no key", scheme)
		}
	}
	if cardkey.Scheme("none").Hash() != 0 {
		t.Error("an unknown scheme has a hash")
	}
}

// The same point of P-384 in the two forms of RFC 5480 would be two encodings
// of one key; so would parameters written out.
func TestKeyHasOneEncoding(t *testing.T) {
	for _, public := range []crypto.PublicKey{&rsaKey().PublicKey, &p384Key().PublicKey} {
		k := newKey(t, public)
		back, err := cardkey.Parse(k.SPKI())
		if err != nil || !back.Equal(k) || !bytes.Equal(back.SPKI(), k.SPKI()) {
			t.Errorf("%v comes back with %v", k, err)
		}
		if _, err := cardkey.Parse(append(k.SPKI(), 0)); err == nil {
			t.Errorf("%v: a byte behind it is accepted", k)
		}
	}
	if (cardkey.Key{}).SPKI() != nil {
		t.Error("the zero key has an encoding")
	}
}

// A key has one encoding: what Parse takes is what SPKI gives.
func TestCompressedPointIsRefused(t *testing.T) {
	spki := newKey(t, &p384Key().PublicKey).SPKI()
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		t.Fatal(err)
	}
	encode := func() []byte {
		der, err := asn1.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if !bytes.Equal(encode(), spki) {
		t.Fatal("the encoding does not come back")
	}
	point := info.PublicKey.Bytes // 04, X, Y
	x := point[1 : 1+len(point)/2]
	compressed := append([]byte{0x02 | point[len(point)-1]&1}, x...)
	info.PublicKey = asn1.BitString{Bytes: compressed, BitLength: 8 * len(compressed)}
	if k, err := cardkey.Parse(encode()); err == nil {
		t.Errorf("accepted as %v", k)
	}
}

func TestNoKeyIsNobodysKey(t *testing.T) {
	k := newKey(t, &rsaKey().PublicKey)
	if (cardkey.Key{}).Equal(cardkey.Key{}) || k.Equal(cardkey.Key{}) || (cardkey.Key{}).Equal(k) || !k.Equal(k) ||
		k.Equal(newKey(t, &p384Key().PublicKey)) {
		t.Error("Equal")
	}
}

// A public key identifies a card.
func TestKeyIsNotPrinted(t *testing.T) {
	for _, public := range []crypto.PublicKey{&rsaKey().PublicKey, &p384Key().PublicKey} {
		k := newKey(t, public)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			text := fmt.Sprintf(verb, k) + fmt.Sprintf(verb, struct{ K cardkey.Key }{k})
			if len(text) > 200 || strings.Contains(text, "0x") {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	}
}

// FuzzParse: what parses encodes to the same bytes, or to a shorter form that
// parses to the same key; and verifies nothing that nobody signed.
func FuzzParse(f *testing.F) {
	f.Add(newKey(f, &rsaKey().PublicKey).SPKI())
	f.Add(newKey(f, &p384Key().PublicKey).SPKI())
	for _, bits := range []int{1024, 4096} {
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 65537})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := cardkey.Parse(b)
		if err != nil {
			if !k.IsZero() {
				t.Fatal("a key with an error")
			}
			return
		}
		back, err := cardkey.Parse(k.SPKI())
		if err != nil || !back.Equal(k) {
			t.Fatalf("%X comes back as %v, %v", b, back, err)
		}
		for _, s := range []cardkey.Scheme{cardkey.PKCS1v15SHA256, cardkey.PSSSHA256, cardkey.ECDSAP384SHA384} {
			if k.Verify(s, make([]byte, s.Hash().Size()), b) == nil {
				t.Fatalf("%s: verified", s)
			}
		}
	})
}
