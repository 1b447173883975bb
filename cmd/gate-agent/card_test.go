package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/anchor"
)

// A real card carries the certificate of its authority: without a line of
// configuration that says so, the pins in the program do.
func TestPinnedAuthorityOfACardIsTrustedWithoutConfiguredFiles(t *testing.T) {
	shared := os.Getenv("GATE_SHARED_DATA")
	if shared == "" {
		t.Skip("GATE_SHARED_DATA is not set: no J-LIS certificate to try")
	}
	text, err := os.ReadFile(filepath.Join(shared, "jpki-ca", "auth_ca_2023.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM in the certificate file")
	}
	bare, err := builtinCardWith(nil)
	if err != nil {
		t.Fatal(err)
	}
	configured, err := (&config{Mode: anchor.Production}).openAnchors()
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]anchor.Set{"built-in": bare.anchors, "production": configured} {
		if learnt, err := set.Learn(block.Bytes); err != nil || len(learnt.Certificates()) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	test, err := (&config{Mode: anchor.Test}).openAnchors()
	if err != nil {
		t.Fatal(err)
	}
	if learnt, err := test.Learn(block.Bytes); err == nil || len(learnt.Certificates()) != 0 {
		t.Error("a test terminal trusts a production authority")
	}
}
