package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/ceremony"
	"github.com/gate-agent/gate-agent/internal/swtpm"
)

// key runs gate-agent key, without a configuration.
func key(t *testing.T, s site, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gate-agent"), append([]string{"key"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	for _, text := range []string{out.String(), errs.String()} {
		keepsSecrets(t, s, text)
		keepsKeys(t, s, []byte(text))
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// The commands work on a medium that keeps its keys as on a file, and what such a
// medium cannot do is said.
func TestKeysOfATPM(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "openssl")
	s := install(t, shortDir(t))
	device := "tpm:device=" + swtpm.New(t).Device()
	must := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := key(t, s, args...)
		if code != 0 {
			t.Fatalf("key %q: exit code %d\n%s", args, code, stderr)
		}
		return stdout
	}
	object := func(text string) (o struct {
		Medium, Key, Type string
		Exportable        *bool
		Keys              []struct{ URI, Key, Type string }
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return o
	}

	ea, identity := device+";handle=81000010", device+";handle=81000011"
	made := object(must("generate", "--purpose", "external-auth", "--json", ea))
	if made.Medium != "tpm" || made.Type != "rsa-2048" {
		t.Errorf("made %+v", made)
	}
	if _, stderr, code := key(t, s, "generate", "--purpose", "identity", identity); code != 2 || !strings.Contains(stderr, "give --type p-256") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	other := object(must("generate", "--purpose", "identity", "--type", "p-256", "--json", identity))
	if _, stderr, code := key(t, s, "generate", "--purpose", "external-auth", ea); code != 1 || !strings.Contains(stderr, "a key is there already") {
		t.Errorf("exit code %d, %s", code, stderr)
	}

	if listed := object(must("list", "--json", device)); len(listed.Keys) != 2 || listed.Keys[0].Key != made.Key || listed.Keys[1].Key != other.Key {
		t.Errorf("listed %+v", listed)
	}
	if tested := object(must("test", "--json", "--key", ea)); tested.Medium != "tpm" || tested.Key != made.Key || tested.Exportable == nil || *tested.Exportable {
		t.Errorf("tested %+v", tested)
	}

	// Software that is not ours reads the request.
	request := s.path("request.csr")
	must("request", "--purpose", "external-auth", "--subject", "gate-1", "--out", request, ea)
	if out, err := exec.CommandContext(t.Context(), "openssl", "req", "-in", request, "-noout", "-verify", "-subject").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "verify OK") || !strings.Contains(string(out), "gate-1") {
		t.Errorf("openssl: %v\n%s", err, out)
	}

	// A ceremony that fails leaves no key in the TPM.
	h := newHall(t, s, device+";handle=81000012")
	h.named("A", "B")
	h.kcv()
	for range ceremony.MaxTries {
		h.sees("A: KCV")
		h.types("")
	}
	h.sees("The ceremony failed. The key is destroyed.")
	if code := h.end(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
	h.nothing()

	must("destroy", "--purpose", "identity", "--kcv", other.Key, identity)
	if listed := object(must("list", "--json", device)); len(listed.Keys) != 1 || listed.Keys[0].Key != made.Key {
		t.Errorf("listed %+v", listed)
	}
}
