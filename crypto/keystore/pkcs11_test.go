package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	hsmPIN  = "canary-4711"
)

// notInstalled ends a test that cannot find its tool.
func notInstalled(t testing.TB, what string, pkg string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s not installed: apt install %s", what, pkg)
	}
	t.Skipf("%s not installed: apt install %s", what, pkg)
}

// An hsm is a SoftHSM of its own, with a token "gate", and a store. SoftHSM reads
// its configuration at C_Initialize: the store of one test has to be closed before
// the next one begins.
type hsm struct {
	testing.TB
	*Store
	dir string
}

func newHSM(t testing.TB) *hsm {
	t.Helper()
	if _, err := os.Stat(softHSM); err != nil {
		notInstalled(t, "SoftHSM", "softhsm2")
	}
	h := &hsm{t, new(Store), t.TempDir()}
	conf := filepath.Join(h.dir, "softhsm2.conf")
	tokens := filepath.Join(h.dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	setenv(t, "SOFTHSM2_CONF", conf)
	h.setPIN(hsmPIN)
	h.initToken("gate")
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func setenv(t testing.TB, name, value string) {
	t.Helper()
	old, had := os.LookupEnv(name)
	if err := os.Setenv(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if had {
			os.Setenv(name, old)
		} else {
			os.Unsetenv(name)
		}
	})
}

func (h *hsm) setPIN(pin string) {
	h.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "pin"), []byte(pin+"\n"), 0o600); err != nil {
		h.Fatal(err)
	}
}

func (h *hsm) initToken(label string) {
	h.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", hsmPIN, "--so-pin", "12345678").CombinedOutput()
	if err != nil {
		h.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
}

// uri names a key of the token: what is "object=a" or "id=01".
func (h *hsm) uri(what string) string {
	return "pkcs11:module-path=" + softHSM + ";token=gate;" + what + "?pin-source=" + filepath.Join(h.dir, "pin")
}

// must parses a URI of the tests.
func must(t testing.TB, uri string) URI {
	t.Helper()
	u, err := ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// raw calls f with a session that may write, for what this package never makes.
func (h *hsm) raw(f func(*p11Session) error) {
	h.Helper()
	u := must(h, h.uri("object=x"))
	if err := (pkcs11Medium{&h.modules}).do(h.Context(), u, pkcs11.CKF_RW_SESSION, h.pins(u), f); err != nil {
		h.Fatal(err)
	}
}

// rsaPair makes a pair of RSA keys; more goes into the private key, last.
func (h *hsm) rsaPair(bits int, id byte, label string, more ...*pkcs11.Attribute) {
	h.Helper()
	h.raw(func(s *p11Session) error {
		n := p11Name{[]byte{id}, label}
		private := slices.DeleteFunc(n.private(), func(a *pkcs11.Attribute) bool {
			return slices.ContainsFunc(more, func(b *pkcs11.Attribute) bool { return a.Type == b.Type })
		})
		_, _, err := s.c.GenerateKeyPair(s.sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
			append(n.public(), pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})),
			append(private, more...))
		return err
	})
}

func (h *hsm) open(what string) *Key {
	h.Helper()
	k, err := h.OpenSigner(h.Context(), h.uri(what), ExternalAuth)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		if err := k.Close(); err != nil && !errors.Is(err, ErrClosed) {
			h.Error(err)
		}
	})
	return k
}

// signsFor signs in every way that the key has and verifies with Go's own code.
func signsFor(t testing.TB, k *Key, hashes ...crypto.Hash) {
	t.Helper()
	for _, hash := range hashes {
		h := hash.New()
		h.Write([]byte("message"))
		digest := h.Sum(nil)
		var opts crypto.SignerOpts = hash
		if _, ok := k.Public().(ed25519.PublicKey); ok {
			opts = crypto.Hash(0)
		}
		signature, err := k.Sign(nil, digest, opts)
		if err != nil {
			t.Error(err)
			continue
		}
		ok := false
		switch public := k.Public().(type) {
		case *rsa.PublicKey:
			ok = rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
		case ed25519.PublicKey:
			ok = ed25519.Verify(public, digest, signature)
		case *ecdsa.PublicKey:
			ok = ecdsa.VerifyASN1(public, digest, signature)
		}
		if !ok {
			t.Errorf("%v: signature does not verify", hash)
		}
	}
}

func exportable(t testing.TB, k *Key, want bool) {
	t.Helper()
	if got, err := k.Exportable(t.Context()); err != nil || got != want {
		t.Errorf("exportable: %v, %v, want %v", got, err, want)
	}
}

func TestTokenMakesSignsListsAndDestroys(t *testing.T) {
	h := newHSM(t)
	for _, typ := range []KeyType{RSA2048, P256, P384, Ed25519} {
		t.Run(string(typ), func(t *testing.T) {
			uri := h.uri("object=" + string(typ))
			want, err := h.Generate(t.Context(), uri, ExternalAuth, typ)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Generate(t.Context(), uri, ExternalAuth, typ); !errors.Is(err, ErrExists) {
				t.Errorf("made twice: %v, want ErrExists", err)
			}
			k := h.open("object=" + string(typ))
			if !SameKey(k.Public(), want) {
				t.Error("opened another key than was made")
			}
			signsFor(t, k, crypto.SHA256, crypto.SHA384, crypto.SHA512)
			exportable(t, k, false)

			entries, err := h.List(t.Context(), h.uri("object=x"))
			if err != nil || len(entries) != 1 || entries[0].Type != string(typ) || entries[0].Label != string(typ) || !SameKey(entries[0].Public, want) {
				t.Fatalf("%+v, %v", entries, err)
			}
			other, err := h.OpenSigner(t.Context(), entries[0].URI, ExternalAuth)
			if err != nil || !SameKey(other.Public(), want) {
				t.Fatalf("the listed URI %s does not open it: %v", entries[0].URI, err)
			}
			if err := other.Close(); err != nil {
				t.Error(err)
			}
			if err := errors.Join(k.Check(t.Context()), signsAny(k)); err != nil {
				t.Errorf("another key of the token was closed: %v", err)
			}

			_, wrong, _ := ed25519.GenerateKey(rand.Reader)
			if err := h.Destroy(t.Context(), uri, ExternalAuth, wrong.Public()); !errors.Is(err, ErrWrongKey) {
				t.Errorf("destroyed another key than was meant: %v", err)
			}
			if err := h.Destroy(t.Context(), uri, ExternalAuth, want); err != nil {
				t.Fatal(err)
			}
			if _, err := h.OpenSigner(t.Context(), uri, ExternalAuth); !errors.Is(err, ErrNoKey) {
				t.Errorf("destroyed: %v, want ErrNoKey", err)
			}
			if err := k.Close(); err != nil {
				t.Error(err)
			}
			h.raw(func(s *p11Session) error {
				all, err := s.find()
				if len(all) > 0 {
					t.Errorf("%d objects are left behind", len(all))
				}
				return err
			})
		})
	}
}

// signsAny signs with whatever type of key.
func signsAny(k *Key) error {
	digest := sha256.Sum256([]byte("message"))
	var opts crypto.SignerOpts = crypto.SHA256
	if _, ok := k.Public().(ed25519.PublicKey); ok {
		opts = crypto.Hash(0)
	}
	_, err := k.Sign(nil, digest[:], opts)
	return err
}

func TestTokenSignsPSS(t *testing.T) {
	h := newHSM(t)
	if _, err := h.Generate(t.Context(), h.uri("object=a"), Identity, RSA2048); err != nil {
		t.Fatal(err)
	}
	k := h.open("object=a")
	digest := sha256.Sum256([]byte("message"))
	for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 32} {
		signature, err := k.Sign(nil, digest[:], &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPSS(k.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: 32}); err != nil {
			t.Error(err)
		}
	}
	for name, opts := range map[string]crypto.SignerOpts{
		"another salt": &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256},
		"another hash": crypto.SHA512,
		"SHA-1":        crypto.SHA1,
	} {
		if _, err := k.Sign(nil, digest[:], opts); !errors.Is(err, ErrCannot) || k.Lost() != nil {
			t.Errorf("%s: %v, lost: %v", name, err, k.Lost())
		}
	}
}

func TestImportedKeyStaysInTheToken(t *testing.T) {
	h := newHSM(t)
	for i, typ := range []KeyType{RSA2048, P256, P384, Ed25519} {
		t.Run(string(typ), func(t *testing.T) {
			key, err := generateKey(typ)
			if err != nil {
				t.Fatal(err)
			}
			uri := h.uri("object=" + string(typ) + fmt.Sprintf(";id=0a%02xff", i))
			if err := h.Import(t.Context(), uri, Identity, key); err != nil {
				t.Fatal(err)
			}
			if err := h.Import(t.Context(), uri, Identity, key); !errors.Is(err, ErrExists) {
				t.Errorf("imported twice: %v", err)
			}
			k := h.open("object=" + string(typ))
			if !SameKey(k.Public(), key.Public()) {
				t.Error("another key than was imported")
			}
			signsFor(t, k, crypto.SHA256)
			exportable(t, k, false)
			if err := h.Import(t.Context(), h.uri("object=other"+string(typ)), Identity, k); !errors.Is(err, ErrCannot) {
				t.Errorf("a key that does not leave its token was imported: %v", err)
			}
		})
	}
}

func TestKeyThatLeavesItsTokenIsCalledExportable(t *testing.T) {
	h := newHSM(t)
	attr := pkcs11.NewAttribute
	h.rsaPair(2048, 1, "wrappable", attr(pkcs11.CKA_EXTRACTABLE, true))
	h.rsaPair(2048, 2, "readable", attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true))
	h.rsaPair(2048, 3, "closed")
	for label, want := range map[string]bool{"wrappable": true, "readable": true, "closed": false} {
		exportable(t, h.open("object="+label), want)
	}
	// Every way by itself, whatever the token says of the key.
	h.raw(func(s *p11Session) error {
		for label, want := range map[string]struct{ shown, wrapped bool }{
			"wrappable": {false, true}, "readable": {true, true}, "closed": {false, false},
		} {
			k, err := s.privateKey(must(t, h.uri("object="+label)))
			if err != nil {
				return err
			}
			shown, err1 := k.shown(k.key)
			wrapped, err2 := k.wrapped()
			copied, err3 := k.copied()
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			if shown != want.shown || wrapped != want.wrapped || copied && label == "closed" {
				t.Errorf("%s: shown %v, wrapped %v, copied %v", label, shown, wrapped, copied)
			}
		}
		return nil
	})
}

func TestTokenIsWaitedFor(t *testing.T) {
	h := newHSM(t)
	uri := strings.Replace(h.uri("object=a"), "token=gate", "token=later", 1)
	k, err := h.Signer(uri, ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) {
			t.Fatal(err)
		}
	}
	h.initToken("later") // SoftHSM sees new tokens only when it is initialized
	if err := k.Check(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Fatal(err)
	}
	if _, err := h.Generate(t.Context(), uri, ExternalAuth, P256); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Check(t.Context()), signs(k), k.Close()); err != nil {
		t.Error(err)
	}
}

func TestModuleThatSomebodyElseFinalizedIsStartedAgain(t *testing.T) {
	h := newHSM(t)
	if _, err := h.Generate(t.Context(), h.uri("object=a"), ExternalAuth, P256); err != nil {
		t.Fatal(err)
	}
	a, b := h.open("object=a"), h.open("object=a")
	other := pkcs11.New(softHSM)
	for range 3 {
		if err := other.Finalize(); err != nil {
			t.Fatal(err)
		}
		if err := signs(a); !errors.Is(err, ErrAbsent) {
			t.Errorf("finalized: %v", err)
		}
		for range 2 {
			if err := errors.Join(a.Check(t.Context()), b.Check(t.Context()), signs(a), signs(b)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestStoreIsNotClosedUnderItsKeys(t *testing.T) {
	h := newHSM(t)
	if _, err := h.Generate(t.Context(), h.uri("object=a"), ExternalAuth, P256); err != nil {
		t.Fatal(err)
	}
	k := h.open("object=a")
	other := new(Store) // the same module, in the same process
	l, err := other.OpenSigner(t.Context(), h.uri("object=a"), ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), other.Close(), signs(k)); err != nil {
		t.Errorf("another store was closed: %v", err)
	}
	if err := h.Close(); err == nil {
		t.Error("closed while a key is open")
	}
	if err := errors.Join(signs(k), k.Close()); err != nil {
		t.Error(err)
	}
}

func TestCertificateShowsThePublicHalfAndGoesWithTheKey(t *testing.T) {
	h := newHSM(t)
	attr := pkcs11.NewAttribute
	want, err := h.Generate(t.Context(), h.uri("id=0a"), ExternalAuth, P256)
	if err != nil {
		t.Fatal(err)
	}
	k := h.open("id=0a")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, want, k)
	if err != nil {
		t.Fatal(err)
	}
	other, err := generateKey(P256)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := x509.CreateCertificate(nil, template, template, other.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	h.raw(func(s *p11Session) error {
		for _, c := range []struct{ id, der []byte }{{[]byte{0x0a}, der}, {[]byte{0x0b}, kept}} {
			_, err := s.c.CreateObject(s.sh, append(p11Name{c.id, "certificate"}.attributes(pkcs11.CKO_CERTIFICATE, false),
				attr(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509), attr(pkcs11.CKA_SUBJECT, []byte{0x30, 0}), attr(pkcs11.CKA_VALUE, c.der)))
			if err != nil {
				return err
			}
		}
		all, err := s.find(attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY))
		if err != nil {
			return err
		}
		return s.remove(all...)
	})
	if l := h.open("id=0a"); !SameKey(l.Public(), want) {
		t.Error("another public half than the certificate's")
	}
	if err := h.Destroy(t.Context(), h.uri("id=0a"), ExternalAuth, want); err != nil {
		t.Fatal(err)
	}
	h.raw(func(s *p11Session) error {
		all, err := s.find()
		if err != nil {
			return err
		}
		if len(all) != 1 {
			t.Errorf("%d objects are left, want the certificate of another key", len(all))
		}
		return nil
	})
}

func BenchmarkSignSoftHSM(b *testing.B) {
	h := newHSM(b)
	for _, typ := range []KeyType{RSA2048, P256} {
		if _, err := h.Generate(b.Context(), h.uri("object="+string(typ)), ExternalAuth, typ); err != nil {
			b.Fatal(err)
		}
		k := h.open("object=" + string(typ))
		b.Run(string(typ), func(b *testing.B) {
			for b.Loop() {
				if err := signs(k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
