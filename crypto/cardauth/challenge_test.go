package cardauth_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
)

// The vectors were computed apart from this code (testdata/gen).
func TestChallengeVectors(t *testing.T) {
	b, err := os.ReadFile("../../testdata/vectors/challenge/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Comment, Scope, Terminal, Purpose, Ticket, Nonce, Digest string }
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	doc, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, []byte(vectors[0].Digest)) {
		t.Error("docs/protocol.md shows another digest than the first vector")
	}
	seen := make(map[string]string)
	for _, v := range vectors {
		c := cardauth.Challenge{Scope: v.Scope, Terminal: v.Terminal, Purpose: v.Purpose, Ticket: v.Ticket}
		nonce, err := hex.DecodeString(v.Nonce)
		if err != nil || len(nonce) != len(c.Nonce) {
			t.Fatalf("%s: nonce %q", v.Comment, v.Nonce)
		}
		copy(c.Nonce[:], nonce)
		if got := hex.EncodeToString(c.Digest(crypto.SHA256)); got != v.Digest {
			t.Errorf("%s: digest %s, want %s", v.Comment, got, v.Digest)
		}
		if other, ok := seen[v.Digest]; ok {
			t.Errorf("%s: same digest as %s", v.Comment, other)
		}
		seen[v.Digest] = v.Comment
	}
}

func TestEveryFieldBindsTheAnswer(t *testing.T) {
	base := cardauth.Challenge{Scope: "ab", Terminal: "c", Purpose: cardauth.PurposeGate, Ticket: "t"}
	for name, change := range map[string]func(*cardauth.Challenge){
		"scope":                          func(c *cardauth.Challenge) { c.Scope = "other" },
		"terminal":                       func(c *cardauth.Challenge) { c.Terminal = "other" },
		"purpose":                        func(c *cardauth.Challenge) { c.Purpose = "other" },
		"ticket":                         func(c *cardauth.Challenge) { c.Ticket = "" },
		"nonce":                          func(c *cardauth.Challenge) { c.Nonce[31] = 1 },
		"scope and terminal, rearranged": func(c *cardauth.Challenge) { c.Scope, c.Terminal = "a", "bc" },
		"purpose and ticket, rearranged": func(c *cardauth.Challenge) { c.Purpose, c.Ticket = "gatet", "" },
	} {
		c := base
		change(&c)
		if bytes.Equal(c.Digest(crypto.SHA256), base.Digest(crypto.SHA256)) {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func TestChallengesAreFresh(t *testing.T) {
	var a, b cardauth.Challenge
	if err := errors.Join(a.Fresh(rand.Reader), b.Fresh(rand.Reader)); err != nil {
		t.Fatal(err)
	}
	if a.Nonce == b.Nonce || bytes.Equal(a.Digest(crypto.SHA256), b.Digest(crypto.SHA256)) {
		t.Error("two challenges are the same")
	}
	if a.Nonce == [32]byte{} {
		t.Error("the nonce is zero")
	}
}

func TestShortRandomIsNoChallenge(t *testing.T) {
	var c cardauth.Challenge
	if err := c.Fresh(bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("31 bytes: error %v", err)
	}
	if err := c.Fresh(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("no byte: error %v", err)
	}
}
