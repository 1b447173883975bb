// Package interop holds our parts against software that knows nothing of us.
// What it finds, neither side has agreed upon with the other.
package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const cards = "../../testdata/cards"

// A bench is a private pcscd with a virtual card in its first slot, and a
// place for the files that programs exchange.
type bench struct {
	t   *testing.T
	dir string
	env []string
	img *vcard.Image
}

func newBench(t *testing.T, image, conf string) *bench {
	for _, program := range []struct{ name, pkg string }{
		{"opensc-tool", "opensc"}, {"pkcs15-tool", "opensc"}, {"pkcs11-tool", "opensc"}, {"openssl", "openssl"},
	} {
		if _, err := exec.LookPath(program.name); err != nil {
			skip(t, fmt.Errorf("%s not installed: apt install %s", program.name, program.pkg))
		}
	}
	daemon, err := pcscd.Start(t.Context(), pcscd.Options{})
	if errors.Is(err, pcscd.ErrNotInstalled) {
		skip(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(daemon.Log())
		}
		if err := daemon.Stop(); err != nil {
			t.Error(err)
		}
	})

	b, err := os.ReadFile(filepath.Join(cards, image))
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pcscd.Dial(t.Context(), daemon.SlotAddr(0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- card.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("the card ended with %v", err)
		}
		conn.Close()
	})

	dir := t.TempDir()
	confPath := filepath.Join(dir, "opensc.conf")
	if err := os.WriteFile(confPath, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, dir: dir, img: img, env: append(os.Environ(), daemon.Env(), "OPENSC_CONF="+confPath, "HOME="+dir, "LC_ALL=C")}
}

func skip(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// try runs a program in the bench's folder and gives all that it says.
func (b *bench) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = b.dir, b.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	out, err := b.try(name, args...)
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (b *bench) write(name string, content []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), content, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// name is what OpenSC takes the card for. pcscd needs a moment to see it; opensc-tool
// could wait for that itself, but waits for ever for a card that comes between its
// look and its wait.
func (b *bench) name() string {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := b.try("opensc-tool", "--name")
		if err == nil {
			return out
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("OpenSC sees no card: %v\n%s", err, out)
		}
	}
}

// tries asks the card how often the authentication PIN may still be tried.
func (b *bench) tries() string {
	b.t.Helper()
	out := b.run("opensc-tool",
		"--send-apdu", "00:A4:04:0C:0A:D3:92:F0:00:26:01:00:00:00:01", // SELECT JPKI-AP
		"--send-apdu", "00:20:00:98") // VERIFY without data, EF 0018 by SFI
	found := regexp.MustCompile(`SW1=0x63, SW2=0xC([0-9A-F])`).FindStringSubmatch(out)
	if found == nil {
		b.t.Fatalf("no number of tries in\n%s", out)
	}
	return found[1]
}

func TestOpenSCUsesOurCard(t *testing.T) {
	for name, conf := range map[string]string{
		"jpki driver":     "app default { card_drivers = jpki; }\n",
		"default probing": "app default { }\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "good.json", conf) // PIN 1234
			if out := b.name(); !strings.Contains(strings.ToLower(out), "jpki") {
				t.Fatalf("card is taken for %q", out)
			}
			t.Run("certificate", func(t *testing.T) { b.t = t; certificate(b) })
			t.Run("signature", func(t *testing.T) { b.t = t; signature(b) })
			t.Run("wrong PIN", func(t *testing.T) { b.t = t; wrongPIN(b) })
		})
	}
}

func certificate(b *bench) {
	if out := b.run("pkcs15-tool", "--list-certificates"); !strings.Contains(out, "User Authentication Certificate") {
		b.t.Errorf("no user authentication certificate in\n%s", out)
	}
	b.run("pkcs15-tool", "--read-certificate", "1", "--output", "cert.pem")
	if der := b.run("openssl", "x509", "-in", "cert.pem", "-outform", "DER"); der != string(b.img.AuthenticationCertificate()) {
		b.t.Error("not the certificate that the card was given")
	}
	b.write("pub.pem", []byte(b.run("openssl", "x509", "-in", "cert.pem", "-noout", "-pubkey")))
}

func signature(b *bench) {
	message := []byte("what is signed")
	digest := sha256.Sum256(message)
	// DigestInfo of SHA-256 (RFC 8017 §9.2, note 1).
	digestInfo := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)
	b.write("message", message)
	b.write("digestinfo", digestInfo)
	var signatures [][]byte
	for _, s := range []struct{ mechanism, input string }{
		{"RSA-PKCS", "digestinfo"},
		{"SHA256-RSA-PKCS", "message"},
	} {
		b.run("pkcs11-tool", "--login", "--pin", "1234", "--sign", "--id", "01",
			"-m", s.mechanism, "--input-file", s.input, "--output-file", "signature")
		if out := b.run("openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "signature", "message"); !strings.Contains(out, "Verified OK") {
			b.t.Errorf("%s: %s", s.mechanism, out)
		}
		signature, err := os.ReadFile(filepath.Join(b.dir, "signature"))
		if err != nil {
			b.t.Fatal(err)
		}
		signatures = append(signatures, signature)
	}
	if !bytes.Equal(signatures[0], signatures[1]) {
		b.t.Error("PKCS #1 v1.5 gave two signatures of one message")
	}
	b.write("message", []byte("something else"))
	if out, err := b.try("openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "signature", "message"); err == nil {
		b.t.Errorf("another message: %s", out)
	}
}

func wrongPIN(b *bench) {
	if n := b.tries(); n != "3" {
		b.t.Fatalf("%s tries before, want 3", n)
	}
	if out, err := b.try("pkcs11-tool", "--login", "--pin", "4321", "--list-objects"); err == nil || !strings.Contains(out, "CKR_PIN_INCORRECT") {
		b.t.Errorf("wrong PIN: %v\n%s", err, out)
	}
	if n := b.tries(); n != "2" {
		b.t.Errorf("%s tries after a wrong PIN, want 2", n)
	}
	b.run("pkcs11-tool", "--login", "--pin", "1234", "--list-objects")
	if n := b.tries(); n != "3" {
		b.t.Errorf("%s tries after the right PIN, want 3", n)
	}
}
