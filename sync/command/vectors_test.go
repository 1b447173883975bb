package command

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

// Commands that were made by testdata/gen/operator_vectors.py, which owes nothing to
// this package.
func TestCommandsOfTheVectorAreRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "operator", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Scope, Terminal, Hierarchy string
		IssuedAt                   int64  `json:"issued_at"`
		RootPublic                 string `json:"root_public"`
		RescueKey                  string `json:"rescue_key"`
		Commands                   string
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	spki, err := hex.DecodeString(v.RootPublic)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	root, err := roles.NewRoot(1, public)
	if err != nil {
		t.Fatal(err)
	}
	file, err := hex.DecodeString(v.Commands)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(v.IssuedAt, 0).UTC()
	all, delegation, err := Terminal{Scope: v.Scope, Hierarchy: v.Hierarchy, Name: v.Terminal, Trust: roles.Trust{Root: root}, At: at}.Read(file)
	if err != nil || delegation != 2 || len(all) != 4 {
		t.Fatalf("%+v, %d, %v", all, delegation, err)
	}
	for i, want := range []Command{
		{Action: OutOfOrder, Message: "改札を閉じます"}, {Action: InOrder}, {Action: ChangeScope, NewScope: "hall"}, {Action: Wipe, RescueKey: v.RescueKey},
	} {
		want.Scope, want.Hierarchy, want.Terminal, want.Number = v.Scope, v.Hierarchy, v.Terminal, uint64(i+1)
		want.IssuedAt, want.NotAfter = at, at.Add(24*time.Hour)
		if all[i].Err != nil || all[i].Command != want {
			t.Errorf("command %d: %+v, %v", i+1, all[i].Command, all[i].Err)
		}
	}
}
