package main

import (
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

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

// What a card calls itself, and what stands in somebody's trace, is shown on an
// operator's terminal, which does as control characters say.
func TestNothingThatIsShownControlsTheTerminal(t *testing.T) {
	const hostile = "\x1b]0;title\x07\x1b[2J\u009b31m\r\nrelay open\u202e"
	for name, print := range map[string]func(io.Writer){
		"card read": cardReport{Token: hostile, TrustError: hostile, Certificate: []byte{1}}.print,
		"card replay": replayReport{
			Agent: hostile, Profile: hostile, Dialogue: hostile,
			replayOutcome: replayOutcome{Reason: hostile, Detail: hostile}, Then: &replayOutcome{Detail: hostile},
		}.print,
	} {
		var out strings.Builder
		print(&out)
		if !strings.Contains(out.String(), "[2J") {
			t.Errorf("%s shows nothing of it", name)
		}
		for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if line == "relay open" || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s shows %q", name, line)
			}
		}
	}
}
