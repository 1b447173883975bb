package lease

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
)

// A lease that was made by testdata/gen/operator_vectors.py, which owes nothing to this
// package, nor to Go's HPKE.
func TestLeaseOfTheVectorOpens(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "operator", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Scope, Terminal, Hierarchy string
		IssuedAt                   int64  `json:"issued_at"`
		RootPublic                 string `json:"root_public"`
		DeliveryPrivate            string `json:"delivery_private"`
		ScopeSecret                string `json:"scope_secret"`
		Lease                      string
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	bytesOf := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 {
			t.Fatalf("%q: %v", s, err)
		}
		return b
	}
	public, err := x509.ParsePKIXPublicKey(bytesOf(v.RootPublic))
	if err != nil {
		t.Fatal(err)
	}
	root, err := roles.NewRoot(1, public)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Read(bytesOf(v.Lease), roles.Trust{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	issued := time.Unix(v.IssuedAt, 0).UTC()
	if l.Terms != (Terms{v.Scope, v.Hierarchy, v.Terminal, issued, issued.Add(7 * 24 * time.Hour)}) || l.Delegation() != 2 || l.Valid(issued) != nil {
		t.Errorf("%+v", l.Terms)
	}
	key, err := ParseDeliveryKey(bytesOf(v.DeliveryPrivate))
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	want, err := cardid.NewScopeKey(bytesOf(v.ScopeSecret))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID([]byte("head")) != want.ID([]byte("head")) {
		t.Error("opens as another scope key")
	}
	again, err := encode(l.Terms, l.Check, l.sealed)
	if err != nil || !bytes.Equal(again, l.payload.Bytes()) {
		t.Errorf("this package would encode it as %x, %v", again, err)
	}
}
