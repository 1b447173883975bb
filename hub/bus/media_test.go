package bus

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/swtpm"
	"github.com/gate-agent/gate-agent/sync/link"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// The identity key signs the handshake wherever it lies: in a file, a TPM or an HSM.
func TestIdentityKeyOfAnyMediumConnects(t *testing.T) {
	s := newSite(t)
	b := s.open(s.config())
	connects := func(t *testing.T, uri string, kind keystore.KeyType) {
		t.Helper()
		store := new(keystore.Store)
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		if _, err := store.Generate(t.Context(), uri, keystore.Identity, kind); err != nil {
			t.Fatal(err)
		}
		key, err := store.OpenSigner(t.Context(), uri, keystore.Identity)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { key.Close() })
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		g := &gate{scope: hall, name: t.Name(), key: key, spki: spki}
		s.certify(g, s.authority, link.ID(spki), time.Now())
		if err := s.registry.AddTerminal(t.Context(), by, hall, registry.Terminal{Name: g.name, Identity: spki}); err != nil {
			t.Fatal(err)
		}
		l := s.link(g, b.Address())
		l.until(t, "connected", connected)
		l.end()
	}
	for _, kind := range []keystore.KeyType{keystore.Ed25519, keystore.P256, keystore.P384} {
		t.Run("sealed "+string(kind), func(t *testing.T) {
			dir := t.TempDir()
			source := filepath.Join(dir, "seal")
			s.must(os.WriteFile(source, make([]byte, 64), 0o600))
			connects(t, "sealed:path="+filepath.Join(dir, "key")+";key-source="+source, kind)
		})
	}
	t.Run("tpm", func(t *testing.T) { connects(t, swtpm.New(t).URI("81000010"), keystore.P256) })
	t.Run("pkcs11", func(t *testing.T) {
		if _, err := os.Stat(softHSM); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("SoftHSM not installed: apt install softhsm2")
			}
			t.Skip("SoftHSM not installed: apt install softhsm2")
		}
		dir := t.TempDir()
		conf, tokens, pin := filepath.Join(dir, "conf"), filepath.Join(dir, "tokens"), filepath.Join(dir, "pin")
		s.must(os.Mkdir(tokens, 0o700))
		s.must(os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nlog.level = ERROR\n"), 0o600))
		s.must(os.WriteFile(pin, []byte("270127"), 0o600))
		t.Setenv("SOFTHSM2_CONF", conf)
		if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "gate", "--pin", "270127", "--so-pin", "12345678").CombinedOutput(); err != nil {
			t.Fatalf("softhsm2-util: %v\n%s", err, out)
		}
		connects(t, fmt.Sprintf("pkcs11:module-path=%s;token=gate;object=identity?pin-source=%s", softHSM, pin), keystore.P256)
	})
}
