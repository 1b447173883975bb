package e2e

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/swtpm"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
)

// The key card lies in the third slot: the first of the second reader.
const keySlot = 2

// A medium is where the external-authentication key of a terminal lies in a test.
type medium struct {
	name       string
	exportable bool

	// provision makes the medium ready and gives the URI of a key on it, its public
	// half, and what the agent's environment needs.
	provision func(t *testing.T, s site, r *readers) (uri string, public *rsa.PublicKey, env []string)

	// away takes the medium away, and gives what brings it back; nil: it cannot go.
	away func(t *testing.T, s site, r *readers) (back func())
}

// A keyCard is the card with the terminal's key, in a slot of its own.
type keyCard struct {
	img   *vcard.Image
	card  *card
	clock *vcard.Clock // nil: it computes at once
}

// lies puts the key card into its slot.
func (k *keyCard) lies(r *readers) {
	r.t.Helper()
	seen := func() int {
		return strings.Count(r.daemon.Log(), "Card inserted into "+r.daemon.SlotName(keySlot))
	}
	before := seen()
	k.card = r.insert(k.img, how{slot: keySlot, clock: k.clock})
	for deadline := time.Now().Add(patience); seen() == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("pcscd does not see the card with the key")
		}
	}
}

func (k *keyCard) away(_ *testing.T, _ site, r *readers) (back func()) {
	k.card.remove()
	return func() { k.lies(r) }
}

func newKeyCard(t *testing.T, kind vcard.Kind) *keyCard {
	t.Helper()
	img, err := theTown(t).Card(perso.CardOptions{Kind: kind, PIN: "7351"})
	if err != nil {
		t.Fatal(err)
	}
	return &keyCard{img: img}
}

func (k *keyCard) public() *rsa.PublicKey { return k.img.AuthenticationKey().(*rsa.PublicKey) }

// need skips the test, or fails it where everything has to be there.
func need(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		err = fmt.Errorf("%s is not installed: apt install %s", program, pkg)
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	openSC  = "/usr/lib/*/opensc-pkcs11.so" // by architecture
)

func media(t *testing.T) []medium {
	sim, direct, through := newKeyCard(t, vcard.KindSIM), newKeyCard(t, vcard.KindCard), newKeyCard(t, vcard.KindCard)
	remote := new(remoteHSM)
	scard := func(k *keyCard) func(*testing.T, site, *readers) (string, *rsa.PublicKey, []string) {
		return func(t *testing.T, s site, r *readers) (string, *rsa.PublicKey, []string) {
			k.lies(r)
			pin := s.write(t, "card.pin", []byte("7351\n"))
			name := strings.ReplaceAll(r.daemon.SlotName(keySlot), " ", "%20")
			return fmt.Sprintf("scard:reader=%s;aid=D392F000260100000001;key=17?pin-source=%s", name, pin), k.public(), nil
		}
	}
	return []medium{
		{name: "sealed", exportable: true, provision: provisionSealed},
		{name: "pkcs11, HSM", provision: provisionHSM},
		{name: "pkcs11, HSM behind a daemon", provision: remote.provision, away: remote.away},
		{name: "pkcs11, IC card", provision: func(t *testing.T, s site, r *readers) (string, *rsa.PublicKey, []string) {
			need(t, "pkcs11-tool", "opensc opensc-pkcs11")
			module, err := filepath.Glob(openSC)
			if err != nil || len(module) == 0 {
				t.Fatalf("no %s (%v)", openSC, err)
			}
			through.lies(r)
			pin := s.write(t, "card.pin", []byte("7351\n"))
			// As docs/keystore.md says: else OpenSC holds people's cards while it looks for its own.
			conf := s.write(t, "opensc.conf", []byte(`app default { card_drivers = jpki; ignored_readers = "Virtual Reader A"; framework pkcs15 { use_pin_caching = false; } }`))
			uri := fmt.Sprintf("pkcs11:module-path=%s;token=%s;id=01?pin-source=%s", module[0], strings.ReplaceAll(jpkiToken, " ", "%20"), pin)
			return uri, through.public(), []string{"OPENSC_CONF=" + conf}
		}, away: through.away},
		{name: "scard, IC card", provision: scard(direct), away: direct.away},
		{name: "scard, SIM", provision: scard(sim), away: sim.away},
		{name: "tpm", provision: provisionTPM},
	}
}

// jpkiToken is what OpenSC calls the token of a JPKI card with its authentication PIN.
const jpkiToken = "JPKI (User Authentication PIN)"

func provisionSealed(t *testing.T, s site, _ *readers) (string, *rsa.PublicKey, []string) {
	uri := fmt.Sprintf("sealed:path=%s;key-source=%s", s.path("medium.key"), s.path("key-source"))
	return uri, generated(t, uri), nil
}

// generated makes a key on the medium itself.
func generated(t *testing.T, uri string) *rsa.PublicKey {
	t.Helper()
	store := new(keystore.Store)
	public, err := store.Generate(t.Context(), uri, keystore.ExternalAuth, keystore.RSA2048)
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	return public.(*rsa.PublicKey)
}

func provisionHSM(t *testing.T, s site, _ *readers) (string, *rsa.PublicKey, []string) {
	need(t, "softhsm2-util", "softhsm2")
	if err := os.Mkdir(s.path("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := s.write(t, "softhsm2.conf", []byte("directories.tokendir = "+s.path("tokens")+"\n"))
	env := []string{"SOFTHSM2_CONF=" + conf}
	pin := s.write(t, "hsm.pin", []byte("canary-hsm-83127\n"))
	tool := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", "gate-1", "--so-pin", "canary-so-83127", "--pin", "canary-hsm-83127")
	tool.Env = append(os.Environ(), env...)
	if out, err := tool.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	uri := fmt.Sprintf("pkcs11:module-path=%s;token=gate-1;object=external-auth?pin-source=%s", softHSM, pin)
	// The module looks for its configuration in the environment of its process.
	text := s.mustEnv(t, env, "key", "generate", "--purpose", "external-auth", uri)
	return uri, publicOf(t, text), env
}

// A remoteHSM is an HSM that a daemon serves over a socket: it restarts, as those in a
// network do.
type remoteHSM struct {
	socket string
	conf   string // SOFTHSM2_CONF of the daemon
	cmd    *exec.Cmd
}

const hsmClient = "/usr/lib/*/pkcs11/p11-kit-client.so"

func (h *remoteHSM) provision(t *testing.T, s site, r *readers) (string, *rsa.PublicKey, []string) {
	need(t, "p11-kit", "p11-kit p11-kit-modules")
	client, err := filepath.Glob(hsmClient)
	if err != nil || len(client) == 0 {
		t.Fatalf("no %s (%v)", hsmClient, err)
	}
	local, public, env := provisionHSM(t, s, r)
	h.conf = env[0]
	h.socket = filepath.Join(shortDir(t), "sock")
	h.start(t)
	t.Cleanup(h.kill)
	return strings.Replace(local, softHSM, client[0], 1), public, []string{"P11_KIT_SERVER_ADDRESS=unix:path=" + h.socket}
}

func (h *remoteHSM) start(t *testing.T) {
	t.Helper()
	h.cmd = exec.Command("p11-kit", "server", "--foreground", "--timeout", "60", "--provider", softHSM, "--name", h.socket, "pkcs11:token=gate-1")
	h.cmd.Env = append(os.Environ(), h.conf)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it forks for each client, and ends by itself without one
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		// The socket has its name before anybody listens.
		if c, err := net.Dial("unix", h.socket); err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the HSM's daemon does not listen")
		}
	}
}

func (h *remoteHSM) kill() {
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
	_ = h.cmd.Wait() // killed
	_ = os.Remove(h.socket)
}

func (h *remoteHSM) away(t *testing.T, _ site, _ *readers) (back func()) {
	h.kill()
	return func() { h.start(t) }
}

func provisionTPM(t *testing.T, _ site, _ *readers) (string, *rsa.PublicKey, []string) {
	uri := swtpm.New(t).URI("81000010")
	return uri, generated(t, uri), nil
}

// A tap of method A through every medium, and what key test says of it.
func TestEveryMediumAuthenticatesTheTerminal(t *testing.T) {
	t.Parallel()
	for _, m := range media(t) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r, s := newSlots(t, 4), ready(t)
			uri, public, env := m.provision(t, s, r)
			s.authenticatesWith(t, r, uri, public)
			env = append(env, r.daemon.Env())

			s.testsKey(t, env, uri, public, m.exportable)

			w := theTown(t)
			a := launch(t, s, env...)
			a.says(`"msg":"list in force"`)
			a.process()
			time.Sleep(settled)
			e := r.tap(a, w.bob(t))
			want(t, e, terminal.Admit, terminal.OK)
			if e.Method != "external-auth" || e.TerminalSignatures != 1 || e.Stages.Key <= 0 {
				t.Errorf("%+v", e)
			}
			t.Logf("a tap of %.1f ms, %.1f of them for the terminal's key", e.ElapsedMS, e.Stages.Key)
			if m.away != nil {
				back := m.away(t, s, r)
				a.says(`"msg":"key cannot be used","key":"external_auth.key"`)
				e = r.tap(a, w.bob(t))
				want(t, e, terminal.Deny, terminal.OutOfOrder)
				if e.TerminalSignatures != 0 {
					t.Errorf("%+v", e)
				}
				a.says("lamp: red cross: out of order")
				back()
				a.says(`"msg":"key is there again","key":"external_auth.key"`)
				want(t, r.tap(a, w.bob(t)), terminal.Admit, terminal.OK)
			}
			a.stop()
			agree(t, s, a.all)
		})
	}
}

// The other order of the dialogue, with a key that a card takes its time for.
func TestSlowMediumSignsBesideTheCard(t *testing.T) {
	t.Parallel()
	r, s := newSlots(t, 4), ready(t)
	k := newKeyCard(t, vcard.KindCard)
	k.clock = &vcard.Clock{KeyOperation: 200 * time.Millisecond, Sleep: true}
	k.lies(r)
	name := strings.ReplaceAll(r.daemon.SlotName(keySlot), " ", "%20")
	uri := fmt.Sprintf("scard:reader=%s;aid=D392F000260100000001;key=17?pin-source=%s", name, s.write(t, "card.pin", []byte("7351")))
	s.authenticatesWith(t, r, uri, k.public())
	s.edit(t, "[scope_key]", "[card]\nprofile = \"built-in:challenge-first\"\n\n[scope_key]")
	a := launch(t, s, r.daemon.Env())
	a.says(`"msg":"list in force"`)
	time.Sleep(settled)
	e := r.tap(a, theTown(t).bob(t))
	want(t, e, terminal.Admit, terminal.OK)
	if e.TerminalSignatures != 1 || e.Stages.Key < 200 {
		t.Errorf("%+v", e)
	}
	a.stop()
	agree(t, s, a.all)
}

// authenticatesWith gives the terminal another external-authentication key.
func (s site) authenticatesWith(t *testing.T, r *readers, uri string, public *rsa.PublicKey) {
	t.Helper()
	intermediate, last, err := theTown(t).Authority.TerminalCertificates(public)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "intermediate.cvc", intermediate)
	s.write(t, "terminal.cvc", last)
	s.edit(t, `methods  = ["tap-use", "external-auth"]`, `methods  = ["external-auth"]`)
	s.edit(t, "first_use = true", "first_use = false")
	s.edit(t, fmt.Sprintf("sealed:path=%s;key-source=%s", s.path("external-auth.key"), s.path("key-source")), uri)
	s.edit(t, "[scope_key]", fmt.Sprintf("[reader]\nslots = [%q, %q]\n\n[scope_key]", r.daemon.SlotName(0), r.daemon.SlotName(1)))
}

// testsKey runs key test, whose last line is one JSON object.
func (s site) testsKey(t *testing.T, env []string, uri string, public crypto.PublicKey, exportable bool) {
	t.Helper()
	stdout := s.mustEnv(t, env, "key", "test", "--key", uri, "--json")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var said struct {
		Medium     string
		Key        string
		SignMS     float64 `json:"sign_ms_p50"`
		Exportable *bool
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	kcv, err := keystore.KCV(public)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(lines[len(lines)-1]) // docs/keys.md
	scheme, _, _ := strings.Cut(uri, ":")
	if said.Medium != scheme || said.Key != kcv || said.SignMS <= 0 || said.Exportable == nil || *said.Exportable != exportable {
		t.Errorf("%s, want medium %s, key %s, exportable %s", stdout, scheme, kcv, strconv.FormatBool(exportable))
	}
}

// mustEnv runs a command that succeeds in an environment of its own.
func (s site) mustEnv(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(programs, "gate-agent"), args...)
	cmd.Env = append(os.Environ(), env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	keepsKeys(t, s, out)
	keepsKeys(t, s, []byte(errs.String()))
	if err != nil {
		t.Fatalf("gate-agent %q: %v\n%s", args, err, errs.String())
	}
	return string(out)
}
