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
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
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
	img  *vcard.Image
	card *card
}

// lies puts the key card into its slot.
func (k *keyCard) lies(r *readers) {
	r.t.Helper()
	seen := func() int {
		return strings.Count(r.daemon.Log(), "Card inserted into "+r.daemon.SlotName(keySlot))
	}
	before := seen()
	k.card = r.insert(k.img, how{slot: keySlot})
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
	openSC  = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
)

func media(t *testing.T) []medium {
	sim, direct, through := newKeyCard(t, vcard.KindSIM), newKeyCard(t, vcard.KindCard), newKeyCard(t, vcard.KindCard)
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
		{name: "pkcs11, IC card", provision: func(t *testing.T, s site, r *readers) (string, *rsa.PublicKey, []string) {
			need(t, "pkcs11-tool", "opensc opensc-pkcs11")
			through.lies(r)
			pin := s.write(t, "card.pin", []byte("7351\n"))
			// As docs/keystore.md says: else OpenSC holds people's cards while it looks for its own.
			conf := s.write(t, "opensc.conf", []byte(`app default { card_drivers = jpki; ignored_readers = "Virtual Reader A"; framework pkcs15 { use_pin_caching = false; } }`))
			uri := fmt.Sprintf("pkcs11:module-path=%s;token=%s;id=01?pin-source=%s", openSC, strings.ReplaceAll(jpkiToken, " ", "%20"), pin)
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

func provisionTPM(t *testing.T, s site, _ *readers) (string, *rsa.PublicKey, []string) {
	need(t, "swtpm", "swtpm")
	socket := s.startTPM(t)
	uri := fmt.Sprintf("tpm:device=%s;handle=81000010", socket)
	return uri, generated(t, uri), nil
}

// startTPM runs a software TPM until the test ends.
func (s site) startTPM(t *testing.T) (socket string) {
	t.Helper()
	// Short: a socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "sock")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() { // ends with the process
		defer close(ended)
		// Pdeathsig watches the thread that forked, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is always killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		// The socket has its name before anybody listens.
		if c, err := net.Dial("unix", socket); err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("swtpm does not listen")
		}
	}
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
