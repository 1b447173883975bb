package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli/clitest"
	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// The command lines of both programs. Each script has a terminal in
// $WORK/terminal with its list not yet imported, cards in $WORK/cards, and
// beside the usual commands:
//
//	code N PROGRAM ARG...   runs a program that exits with N
//	json                    standard output is JSON objects and nothing else
//	pcscd                   starts a private pcscd; its first slot is at $VPCD
//
// and the conditions [pcscd] and [shared-data], which are always met in CI.
func TestCommandLine(t *testing.T) {
	w := theTown(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", programs+":"+env.Getenv("PATH"))
			env.Setenv("GATE_SHARED_DATA", os.Getenv("GATE_SHARED_DATA"))
			return furnish(w, env.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": clitest.Code, "json": clitest.JSON, "pcscd": startPCSCD,
		},
		Condition: func(name string) (bool, error) {
			ci := os.Getenv("CI") == "true"
			switch name {
			case "pcscd":
				d, err := pcscd.Start(t.Context(), pcscd.Options{})
				if errors.Is(err, pcscd.ErrNotInstalled) {
					return ci, nil
				}
				if err != nil {
					return false, err
				}
				return true, d.Stop()
			case "shared-data":
				return ci || os.Getenv("GATE_SHARED_DATA") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// furnish fills the folder of a script.
func furnish(w town, dir string) error {
	terminal := filepath.Join(dir, "terminal")
	if _, err := w.Install(terminal, `["tap-use", "external-auth"]`, w.list); err != nil {
		return err
	}
	// A terminal key that no certificate of this terminal is for.
	var other *vcard.Key
	cards := filepath.Join(dir, "cards")
	if err := os.Mkdir(cards, 0o700); err != nil {
		return err
	}
	for _, p := range w.people {
		name, ok := map[string]string{
			"listed": "alice", "not listed": "stranger", "phone that wants its PIN": "android",
		}[p.Name]
		if !ok || p.Method != "tap-use" {
			continue
		}
		b, err := p.Image.Encode()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cards, name+".json"), b, 0o600); err != nil {
			return err
		}
		other = &p.Image.Application(vcard.AIDJPKI()).Keys[0]
	}
	uri := fmt.Sprintf("sealed:path=%s/other.key;key-source=%s/key-source", terminal, terminal)
	return new(keystore.Store).Import(context.Background(), uri, keystore.ExternalAuth, other.Private.Signer)
}

func startPCSCD(ts *testscript.TestScript, neg bool, args []string) {
	d, err := pcscd.Start(context.Background(), pcscd.Options{})
	ts.Check(err)
	ts.Defer(func() { ts.Check(d.Stop()) })
	name, socket, _ := strings.Cut(d.Env(), "=")
	ts.Setenv(name, socket)
	ts.Setenv("VPCD", d.SlotAddr(0))
}
