package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
)

// Fixed keys; they sign nothing but tests.
var (
	identity = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x1D}, 32)) // of the terminal
	another  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x2D}, 32)) // of another one
)

func readFile(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "testdata"}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// made is the key of testdata/cards/terminal.pem.
func made(t testing.TB) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(readFile(t, "cards", "terminal.pem"))
	if block == nil {
		t.Fatal("terminal.pem is no PEM file")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// good is the transcript of testdata/gen/ceremony_vectors.py.
func good(t testing.TB) Transcript {
	t.Helper()
	began := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	after := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	r := Transcript{
		Terminal: "gate-1-left", Scope: "demo-hall", Hierarchy: Test, Program: "v1.0.0",
		Begun: began, Ended: after(61_000),
		People:  [2]Person{{"山田 花子", Operator}, {"Jane Doe", Witness}},
		Purpose: keystore.ExternalAuth, Medium: "sealed", Custody: "sealed: key source on disk; a copied disk opens it", Exportable: true,
		Public: made(t).Public(),
		Steps: []Step{
			{Named, after(20_000), 0, 0}, {Generated, after(21_250), 0, 0},
			{Confirmed, after(40_000), 1, 1}, {Confirmed, after(60_000), 2, 2},
			{TestSigned, after(60_500), 0, 0}, {ExportTried, after(60_600), 0, 0},
		},
	}
	for i := range r.Nonce {
		r.Nonce[i] = byte(i)
	}
	return r
}

func sign(t testing.TB, r Transcript) []byte {
	t.Helper()
	msg, err := Sign(identity, made(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}
