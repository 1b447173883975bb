package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A canary is a secret of keys that nothing the agent writes may hold: no log and no
// output, and no file of its own either.
type canary struct {
	what string
	text []byte
}

// canaries of a terminal are its keys as they are written in memory and as text, the
// key source, and the content of each file whose name ends in ".pin", save PINs of four digits.
func canaries(t testing.TB, s site) (all []canary) {
	t.Helper()
	w := theTown(t)
	add := func(what string, b []byte) {
		all = append(all, canary{what, b}, canary{what, []byte(hex.EncodeToString(b))}, canary{what, []byte(strings.ToUpper(hex.EncodeToString(b)))},
			canary{what, []byte(base64.StdEncoding.EncodeToString(b))}, canary{what, []byte(strings.Trim(fmt.Sprint(b), "[]"))})
	}
	key := w.TerminalKey
	add("the terminal's private exponent", key.D.Bytes()[:48])
	for _, p := range key.Primes {
		add("a prime of the terminal's key", p.Bytes()[:48])
	}
	add("the identity key", w.IdentityKey.Seed())
	add("the scope key", w.ScopeSecret)
	secrets, err := filepath.Glob(s.path("*.pin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(secrets, s.path("key-source")) {
		b, err := os.ReadFile(name)
		if b = bytes.TrimSpace(b); err == nil && len(b) > 4 { // four digits are in every log
			all = append(all, canary{filepath.Base(name), b})
		}
	}
	return all
}

// sings gives the first canary that is in b.
func sings(all []canary, b []byte) (what string, found bool) {
	for _, c := range all {
		if len(c.text) > 0 && bytes.Contains(b, c.text) {
			return c.what, true
		}
	}
	return "", false
}

// keepsKeys fails the test when what a program printed holds a canary.
func keepsKeys(t testing.TB, s site, printed []byte) {
	t.Helper()
	if what, found := sings(canaries(t, s), printed); found {
		t.Errorf("%s was printed", what)
	}
}

// writesNoKeys looks, at the end of a test, into every file of the terminal save
// those that are there to hold a secret.
func writesNoKeys(t testing.TB, s site) {
	t.Helper()
	all := canaries(t, s)
	err := filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == s.path("key-source") || filepath.Ext(name) == ".pin" {
			return err
		}
		b, err := os.ReadFile(name)
		if what, found := sings(all, b); found {
			t.Errorf("%s is in %s", what, name)
		}
		return err
	})
	if err != nil {
		t.Errorf("looking for secrets: %v", err)
	}
}

// process tells what everybody on the machine, or its user, can see of the agent.
func (a *agent) process() {
	a.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", a.cmd.Process.Pid)
	limits, err := os.ReadFile(proc + "limits")
	if err != nil {
		return // it has ended
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(strings.TrimPrefix(line, "Max core file size")); strings.HasPrefix(line, "Max core file size") && (f[0] != "0" || f[1] != "0") {
			a.t.Errorf("core dumps: %s", line)
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		if b, err := os.ReadFile(proc + name); err == nil {
			keepsKeys(a.t, a.site, b)
		}
	}
}

// The search of all the other tests must be able to fail.
func TestCanariesAreFound(t *testing.T) {
	t.Parallel()
	w := theTown(t)
	s := site{dir: t.TempDir()}
	s.write(t, "key-source", []byte("a source of keys\n"))
	s.write(t, "hsm.pin", []byte("canary-4711\n"))
	all := canaries(t, s)
	for _, leak := range [][]byte{
		[]byte("PIN canary-4711."), []byte(`{"error":"a source of keys"}`), w.ScopeSecret, []byte(fmt.Sprintf("%x", w.ScopeSecret)),
		[]byte(fmt.Sprint(w.ScopeSecret)), w.TerminalKey.D.Bytes(), []byte(base64.StdEncoding.EncodeToString(w.IdentityKey.Seed())),
	} {
		if _, found := sings(all, append([]byte("before "), leak...)); !found {
			t.Errorf("nobody minds %.20q", leak)
		}
	}
	if what, found := sings(all, []byte("the terminal works")); found {
		t.Errorf("%s is found where it is not", what)
	}
}
