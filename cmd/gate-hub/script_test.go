package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli/clitest"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/whitelist"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"gate-hub": main}) }

// cards are the certificates of two cards, and the authority of both.
var cards = sync.OnceValues(func() (map[string][]byte, error) {
	w, err := world.New(time.Now())
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"authority.pem": toPEM(w.Authority.CACertificate().Raw)}
	for _, name := range []string{"alice", "bob"} {
		img, err := w.Card(perso.CardOptions{})
		if err != nil {
			return nil, err
		}
		files[name+".pem"] = toPEM(img.AuthenticationCertificate())
	}
	return files, nil
})

func toPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// The command line. Each script has the certificates of two cards, alice.pem and
// bob.pem, and of their authority, a port at $PORT, the time at $NOW, and beside the usual
// commands:
//
//	code N PROGRAM ARG...   runs a program that exits with N
//	json                    standard output is JSON objects and nothing else
//	edit FILE OLD NEW       replaces text in a file, which must have it
//	fetch URL CA FILE       fetches a file over HTTPS, also from a server that starts
//	waitrows URL CA N       fetches a manifest until it is of N rows
//	settings FILE NEW       gives the keys of a TOML file the values that another has
//	begins FILE PART        a file begins as another is
//	ended HUB CARD HOLDER   registers a card, whose certificate has ended a year ago, in scope arena
func TestCommandLine(t *testing.T) {
	files, err := cards()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), content, 0o600); err != nil {
					return err
				}
			}
			if err := ceremony(env.WorkDir); err != nil {
				return err
			}
			port, err := freePort()
			env.Setenv("PORT", port)
			env.Setenv("NOW", time.Now().UTC().Format(time.RFC3339))
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": clitest.Code, "json": clitest.JSON, "edit": edit, "fetch": download, "waitrows": waitRows, "ended": addEnded, "settings": writeSettings, "begins": begins, "sent": sent, "beat": beat,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

func addEnded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: ended HUB CARD HOLDER")
	}
	c, err := readCard(ts.MkAbs(args[1]))
	ts.Check(err)
	c.NotAfter = time.Now().AddDate(-1, 0, 0)
	r, err := registry.Open(context.Background(), "sqlite:"+filepath.Join(ts.MkAbs(args[0]), "registry.db"))
	ts.Check(err)
	holder, err := r.Holder(context.Background(), "arena", args[2])
	ts.Check(err)
	_, err = r.AddCredential(context.Background(), registry.By{Actor: "test", At: time.Now()}, "arena", holder, c)
	ts.Check(errors.Join(err, r.Close()))
}

func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	at := regexp.MustCompile(args[1])
	if !at.MatchString(text) {
		ts.Fatalf("no %q in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(at.ReplaceAllLiteralString(text, args[2])), 0o600))
}

func download(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: fetch URL CA FILE")
	}
	until(ts, args[0], args[1], func(b []byte) error { return os.WriteFile(ts.MkAbs(args[2]), b, 0o600) })
}

func waitRows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: waitrows URL CA N")
	}
	until(ts, args[0], args[1], func(b []byte) error {
		payload, err := sign1.UnverifiedPayload(b)
		if err != nil {
			return err
		}
		m, err := whitelist.PeekManifest(payload)
		if err == nil && fmt.Sprint(m.Rows) != args[2] {
			err = fmt.Errorf("a list of %d rows", m.Rows)
		}
		return err
	})
}

// until fetches a file until it is right.
func until(ts *testscript.TestScript, url, ca string, right func([]byte) error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ts.ReadFile(ca)))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var b []byte
		if b, err = get(client, url); err == nil {
			err = right(b)
		}
		if err == nil {
			return
		}
	}
	ts.Fatalf("%v", err)
}

func get(client *http.Client, url string) ([]byte, error) {
	r, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(r.Body)
	if err = errors.Join(err, r.Body.Close()); err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, r.Status)
	}
	return b.Bytes(), err
}
