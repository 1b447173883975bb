package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/ceremony"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/world"
)

// A hall is a running key ceremony, at a terminal of its own.
type hall struct {
	*pty
	site       site
	cmd        *exec.Cmd
	stdout     bytes.Buffer
	key        string // the file that it makes
	transcript string
}

// newHall begins a ceremony of a key in the file new.key, or of the one at uri.
func newHall(t *testing.T, s site, uri string, args ...string) *hall {
	t.Helper()
	h := &hall{pty: newPTY(t), site: s, key: s.path("new.key"), transcript: filepath.Join(t.TempDir(), "transcript")}
	if uri == "" {
		uri = h.uri()
	}
	h.cmd = exec.Command(filepath.Join(programs, "gate-agent"), append([]string{"key", "ceremony", "--purpose", "external-auth",
		"--config", s.config, "--transcript", h.transcript, uri}, args...)...)
	h.cmd.Stdout = &h.stdout
	h.control(h.cmd)
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.cmd.Process.Kill() })
	return h
}

func (h *hall) uri() string {
	return "sealed:path=" + h.key + ";key-source=" + h.site.path("key-source")
}

func (h *hall) named(operator, witness string) {
	h.t.Helper()
	h.sees("Name of the operator: ")
	h.types(operator)
	h.sees("Name of the witness: ")
	h.types(witness)
}

// kcv is the check value on the screen.
func (h *hall) kcv() string {
	h.t.Helper()
	h.sees("Each of you reads it, and types it.")
	shown := regexp.MustCompile(`([0-9A-F]{4}-){3}[0-9A-F]{4}`).FindString(h.screen.String())
	if shown == "" {
		h.t.Fatal("no check value is shown")
	}
	return shown
}

func (h *hall) end() int {
	h.t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.cmd.Wait() // ProcessState has it all
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		_ = h.cmd.Process.Kill()
		h.t.Fatal("the ceremony does not end")
	}
	transcript, _ := os.ReadFile(h.transcript) // there may be none
	for _, written := range []string{h.screen.String(), h.stdout.String(), string(transcript)} {
		keepsSecrets(h.t, h.site, written)
		keepsKeys(h.t, h.site, []byte(written))
	}
	return h.cmd.ProcessState.ExitCode()
}

// nothing fails the test when a key or a transcript is left.
func (h *hall) nothing() {
	h.t.Helper()
	if _, err := os.Stat(h.key); !os.IsNotExist(err) {
		h.t.Errorf("the key is there: %v", err)
	}
	files, err := os.ReadDir(filepath.Dir(h.transcript))
	if err != nil || len(files) > 0 {
		h.t.Errorf("left behind: %v, %v", files, err)
	}
	if h.stdout.Len() > 0 {
		h.t.Errorf("standard output: %s", &h.stdout)
	}
}

// Two people make a key, and whoever is given the transcript and the terminal's
// public key can verify it.
func TestKeyCeremony(t *testing.T) {
	t.Parallel()
	s := install(t, shortDir(t))
	h := newHall(t, s, "", "--json")
	h.sees("Name of the operator: ")
	h.types("  ")
	h.sees("A name has 1 to 64 characters.")
	h.types(strings.Repeat("山", 65))
	h.sees("A name has 1 to 64 characters.")
	h.sees("Name of the operator: ")
	h.types("山田　花子")
	h.sees("Name of the witness: ")
	h.types("山田 花子 ")
	h.sees("The witness is another person than the operator.")
	h.types("Jane Doe")
	kcv := h.kcv()
	h.sees("山田 花子: KCV (表示されません / not shown): ")
	if h.echoes() {
		t.Error("the second one sees what the first one types")
	}
	h.types(kcv)
	h.sees("Jane Doe: KCV (表示されません / not shown): ")
	h.types("0000-0000-0000-0000")
	h.sees("That is not the check value. Tries left: 2.")
	h.types(strings.ToLower(strings.ReplaceAll(kcv, "-", " ")))
	h.sees("The key is made.")
	if code := h.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if n := strings.Count(h.screen.String(), kcv); n != 1 {
		t.Errorf("the check value is %d times on the screen", n)
	}
	if !h.echoes() {
		t.Error("the terminal does not show what is typed")
	}

	msg, err := os.ReadFile(h.transcript)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.path("identity.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := sign1.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ceremony.Verify(identity, msg)
	if err != nil {
		t.Fatal(err)
	}
	if got.Terminal != world.Terminal || got.Scope != world.Scope || got.Hierarchy != ceremony.Test || got.KCV() != kcv || !got.Exportable ||
		got.People != [2]ceremony.Person{{Name: "山田 花子", Role: ceremony.Operator}, {Name: "Jane Doe", Role: ceremony.Witness}} ||
		got.Steps[2].Tries != 1 || got.Steps[3].Tries != 2 {
		t.Errorf("%+v", got)
	}
	// It is the key that lies on the medium.
	key, err := new(keystore.Store).OpenSigner(t.Context(), h.uri(), keystore.ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	if public, err := keystore.KCV(key.Public()); err != nil || public != kcv {
		t.Errorf("the key is %s, %v", public, err)
	}

	run := func(args ...string) (stdout string, code int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gate-agent"), append([]string{"key", "ceremony"}, args...)...)
		out, _ := cmd.Output() // ProcessState has it
		return string(out), cmd.ProcessState.ExitCode()
	}
	checked, code := run("--check", h.transcript, "--signer", s.path("identity.pub.pem"), "--json")
	if code != 0 || checked != h.stdout.String() {
		t.Errorf("exit code %d, checked\n%s, said\n%s", code, checked, &h.stdout)
	}
	var report map[string]any
	if err := json.Unmarshal([]byte(checked), &report); err != nil || report["key"] != kcv {
		t.Errorf("%v, %v", report, err)
	}
	if people, code := run("--check", h.transcript, "--signer", s.path("identity.pub.pem")); code != 0 ||
		!strings.Contains(people, "the witness confirmed the KCV, tries: 2\n") {
		t.Errorf("exit code %d\n%s", code, people)
	}
	if _, code := run("--check", h.transcript, "--signer", s.path("checkpoint.pub.pem")); code != 4 {
		t.Errorf("another terminal's: exit code %d", code)
	}
	forged := s.write(t, "forged", bytes.Replace(msg, []byte("Jane"), []byte("Joan"), 1))
	if _, code := run("--check", forged, "--signer", s.path("identity.pub.pem")); code != 4 {
		t.Errorf("with another name in it: exit code %d", code)
	}
}

// Who cannot read the check value has not seen this key made.
func TestCeremonyWithoutTheCheckValueLeavesNoKey(t *testing.T) {
	t.Parallel()
	h := newHall(t, install(t, shortDir(t)), "")
	h.named("A", "B")
	h.types(h.kcv())
	for range ceremony.MaxTries {
		h.sees("B: KCV")
		h.types("1234")
	}
	h.sees("The ceremony failed. The key is destroyed.")
	h.sees("witness: the check value was typed wrong 3 times")
	if code := h.end(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
	h.nothing()
}

// ^C, and a line that breaks, leave no key that nobody confirmed.
func TestCeremonyThatIsBrokenOffLeavesNoKey(t *testing.T) {
	t.Parallel()
	for name, breakOff := range map[string]func(h *hall) error{
		"interrupt": func(h *hall) error { _, err := h.master.WriteString("C5\x03"); return err },
		"hangup":    func(h *hall) error { return h.cmd.Process.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHall(t, install(t, shortDir(t)), "")
			h.named("A", "B")
			h.kcv()
			h.sees("A: KCV")
			if _, err := os.Stat(h.key); err != nil {
				t.Fatal(err)
			}
			if err := breakOff(h); err != nil {
				t.Fatal(err)
			}
			h.sees("The ceremony failed. The key is destroyed.")
			if code := h.end(); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if !h.echoes() {
				t.Error("the terminal does not show what is typed")
			}
			h.nothing()
		})
	}
}

// A key that is there is neither replaced nor destroyed.
func TestCeremonyReplacesNoKey(t *testing.T) {
	t.Parallel()
	s := install(t, shortDir(t))
	uri := "sealed:path=" + s.path("new.key") + ";key-source=" + s.path("key-source")
	before, err := new(keystore.Store).Generate(t.Context(), uri, keystore.ExternalAuth, keystore.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	h := newHall(t, s, "")
	h.named("A", "B")
	h.sees("a key is there already")
	if code := h.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	key, err := new(keystore.Store).OpenSigner(t.Context(), uri, keystore.ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := keystore.KCV(before); want == "" {
		t.Error("no check value")
	} else if got, _ := keystore.KCV(key.Public()); got != want {
		t.Errorf("the key is %s, was %s", got, want)
	}
}

// What can be known before is told before anybody types.
func TestCeremonyNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		edits [][2]string
		args  []string
		says  string
		code  int
	}{
		{"no identity key", [][2]string{{"[identity]\nkey = ", "# "}}, nil, "identity.key is missing", 3},
		{"identity key that is not there", [][2]string{{"/identity.key;", "/absent.key;"}}, nil, "identity.key: ", 3},
		{"transcript that is there", nil, []string{"--transcript", "/etc/passwd"}, "/etc/passwd exists, and is not replaced", 1},
		{"folder that is not there", nil, []string{"--transcript", "/nonexistent/transcript"}, "no such file or directory", 1},
		{"another type", nil, []string{"--type", "ed25519"}, "a key for external-auth is one of", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := install(t, shortDir(t))
			for _, e := range c.edits {
				s.edit(t, e[0], e[1])
			}
			h := newHall(t, s, "", c.args...)
			h.sees(c.says)
			if code := h.end(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if strings.Contains(h.screen.String(), "Name of") {
				t.Error("somebody was asked")
			}
			h.nothing()
		})
	}
}
