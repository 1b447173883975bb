package upload

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// What docs/upload.md says, spelled out by testdata/gen/upload_vectors.py, which owes
// nothing to this package.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "upload", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Scope, Terminal, Incarnation, Agent, Sent, Refusal string

		AckKey  string `json:"ack_key"`
		Batches []struct {
			Name, Data, Error string
			First             uint64
			Hashes            []string
		}
		Acks []struct {
			Name, Message, Error, Hash string
			Through                    uint64
		}
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Batches) < 20 || len(v.Acks) < 5 {
		t.Fatalf("%d batches, %d acknowledgements", len(v.Batches), len(v.Acks))
	}
	kinds := map[string]error{"version": ErrVersion, "malformed": ErrMalformed}
	for _, c := range v.Batches {
		data, err := base64.StdEncoding.DecodeString(c.Data)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseBatch(data)
		if c.Error != "" {
			if !errors.Is(err, kinds[c.Error]) || kinds[c.Error] == nil {
				t.Errorf("%s: %v, want %s", c.Name, err, c.Error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if b.Scope != v.Scope || b.Terminal != v.Terminal || hex.EncodeToString(b.Incarnation[:]) != v.Incarnation || b.Agent != v.Agent || instant(b.Sent) != v.Sent || b.First != c.First {
			t.Errorf("%s: %+v", c.Name, b)
		}
		var hashes []string
		head := b.Prev
		for _, e := range b.Events {
			head = NextHash(head, e)
			hashes = append(hashes, hex.EncodeToString(head[:]))
		}
		if b.Omitted != nil {
			hashes = append(hashes, hex.EncodeToString(b.Omitted[:]))
		}
		if len(hashes) != len(c.Hashes) {
			t.Fatalf("%s: %d events, want %d", c.Name, len(hashes), len(c.Hashes))
		}
		for i := range hashes {
			if hashes[i] != c.Hashes[i] {
				t.Errorf("%s: event %d has the hash %s, want %s", c.Name, i+1, hashes[i], c.Hashes[i])
			}
		}
		if again, err := b.Encode(); c.Name != "members of a later program" && (err != nil || !bytes.Equal(again, data)) {
			t.Errorf("%s: it is written as\n%s, %v, not\n%s", c.Name, again, err, data)
		}
	}

	spki, err := hex.DecodeString(v.AckKey)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := Keys(v.Scope, [][]byte{spki})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Acks {
		message, err := hex.DecodeString(c.Message)
		if err != nil {
			t.Fatal(err)
		}
		a, err := parseReply(keys, message)
		switch {
		case c.Error == "signature" && !errors.Is(err, sign1.ErrSignature), c.Error != "" && err == nil:
			t.Errorf("%s: %+v, %v", c.Name, a, err)
		case c.Error == "" && (err != nil || a.Through != c.Through || hex.EncodeToString(a.Hash[:]) != c.Hash || a.Terminal != v.Terminal):
			t.Errorf("%s: %+v, %v", c.Name, a, err)
		}
	}
	_, err = parseReply(keys, []byte(v.Refusal))
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Code != Clone || r.Seq != 3 || string(r.Encode()) != v.Refusal {
		t.Errorf("refusal: %v", err)
	}
	if _, err := Keys(v.Scope, [][]byte{{1}}); err == nil {
		t.Error("bytes that are no key are trusted")
	}
	if _, err := x509.ParsePKIXPublicKey(spki); err != nil {
		t.Error(err)
	}
}

// The chain is that of the journal's own vectors.
func TestChainIsTheJournals(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "journal", "chain.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Incarnation string
		First       string `json:"first_previous"`
		Events      []struct{ Bytes, Hash string }
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	var id Incarnation
	if err := fixed(id[:], v.Incarnation); err != nil {
		t.Fatal(err)
	}
	head := FirstHash(id)
	if hex.EncodeToString(head[:]) != v.First || len(v.Events) == 0 {
		t.Errorf("it begins with %x", head)
	}
	for i, e := range v.Events {
		if head = NextHash(head, []byte(e.Bytes)); hex.EncodeToString(head[:]) != e.Hash {
			t.Fatalf("event %d has the hash %x", i+1, head)
		}
	}
}
