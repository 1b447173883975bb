package e2e

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

type rotated struct {
	InForce string `json:"in_force"`
	State   string
	Keys    []struct {
		Medium, Key, Why string
		Signs            bool
	}
}

// successor makes a second external-authentication key for the terminal, certified
// by the town's authority, and gives the flags that name it.
func (s site) successor(t testing.TB, name string) (uri string, flags []string) {
	t.Helper()
	uri = s.sealed(name + ".key")
	text := s.must(t, "key", "generate", "--purpose", "external-auth", uri)
	intermediate, last, err := theTown(t).Authority.TerminalCertificates(publicOf(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return uri, []string{
		"--key", uri, "--certificate", s.write(t, name+"-intermediate.cvc", intermediate), "--certificate", s.write(t, name+"-terminal.cvc", last),
	}
}

// sealed is the URI of a key in a file.
func (s site) sealed(file string) string {
	return fmt.Sprintf("sealed:path=%s;key-source=%s", s.path(file), s.path("key-source"))
}

// publicOf reads the public half of a key as the programs print it.
func publicOf(t testing.TB, text string) *rsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no public half in %q", text)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return public.(*rsa.PublicKey)
}

// The terminal's key is replaced while people come, at an instant; it is taken back,
// and replaced for good.
func TestKeyIsReplacedWhileTheGateWorks(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, `methods  = ["tap-use", "external-auth"]`, `methods  = ["external-auth"]`)
	s.edit(t, "first_use = true", "first_use = false")
	w := theTown(t)
	a := start(t, s, r)
	admitted := func(why string) {
		t.Helper()
		e := r.tap(a, w.bob(t))
		if want(t, e, terminal.Admit, terminal.OK); e.TerminalSignatures != 1 {
			t.Errorf("%s: %d signatures of the terminal's key", why, e.TerminalSignatures)
		}
	}
	status := func(state string, keys int) rotated {
		t.Helper()
		v := reads[rotated](t, s, "key", "rotate", "status")
		if v.State != state || len(v.Keys) != keys {
			t.Fatalf("%+v, want %s with %d keys", v, state, keys)
		}
		for _, k := range v.Keys {
			if !k.Signs {
				t.Errorf("%+v", k)
			}
		}
		return v
	}
	old := status("none", 1).InForce
	admitted("before")

	uri, flags := s.successor(t, "next")
	schedule := func(from string) {
		t.Helper()
		s.must(t, append([]string{"key", "rotate", "schedule", "--from", from}, flags...)...)
	}
	schedule(time.Now().Add(time.Hour).Format(time.RFC3339))
	v := status("scheduled", 2)
	next := v.Keys[1].Key
	if v.InForce != old || next == old {
		t.Fatalf("%+v", v)
	}
	a.says(`"kcv":"` + next + `","from"`)
	admitted("scheduled")

	schedule("now")
	if status("switched", 2).InForce != next {
		t.Error("the new key is not in force")
	}
	a.says(`"msg":"external-authentication key in use","key":"sealed","kcv":"` + next + `"`)
	admitted("switched")

	// Neither is a key in force forgotten, nor is the rotation over by itself.
	_, other := s.successor(t, "third")
	for _, c := range []struct {
		args []string
		want string
	}{
		{append([]string{"key", "rotate", "schedule", "--from", "now"}, other...), "the key of an earlier rotation is in force"},
		{[]string{"key", "rotate", "finish"}, uri},
	} {
		if _, stderr, code := s.run(t, c.args...); code != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit code %d: %s", c.args, code, stderr)
		}
	}

	s.must(t, "key", "rotate", "back")
	if status("back", 2).InForce != old {
		t.Error("the old key is not in force")
	}
	a.says(`"back":true`)
	admitted("taken back")

	schedule("now")
	inUse := `"msg":"external-authentication key in use","key":"sealed","kcv":"`
	for deadline := time.Now().Add(patience); strings.Count(a.stderr.String(), inUse+next) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the agent does not use the new key again")
		}
	}
	s.edit(t, s.path("external-auth.key"), s.path("next.key"))
	// Its certificates in the file may be the last copy.
	if _, stderr, code := s.run(t, "key", "rotate", "finish"); code != 3 || !strings.Contains(stderr, "certifies another key") {
		t.Errorf("certificates of the old key: exit code %d: %s", code, stderr)
	}
	s.edit(t, `intermediate.cvc", "terminal.cvc`, `next-intermediate.cvc", "next-terminal.cvc`)
	s.must(t, "key", "rotate", "finish")
	if status("none", 1).InForce != next {
		t.Error("the new key is not in force")
	}
	// The running agent has the configuration of its start, with the old key.
	a.says(`"msg":"no rotation of the external-authentication key any more"`)
	s.must(t, "key", "destroy", "--purpose", "external-auth", "--kcv", old, s.sealed("external-auth.key"))
	admitted("finished")
	if n := strings.Count(a.stderr.String(), inUse+old); n != 2 { // at the start, and taken back
		t.Errorf("the old key came into use %d times", n)
	}
	a.stop()
	b := start(t, s, r)
	want(t, r.tap(b, w.person(t, "listed", "tap-use").Image), terminal.Admit, terminal.OK)
	b.stop()
	agree(t, s, append(a.all, b.all...))
}

func TestRotationThatCannotWorkIsNotWritten(t *testing.T) {
	t.Parallel()
	s := ready(t)
	uri, flags := s.successor(t, "next")
	_, other := s.successor(t, "other")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no instant", flags, 2, "--from is missing"},
		{"no zone", append(flags, "--from", "2099-04-01T03:00:00"), 2, "want an instant with its zone"},
		{"over", append(flags, "--from", "2020-04-01T03:00:00Z"), 2, "is over"},
		{"no certificate", []string{"--key", uri, "--from", "now"}, 2, "--certificate is missing"},
		{"one certificate", append(flags[:4:4], "--from", "now"), 3, "wants 2"},
		{"certificates of another key", append(append([]string{"--key", uri}, other[2:]...), "--from", "now"), 3, "certifies another key"},
		{"key that is not there", append(append([]string{"--key", strings.Replace(uri, "next.key", "absent.key", 1)}, flags[2:]...), "--from", "now"), 3, "no such file"},
		{"relative path", append([]string{"--key", "sealed:path=a;key-source=b", "--from", "now"}, flags[2:]...), 2, "relative path"},
		{"the configured key", append([]string{"--key", fmt.Sprintf("sealed:path=%s;key-source=%s", s.path("external-auth.key"), s.path("key-source")), "--from", "now"}, flags[2:]...), 2, "nothing to rotate"},
	} {
		if _, stderr, code := s.run(t, append([]string{"key", "rotate", "schedule"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d: %s, want %d and %q", c.name, code, stderr, c.code, c.want)
		}
	}
	if v := reads[rotated](t, s, "key", "rotate", "status"); v.State != "none" {
		t.Errorf("%+v", v)
	}
	for _, verb := range []string{"back", "finish"} {
		if _, stderr, code := s.run(t, "key", "rotate", verb); code != 1 || !strings.Contains(stderr, "there is no rotation") {
			t.Errorf("%s: exit code %d: %s", verb, code, stderr)
		}
	}

	// A file that was edited badly stops the start: the old key may be revoked.
	s.write(t, "state/rotation.toml", []byte("format = 1\nkey = \"x\"\n"))
	if _, stderr, code := s.run(t, "check-config"); code != 3 || !strings.Contains(stderr, "rotation.toml") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// A new key that does not open is a reason to take it back.
func TestBrokenKeyIsTakenBack(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, `methods  = ["tap-use", "external-auth"]`, `methods  = ["external-auth"]`)
	s.edit(t, "first_use = true", "first_use = false")
	_, flags := s.successor(t, "next")
	s.must(t, append([]string{"key", "rotate", "schedule", "--from", "now"}, flags...)...)
	if err := os.WriteFile(s.path("next.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := s.run(t, "check-config"); code != 3 || !strings.Contains(stderr, "damaged") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	s.must(t, "key", "rotate", "back")
	v := reads[rotated](t, s, "key", "rotate", "status")
	if v.State != "back" || len(v.Keys) != 2 || !v.Keys[0].Signs || v.Keys[1].Signs || v.InForce != v.Keys[0].Key {
		t.Errorf("%+v", v)
	}
	a := start(t, s, r)
	want(t, r.tap(a, theTown(t).bob(t)), terminal.Admit, terminal.OK)
	a.stop()
}

// What somebody writes into the file changes nothing of the key that is in force.
func TestCertificatesOfAnotherKeyAreNotTakenOver(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, `methods  = ["tap-use", "external-auth"]`, `methods  = ["external-auth"]`)
	s.edit(t, "first_use = true", "first_use = false")
	_, flags := s.successor(t, "next")
	s.successor(t, "other")
	s.must(t, append([]string{"key", "rotate", "schedule", "--from", "now"}, flags...)...)
	a := start(t, s, r)
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	in64 := base64.StdEncoding.EncodeToString
	s.write(t, "state/rotation.toml", bytes.Replace(read("state/rotation.toml"),
		[]byte(in64(read("next-terminal.cvc"))), []byte(in64(read("other-terminal.cvc"))), 1))
	a.says("rotation not taken over")
	want(t, r.tap(a, theTown(t).bob(t)), terminal.Admit, terminal.OK)
	a.stop()
}

// What is scheduled and does not open keeps no gate shut before its instant.
func TestScheduledKeyThatDoesNotOpenKeepsNoGateShut(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	_, flags := s.successor(t, "next")
	s.must(t, append([]string{"key", "rotate", "schedule", "--from", time.Now().Add(time.Hour).Format(time.RFC3339)}, flags...)...)
	if err := os.Rename(s.path("next.key"), s.path("away.key")); err != nil {
		t.Fatal(err)
	}
	a := start(t, s, r)
	a.says(`"msg":"rotation not taken over: the keys are those of before"`)
	want(t, r.tap(a, theTown(t).bob(t)), terminal.Admit, terminal.OK)
	if err := os.Rename(s.path("away.key"), s.path("next.key")); err != nil {
		t.Fatal(err)
	}
	a.says(`"msg":"rotation of the external-authentication key"`)
	a.stop()
	agree(t, s, a.all)
}
