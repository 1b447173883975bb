package cardauth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// sha256Info is a DigestInfo without the digest (RFC 8017 §9.2, note 1).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// raw applies the private key to an encoded message as it is.
func raw(key *rsa.PrivateKey, em []byte) []byte {
	return new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N).FillBytes(make([]byte, key.Size()))
}

// block is an encoded message of 256 bytes: 00, the block type, pad bytes of
// FF, 00, and what follows.
func block(kind byte, pad int, parts ...[]byte) []byte {
	return slices.Concat([]byte{0, kind}, bytes.Repeat([]byte{0xFF}, pad), []byte{0}, slices.Concat(parts...))
}

func cardKey(t *testing.T, public crypto.PublicKey) cardkey.Key {
	t.Helper()
	k, err := cardkey.New(public)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func proof(t *testing.T) (cardauth.Proof, *rsa.PrivateKey) {
	t.Helper()
	img := image(t, "good.json")
	head, err := cardauth.ParseHead(img.AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	key := terminalKey(t) // stands for any key that a row registers
	p := cardauth.Proof{Head: head, Challenge: cardauth.Challenge{Scope: "arena", Purpose: cardauth.PurposeGate}, Scheme: cardkey.PKCS1v15SHA256}
	if p.Signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, p.Challenge.Digest(crypto.SHA256)); err != nil {
		t.Fatal(err)
	}
	return p, key
}

func TestHolderExistsAfterARightAnswerOnly(t *testing.T) {
	p, key := proof(t)
	holder, err := cardauth.Verify(p, cardKey(t, &key.PublicKey), at)
	if err != nil {
		t.Fatal(err)
	}
	if holder.IsZero() || !bytes.Equal(holder.Head().Bytes(), p.Head.Bytes()) {
		t.Error("the holder is not the one of the proof")
	}
	if !(cardauth.Holder{}).IsZero() {
		t.Error("the zero holder is somebody")
	}

	other := loadAuthority(t, "authority.json").caKey
	digest := p.Challenge.Digest(crypto.SHA256)
	pss, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	longSalt, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: 64})
	if err != nil {
		t.Fatal(err)
	}
	public := cardKey(t, &key.PublicKey)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptical := cardKey(t, &p384.PublicKey)
	ecdsaSignature, err := ecdsa.SignASN1(rand.Reader, p384, p.Challenge.Digest(crypto.SHA384))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		key    cardkey.Key
		at     time.Time
		change func(*cardauth.Proof)
		want   error
	}{
		{"PSS", public, at, func(p *cardauth.Proof) { p.Scheme, p.Signature = cardkey.PSSSHA256, pss }, nil},
		{"PSS with a salt of another length", public, at, func(p *cardauth.Proof) { p.Scheme, p.Signature = cardkey.PSSSHA256, longSalt }, cardauth.ErrNotGenuine},
		{"PSS where PKCS#1 v1.5 was asked", public, at, func(p *cardauth.Proof) { p.Signature = pss }, cardauth.ErrNotGenuine},
		{"PKCS#1 v1.5 where PSS was asked", public, at, func(p *cardauth.Proof) { p.Scheme = cardkey.PSSSHA256 }, cardauth.ErrNotGenuine},
		{"another key", cardKey(t, &other.PublicKey), at, nil, cardauth.ErrNotGenuine},
		{"another challenge", public, at, func(p *cardauth.Proof) { p.Challenge.Nonce[31] ^= 1 }, cardauth.ErrNotGenuine},
		{"no signature", public, at, func(p *cardauth.Proof) { p.Signature = nil }, cardauth.ErrNotGenuine},
		{"truncated signature", public, at, func(p *cardauth.Proof) { p.Signature = p.Signature[:255] }, cardauth.ErrNotGenuine},
		{"oversized signature", public, at, func(p *cardauth.Proof) { p.Signature = append(bytes.Clone(p.Signature), 0) }, cardauth.ErrNotGenuine},
		{"leading zero", public, at, func(p *cardauth.Proof) { p.Signature = append([]byte{0}, p.Signature...) }, cardauth.ErrNotGenuine},
		{"signature that is no residue", public, at, func(p *cardauth.Proof) { p.Signature = bytes.Repeat([]byte{0xFF}, 256) }, cardauth.ErrNotGenuine},
		{"signature of zeros", public, at, func(p *cardauth.Proof) { p.Signature = make([]byte, 256) }, cardauth.ErrNotGenuine},
		{"no scheme", public, at, func(p *cardauth.Proof) { p.Scheme = "" }, cardauth.ErrNotGenuine},
		{"unknown scheme", public, at, func(p *cardauth.Proof) { p.Scheme = "none" }, cardauth.ErrNotGenuine},
		{"zero head", public, at, func(p *cardauth.Proof) { p.Head = cardauth.Head{} }, cardauth.ErrHeadMalformed},
		{"before its time", public, time.Date(2026, 1, 14, 23, 59, 59, 0, time.UTC), nil, cardauth.ErrExpired},
		{"after its time", public, time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC), nil, cardauth.ErrExpired},
		{"no key", cardkey.Key{}, at, nil, cardauth.ErrUntrusted},
		{"P-384", elliptical, at, func(p *cardauth.Proof) { p.Scheme, p.Signature = cardkey.ECDSAP384SHA384, ecdsaSignature }, nil},
		{"P-384 with a signature of RSA", elliptical, at, nil, cardauth.ErrNotGenuine},
		{"RSA where P-384 was asked", public, at, func(p *cardauth.Proof) { p.Scheme = cardkey.ECDSAP384SHA384 }, cardauth.ErrNotGenuine},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := p
			if c.change != nil {
				c.change(&p)
			}
			holder, err := cardauth.Verify(p, c.key, c.at)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if holder.IsZero() != (c.want != nil) {
				t.Errorf("holder %v with error %v", holder, err)
			}
		})
	}
}

// The whole encoded message counts (RFC 8017 §8.2.2, step 4). A verifier that
// looks for the digest somewhere in it would accept these.
func TestForgedPaddingIsRefused(t *testing.T) {
	p, key := proof(t)
	digest := p.Challenge.Digest(crypto.SHA256)
	zeros := func(n int) []byte { return make([]byte, n) }
	noNull := []byte{0x30, 0x2F, 0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x04, 0x20}
	sha512t256 := bytes.Clone(sha256Info)
	sha512t256[14] = 0x06 // id-sha512-256, whose digest is as long
	longForm := slices.Concat([]byte{0x30, 0x81}, sha256Info[1:])
	good := block(1, 202, sha256Info, digest)
	dirty := bytes.Clone(good)
	dirty[100] = 0xFE
	for _, c := range []struct {
		name string
		em   []byte
		want error
	}{
		{"as it should be", good, nil},
		{"short padding, garbage behind the digest", block(1, 8, sha256Info, digest, zeros(194)), cardauth.ErrNotGenuine},
		{"padding a byte short, a zero behind the digest", block(1, 201, sha256Info, digest, zeros(1)), cardauth.ErrNotGenuine},
		{"padding a byte short, a zero before DigestInfo", block(1, 201, zeros(1), sha256Info, digest), cardauth.ErrNotGenuine},
		{"no padding", block(1, 0, sha256Info, digest, zeros(202)), cardauth.ErrNotGenuine},
		{"a byte of the padding is not FF", dirty, cardauth.ErrNotGenuine},
		{"block type 2", block(2, 202, sha256Info, digest), cardauth.ErrNotGenuine},
		{"block type 0", block(0, 202, sha256Info, digest), cardauth.ErrNotGenuine},
		{"no NULL", block(1, 204, noNull, digest), cardauth.ErrNotGenuine},
		{"another hash", block(1, 202, sha512t256, digest), cardauth.ErrNotGenuine},
		{"length in long form", block(1, 201, longForm, digest), cardauth.ErrNotGenuine},
		{"no DigestInfo", block(1, 221, digest), cardauth.ErrNotGenuine},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.em) != 256 {
				t.Fatalf("encoded message of %d bytes", len(c.em))
			}
			p := p
			p.Signature = raw(key, c.em)
			if _, err := cardauth.Verify(p, cardKey(t, &key.PublicKey), at); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}
