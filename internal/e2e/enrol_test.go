package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/terminal"
)

// bare is a terminal whose configuration leaves all to a hub that it can, and whose keys
// are not made yet.
func bare(t *testing.T) site {
	t.Helper()
	s := install(t, filepath.Join(shortDir(t), "terminal"))
	for _, line := range []string{
		fmt.Sprintf("scope    = %q\n", world.Scope), fmt.Sprintf("terminal = %q\n", world.Terminal),
		"file    = \"scope.key\"\n", "keys = [\"list.pub.pem\"]\n",
	} {
		s.edit(t, line, "")
	}
	s.edit(t, "[list]\n", "[hub]\nconnect = true\n\n[list]\nevery = \"1s\"\n")
	for _, name := range []string{"scope.key", "wrap.key", "identity.key", "list.pub.pem", "list.cose", "identity.pub.pem"} {
		if err := os.Remove(s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// token has the hub issue one, for which file the terminal has.
func (h *hub) token(s site, args ...string) (file string) {
	h.t.Helper()
	text := h.must(append([]string{"terminal"}, args...)...)
	h.secrets = append(h.secrets, strings.TrimSpace(text)) // no log has it
	return s.write(h.t, "token", []byte(text))
}

// leased waits until the hub has issued the terminal a lease that it takes.
func (s site) leased(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if _, stderr, code := s.run(t, "sync", "now"); code == 0 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("no list comes: %s", stderr)
		}
	}
}

// One command on each side, and the spare is the gate: its name, its list, and what the
// broken terminal has seen but not told. That one is cut off in the same moment.
func TestSpareTakesOverAGate(t *testing.T) {
	t.Parallel()
	h, r := newHub(t), newReaders(t)
	h.must("ticket", "import", h.write(h.beside("tickets.csv"), crowd(3)))
	h.edit("hub.toml", `client_certificates = "optional"`, `client_certificates = "required"`)
	h.serve()

	gate := bare(t)
	if _, stderr, code := gate.run(t, "check-config"); code != 3 || !strings.Contains(stderr, "run gate-agent enrol") {
		t.Errorf("before it has enrolled: exit code %d: %s", code, stderr)
	}
	token := h.token(gate, "token", world.Terminal)
	says(t, gate.must(t, "enrol", "--token-file", token), "enrolled     "+world.Terminal+" in "+world.Scope)
	if _, stderr, code := h.run("terminal", "token", world.Terminal); code != 4 || !strings.Contains(stderr, "in the registry already") {
		t.Errorf("a second token for the name: exit code %d: %s", code, stderr)
	}
	gate.leased(t) // a certificate is required: it was shown
	says(t, gate.must(t, "check-config"), "leased until", ", from the hub", "certificate until")
	says(t, gate.must(t, "enrol", "--renew"), "renewed")

	v := &venue{hub: h, site: gate, r: r}
	alice := v.registers(gate, r, "T-spare")
	v.a = start(t, gate, r)
	v.until("got the card", func(s syncs) bool { return s.List != nil && s.List.Rows == 4 })
	v.tap(alice, terminal.Admit, terminal.OK)
	if _, err := io.WriteString(v.a.stdin, "p\n"); err != nil {
		t.Fatal(err)
	}
	v.a.says(`"msg":"tap"`)
	if code := v.a.end(syscall.SIGKILL); code == 0 { // it breaks
		t.Fatal("it ended in order")
	}
	events := func(s site) float64 { return s.says(t, "journal", "verify")["events"].(float64) }
	before := events(gate)

	begun := time.Now()
	spare := bare(t)
	swap := h.token(spare, "swap", world.Terminal, "--reason", "broken reader")
	if _, stderr, code := gate.run(t, "sync", "now"); code != 0 {
		t.Errorf("before the spare is there: exit code %d: %s", code, stderr)
	}
	says(t, spare.must(t, "enrol", "--token-file", swap, "--from", gate.path("state")), "enrolled", "taken over")
	for _, args := range [][]string{{"sync", "now"}, {"enrol", "--renew"}} {
		if _, stderr, code := gate.run(t, args...); code == 0 || !strings.Contains(stderr, "replaced") {
			t.Errorf("%q of the broken terminal: exit code %d: %s", args, code, stderr)
		}
	}
	if _, stderr, code := spare.run(t, "enrol", "--token-file", swap, "--from", gate.path("state")); code != 4 || !strings.Contains(stderr, "a journal of its own") {
		t.Errorf("taking over twice: exit code %d: %s", code, stderr)
	}
	spare.leased(t)
	if after := events(spare); after < before {
		t.Errorf("the spare has %v events, the broken terminal had %v", after, before)
	}
	v.site, v.a = spare, start(t, spare, r)
	v.a.says(`"msg":"list in force"`)
	time.Sleep(settled)
	v.tap(alice, terminal.Deny, terminal.AlreadyUsed)
	if took := time.Since(begun); took > 10*time.Minute {
		t.Errorf("it took %v", took)
	}
	says(t, h.must("terminal", "show", world.Terminal), "issue_token", "set_terminal_keys", "broken reader")

	// Who steals it now is cut off as well.
	h.must("terminal", "retire", world.Terminal, "--reason", "stolen")
	if _, stderr, code := spare.run(t, "enrol", "--renew"); code != 4 || !strings.Contains(stderr, "(unknown)") {
		t.Errorf("renewal of a retired terminal: exit code %d: %s", code, stderr)
	}
	v.a.says("403")
}

// A token with approval opens nothing until somebody has compared.
func TestTerminalWaitsForApproval(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.serve()
	s := bare(t)
	token := h.token(s, "token", "gate-7", "--approve")
	b, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "open", b)
	if err := os.Chmod(s.path("open"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := s.run(t, "enrol", "--token-file", s.path("open")); code != 2 || !strings.Contains(stderr, "can be read or written by others") {
		t.Errorf("a token that others can read: exit code %d: %s", code, stderr)
	}

	// As through ssh: the token comes by standard input.
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gate-agent"), "enrol", "--config", s.config)
	var out bytes.Buffer
	said := new(output)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(b), &out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`[0-9A-F]{4}(-[0-9A-F]{4}){4}`)
	fingerprint := ""
	for deadline := time.Now().Add(patience); fingerprint == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		fingerprint = pattern.FindString(said.String())
	}
	says(t, h.must("terminal", "approve", "gate-7"), fingerprint)
	if _, stderr, code := h.run("terminal", "approve", "gate-7", "--key", "0000-1111-2222-3333-4444"); code != 4 || !strings.Contains(stderr, "somebody else has used the token") {
		t.Errorf("approval of another fingerprint: exit code %d: %s", code, stderr)
	}
	if _, err := enrol.Read(s.path("state")); err == nil {
		t.Error("it has enrolled before somebody approved")
	}
	says(t, h.must("terminal", "list"), "WAITS FOR APPROVAL with "+fingerprint)
	h.must("terminal", "approve", "gate-7", "--key", fingerprint)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	says(t, out.String(), "enrolled     gate-7")
	keepsKeys(t, s, append(out.Bytes(), said.String()...))

	// Another terminal's configuration takes no token that is not its own.
	other := bare(t)
	other.edit(t, `state    = "state"`, fmt.Sprintf("terminal = \"gate-8\"\nscope = %q\nstate = \"state\"", world.Scope))
	if _, stderr, code := other.run(t, "enrol", "--token-file", h.token(other, "token", "gate-9")); code != 4 || !strings.Contains(stderr, `the token is for terminal "gate-9"`) {
		t.Errorf("a token for another name: exit code %d: %s", code, stderr)
	}
	var hub enrol.Hub
	text, err := os.ReadFile(s.path("state/hub/hub.json"))
	if err == nil {
		err = json.Unmarshal(text, &hub)
	}
	if err != nil || hub.Terminal != "gate-7" || hub.HTTPS != "https://"+h.address {
		t.Errorf("hub.json: %+v, %v", hub, err)
	}
}

// Where the hub's server has the certificate of another authority, terminals trust that
// one for the server, and the hub's own vouches for them.
func TestTerminalEnrolsWhereTheServerHasAnotherAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, err := authority.Create(dir, "Town IT", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := other.Server([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, "--tls-cert", certificate, "--tls-key", key)
	h.serve()
	if _, stderr, code := h.run("terminal", "token", "gate-1"); code != 3 || !strings.Contains(stderr, "append that of the root") {
		t.Errorf("a chain without its authority: exit code %d: %s", code, stderr)
	}
	leaf, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, authority.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	h.write(certificate, append(leaf, root...))
	h.stop()
	h.serve()
	s := bare(t)
	s.must(t, "enrol", "--token-file", h.token(s, "token", "gate-1"))
	says(t, s.must(t, "enrol", "--renew"), "renewed")
	if _, stderr, _ := s.run(t, "sync", "now"); !strings.Contains(stderr, "404") { // it is reached, and has no lease yet
		t.Errorf("sync now: %s", stderr)
	}
}
