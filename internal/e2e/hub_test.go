package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// A hub is gate-hub in a folder of its own, for the town's scope, that takes
// the registrations of town cards.
type hub struct {
	t   *testing.T
	dir string // beside it lie the keys of the root

	rooted  bool // terminals trust a root, else the hub's keys
	secrets []string
	address string // where it serves, once it has
	server  *exec.Cmd
	log     *output
	ended   chan struct{}
}

func newHub(t *testing.T, args ...string) *hub {
	t.Helper()
	h := &hub{t: t, dir: filepath.Join(shortDir(t), "hub"), log: new(output), secrets: []string{theBirthDate}}
	h.must(append([]string{"init", h.dir, "--name", "Town", "--scope", world.Scope, "--hierarchy", "test", "--host", "127.0.0.1", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"}, args...)...)
	h.edit("hub.toml", `poll = "5s"`, `poll = "1s"`)
	town := install(t, filepath.Join(shortDir(t), "town")) // for what of it is everybody's
	for _, name := range []string{"ca.pem", "surface-keys.json"} {
		b, err := os.ReadFile(town.path(name))
		if err != nil {
			t.Fatal(err)
		}
		h.write(h.scope(name), b)
	}
	h.edit(h.scope("scope.toml"), `files = []`, `files = ["ca.pem"]`)
	h.edit(h.scope("scope.toml"), `surface_keys = ""`, `surface_keys = "surface-keys.json"`)
	return h
}

// roots makes the keys of a root, of which two of three have to agree, and has them
// delegate those of the hub.
func (h *hub) roots() {
	h.t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		h.write(h.beside(name+".pem"), []byte(h.must("key", "generate", "--purpose", "root", "--make-key-source", h.rootKey(name))))
	}
	h.rooted = true
	h.delegate(world.Scope, 1, time.Now().Add(24*time.Hour), "a", "c")
}

func (h *hub) path(name string) string   { return filepath.Join(h.dir, name) }
func (h *hub) beside(name string) string { return filepath.Join(filepath.Dir(h.dir), name) }
func (h *hub) scope(name string) string  { return h.path(filepath.Join("scopes", world.Scope, name)) }
func (h *hub) files() string             { return h.path("files") }

func (h *hub) rootKey(name string) string {
	return "sealed:path=" + h.beside(name+".key") + ";key-source=" + h.beside("safe")
}

// delegate has two roots delegate a scope's keys until an instant, as a file that the
// hub puts in front of what it signs.
func (h *hub) delegate(scope string, version int, until time.Time, by ...string) {
	h.t.Helper()
	signed := h.delegation(scope, version, time.Now(), until, by...)
	h.must("root", "check", signed, "--root", h.beside("a.pem"), "--root", h.beside("b.pem"), "--root", h.beside("c.pem"), "--threshold", "2")
	b, err := os.ReadFile(signed)
	if err != nil {
		h.t.Fatal(err)
	}
	in := func(name string) string { return h.path(filepath.Join("scopes", scope, name)) }
	h.write(in("delegation"), b)
	if version == 1 {
		h.edit(in("scope.toml"), `delegation = ""`, `delegation = "delegation"`)
		h.edit(in("scope.toml"), `keys = []`, `keys = ["../../../a.pem", "../../../b.pem", "../../../c.pem"]`)
		h.edit(in("scope.toml"), `threshold = 0`, `threshold = 2`)
	}
}

// delegation is a file that these roots have signed.
func (h *hub) delegation(scope string, version int, from, until time.Time, by ...string) (signed string) {
	h.t.Helper()
	draft, signed := h.beside("draft.toml"), h.beside(fmt.Sprintf("%s.%d", scope, version))
	text := fmt.Appendf(nil, "scope = %q\nhierarchy = \"test\"\nversion = %d\nissued_at = %s\nnot_after = %s\n",
		scope, version, from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	for _, role := range []string{"list", "lease", "command"} {
		key := h.path(filepath.Join("scopes", scope, role+".pub.pem"))
		if _, err := os.Stat(key); role == "command" && err != nil {
			continue // nobody commands
		}
		text = fmt.Appendf(text, "[[keys]]\nrole = %q\nkey = %q\n", role, key)
	}
	h.write(draft, text)
	h.must("root", "draft", draft, signed)
	for _, name := range by {
		h.must("root", "sign", signed, "--yes", "--key", h.rootKey(name))
	}
	return signed
}

// write writes a file of the hub or beside it, and returns its path.
func (h *hub) write(name string, content []byte) string {
	h.t.Helper()
	if !filepath.IsAbs(name) {
		name = h.path(name)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		h.t.Fatal(err)
	}
	return name
}

// edit replaces text in a file of the hub, which must have it.
func (h *hub) edit(name, old, with string) {
	h.t.Helper()
	if !filepath.IsAbs(name) {
		name = h.path(name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		h.t.Fatalf("no %q in %s", old, name)
	}
	h.write(name, bytes.Replace(b, []byte(old), []byte(with), 1))
}

// run runs gate-hub to its end, with the hub's configuration where there is one.
func (h *hub) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	switch args[0] {
	case "init", "root", "key":
	default:
		args = append(args, "--config", h.dir)
	}
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(programs, "gate-hub"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	h.keepsSecrets(out.String() + errs.String())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that succeeds.
func (h *hub) must(args ...string) (stdout string) {
	h.t.Helper()
	stdout, stderr, code := h.run(args...)
	if code != 0 {
		h.t.Fatalf("gate-hub %q: exit code %d\n%s", args, code, stderr)
	}
	return stdout
}

// keepsSecrets fails the test when the hub says what no log may: a birth date, or whose
// a certificate is.
func (h *hub) keepsSecrets(said string) {
	h.t.Helper()
	for _, secret := range h.secrets {
		if strings.Contains(said, secret) {
			h.t.Errorf("the hub says %q:\n%s", secret, said)
		}
	}
}

// add makes a terminal known to the hub, which leases it the scope key. Its delivery key
// is compared as people do.
func (h *hub) add(s site) {
	h.t.Helper()
	give := func(from func(string) string, names ...string) {
		for _, name := range names {
			b, err := os.ReadFile(from(name))
			if err != nil {
				h.t.Fatal(err)
			}
			s.write(h.t, name, b)
		}
	}
	if h.rooted {
		give(h.beside, "a.pem", "b.pem", "c.pem")
		s.edit(h.t, `keys = ["list.pub.pem"]`, "\n[root]\nkeys = [\"a.pem\", \"b.pem\", \"c.pem\"]\nthreshold = 2")
		s.edit(h.t, `file    = "scope.key"`, `lease   = true`)
	} else {
		give(h.scope, "list.pub.pem", "lease.pub.pem")
		s.edit(h.t, `file    = "scope.key"`, "lease   = true\nkeys    = [\"lease.pub.pem\"]")
	}
	if err := os.Remove(s.path("scope.key")); err != nil {
		h.t.Fatal(err)
	}
	shown := s.must(h.t, "key", "delivery")
	kcv := regexp.MustCompile(`[0-9A-F]{4}(-[0-9A-F]{4}){3}`).FindString(shown)
	said := h.must("terminal", "add", world.Terminal, "--identity", s.path("identity.pub.pem"), "--delivery", s.write(h.t, "delivery.pem", []byte(shown)))
	if kcv == "" || !strings.Contains(said, kcv) {
		h.t.Errorf("the terminal shows the delivery key %q, the hub says %q", kcv, said)
	}
}

// follow tells a terminal the source of its lists.
func (h *hub) follow(s site, source, ca string) {
	h.t.Helper()
	if ca != "" {
		ca = fmt.Sprintf("ca = %q\n", ca)
	}
	s.edit(h.t, "[list]\n", fmt.Sprintf("[list]\nsource = %q\nevery = \"1s\"\n%s", source, ca))
}

// publishes publishes what has changed, where nobody serves.
func (h *hub) publishes() {
	h.t.Helper()
	h.must("list", "publish", "--scope", world.Scope)
	h.must("lease", "issue", "--scope", world.Scope)
}

// registers has a newcomer register a card at the terminal for a ticket, and the hub
// import the record.
func (h *hub) registers(s site, r *readers, ticket string) *vcard.Image {
	t := h.t
	t.Helper()
	img := newcomer(t, 3)
	certificate, err := x509.ParseCertificate(img.AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	h.secrets = append(h.secrets, certificate.Subject.CommonName)
	c := register(t, s, r, "--ticket", ticket)
	card := r.insert(img, how{})
	c.answers(thePIN, theBirthDate)
	c.sees("Registered. Take your card.")
	if code := c.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	card.remove()
	var report struct {
		Ticket, Problem string
		Credential      int64
		Unchanged       bool
	}
	for _, again := range []bool{false, true} {
		if err := json.Unmarshal([]byte(h.must("registration", "import", c.out, "--json")), &report); err != nil {
			t.Fatal(err)
		}
		if report.Credential == 0 || report.Problem != "" || report.Unchanged != again || !again && report.Ticket != ticket {
			t.Errorf("registration of %s: %+v", ticket, report)
		}
	}
	return img
}

// certificate is the file by which the hub's commands name a card.
func (h *hub) certificate(img *vcard.Image) string {
	h.t.Helper()
	f, err := os.CreateTemp(filepath.Dir(h.dir), "card-*.pem")
	if err != nil {
		h.t.Fatal(err)
	}
	err = pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: img.AuthenticationCertificate()})
	if err = errors.Join(err, f.Close()); err != nil {
		h.t.Fatal(err)
	}
	return f.Name()
}

// serve starts gate-hub serve, the first time at a port that is free.
func (h *hub) serve() {
	t := h.t
	t.Helper()
	if h.address != "" {
		if !h.listens() {
			t.Fatalf("the hub does not start again:\n%s", h.log)
		}
		return
	}
	// Nothing can reserve a port from every other program: choose, and choose again
	// when somebody else was faster.
	for range 20 {
		address, err := freeAddress()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(h.path("hub.toml"))
		if err != nil {
			t.Fatal(err)
		}
		h.write("hub.toml", regexp.MustCompile(`(?m)^\[serve\]\nlisten = .*$`).ReplaceAll(b, fmt.Appendf(nil, "[serve]\nlisten = %q", address)))
		h.address = address
		if h.listens() {
			return
		}
	}
	t.Fatalf("the hub does not start:\n%s", h.log)
}

// freeAddress is below the range from which the kernel gives ports to clients, so that
// none of those takes it while the hub is stopped.
func freeAddress() (string, error) {
	for port := 26000 + os.Getpid()%5000; port < 32000; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp4", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port below 32000")
}

// listens starts the process, and reports whether it serves.
func (h *hub) listens() bool {
	h.t.Helper()
	h.log = new(output)
	h.server = exec.Command(filepath.Join(programs, "gate-hub"), "serve", h.dir)
	h.server.Stderr = h.log
	h.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.server.Start(); err != nil {
		h.t.Fatal(err)
	}
	server, log, ended := h.server, h.log, make(chan struct{})
	h.ended = ended
	go func() {
		defer close(ended)
		_ = server.Wait() // ProcessState has it all
	}()
	h.t.Cleanup(func() {
		_ = server.Process.Kill()
		<-ended
		if h.t.Failed() {
			h.t.Logf("what the hub said:\n%s", log)
		}
		h.keepsSecrets(log.String())
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(h.log.String(), `"msg":"starting"`) {
			return true
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
	return false
}

// stop ends the serving process as systemd does.
func (h *hub) stop() {
	h.t.Helper()
	if err := h.server.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	select {
	case <-h.ended:
	case <-time.After(patience):
		h.t.Fatal("the hub does not end")
	}
	if code := h.server.ProcessState.ExitCode(); code != 0 {
		h.t.Errorf("exit code %d of the hub after SIGTERM, want 0", code)
	}
}
