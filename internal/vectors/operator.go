// Package vectors reads those of testdata/vectors that the tests of several packages
// share.
package vectors

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
)

// An OperatorVector is a lease and a file of commands for one terminal, made by
// testdata/gen/operator_vectors.py, which owes nothing to the packages that read them.
type OperatorVector struct {
	Scope, Terminal, Hierarchy string

	IssuedAt        time.Time   `json:"-"`
	Trust           roles.Trust `json:"-"` // the root of both
	DeliveryPrivate hexBytes    `json:"delivery_private"`
	ScopeSecret     hexBytes    `json:"scope_secret"`
	RescueKey       string      `json:"rescue_key"`
	Lease, Commands hexBytes
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Operator reads it, for a package two folders deep.
func Operator(t *testing.T) OperatorVector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "operator", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		OperatorVector
		Issued     int64    `json:"issued_at"`
		RootPublic hexBytes `json:"root_public"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(v.RootPublic)
	if err != nil {
		t.Fatal(err)
	}
	root, err := roles.NewRoot(1, public)
	if err != nil {
		t.Fatal(err)
	}
	v.IssuedAt, v.Trust = time.Unix(v.Issued, 0).UTC(), roles.Trust{Root: root}
	return v.OperatorVector
}
