package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func TestMediumThatBreaksItsPromiseFailsTheTest(t *testing.T) {
	for _, c := range []struct {
		exportable, keeps, fails bool
	}{{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}} {
		err := promiseKept(c.exportable, keystore.Custody{Keeps: c.keeps})
		if _, refused := errors.AsType[cli.RefusedError](err); refused != c.fails {
			t.Errorf("exportable %v, keeps %v: %v", c.exportable, c.keeps, err)
		}
	}
}

func TestQuantilesAreThoseOfNearestRank(t *testing.T) {
	var took []time.Duration
	for i := 20; i > 0; i-- {
		took = append(took, time.Duration(i)*time.Millisecond)
	}
	if p50, p95 := quantileMS(took, 50), quantileMS(took, 95); p50 != 10 || p95 != 19 {
		t.Errorf("p50 %v, p95 %v", p50, p95)
	}
	if p95 := quantileMS(took[:1], 95); p95 != 20 {
		t.Errorf("of one: %v", p95)
	}
}

// What a token calls a key cannot move the cursor of whoever lists it, and a key
// without a public half is listed too.
func TestListedKeysAreShownAsTheyAre(t *testing.T) {
	key := newSealed(t, keystore.Identity)
	kcv, err := keystore.KCV(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := listedKeys([]keystore.Entry{
		{URI: "pkcs11:a", Label: "gate\x1b[2J", Purpose: keystore.Identity, Type: "ed25519", Public: key.Public()},
		{URI: "pkcs11:b", Type: "AES-256"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := printListed(&text, keys); err != nil {
		t.Fatal(err)
	}
	if s := text.String(); !strings.Contains(s, kcv+"  ed25519  identity") || strings.Contains(s, "\x1b") || !strings.Contains(s, "AES-256  -") {
		t.Errorf("%q", s)
	}
}

func TestCheckValueIsComparedAsPeopleTypeIt(t *testing.T) {
	const kcv = "C51D-1C23-AC02-3278"
	for _, same := range []string{kcv, "c51d-1c23-ac02-3278", "C51D1C23AC023278", " C51D 1C23 AC02 3278"} {
		if !sameKCV(same, kcv) {
			t.Errorf("%q is another", same)
		}
	}
	for _, other := range []string{"", "C51D", "C51D-1C23-AC02-3279", "C51D-1C23-AC02-32780"} {
		if sameKCV(other, kcv) {
			t.Errorf("%q is the same", other)
		}
	}
}

// newSealed makes a key of the usual type for a purpose.
func newSealed(t *testing.T, p keystore.Purpose) *keystore.Key {
	t.Helper()
	dir := t.TempDir()
	if err := keystore.GenerateKeySource(dir + "/source"); err != nil {
		t.Fatal(err)
	}
	var store keystore.Store
	uri := "sealed:path=" + dir + "/key;key-source=" + dir + "/source"
	if _, err := store.Generate(t.Context(), uri, p, keyTypes(p)[0]); err != nil {
		t.Fatal(err)
	}
	key, err := store.OpenSigner(t.Context(), uri, p)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What help shows is typed as it stands there.
func TestExamplesNameKeysThatCanBe(t *testing.T) {
	uri := regexp.MustCompile(`'((?:sealed|pkcs11|scard|tpm):[^']*)'`)
	seen := 0
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, m := range uri.FindAllStringSubmatch(cmd.Example, -1) {
			seen++
			if _, err := keystore.ParseMedium(m[1]); err != nil {
				t.Errorf("%s: %s: %v", cmd.CommandPath(), m[1], err)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	if look(rootCommand()); seen < 10 {
		t.Errorf("%d URIs were found", seen)
	}
}
