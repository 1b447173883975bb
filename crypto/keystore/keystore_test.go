package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// store is a folder with a key source, and the URI of a key in it.
func store(t testing.TB) (dir, uri string) {
	t.Helper()
	dir = t.TempDir()
	if err := GenerateKeySource(filepath.Join(dir, "source")); err != nil {
		t.Fatal(err)
	}
	return dir, sealedURI(dir, "key.pem", "source")
}

func sealedURI(dir, key, source string) string {
	return "sealed:path=" + filepath.Join(dir, key) + ";key-source=" + filepath.Join(dir, source)
}

func TestSealedKeysSign(t *testing.T) {
	digest := sha256.Sum256([]byte("message"))
	for _, typ := range []KeyType{RSA2048, Ed25519, P256, P384} {
		t.Run(string(typ), func(t *testing.T) {
			_, uri := store(t)
			want, err := new(Store).Generate(t.Context(), uri, ExternalAuth, typ)
			if err != nil {
				t.Fatal(err)
			}
			key, err := new(Store).OpenSigner(t.Context(), uri, ExternalAuth)
			if err != nil {
				t.Fatal(err)
			}
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(want) {
				t.Fatal("opened key has another public key than the one made")
			}
			var ok bool
			switch pub := want.(type) {
			case *rsa.PublicKey:
				sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
				ok = err == nil && rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) == nil
			case ed25519.PublicKey:
				sig, err := key.Sign(rand.Reader, digest[:], crypto.Hash(0))
				ok = err == nil && ed25519.Verify(pub, digest[:], sig)
			case *ecdsa.PublicKey:
				sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
				ok = err == nil && ecdsa.VerifyASN1(pub, digest[:], sig)
			}
			if !ok {
				t.Fatal("signature does not verify")
			}
		})
	}
}

func TestSealedFileIsClosedToOthers(t *testing.T) {
	dir, uri := store(t)
	if err := new(Store).GenerateWrapper(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("folder holds %v, want key.pem and source only", entries)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s has mode %v, want 0600 (%v)", e.Name(), fi.Mode(), err)
		}
	}
}

func TestKeyIsNeverReplaced(t *testing.T) {
	dir, uri := store(t)
	first, err := new(Store).Generate(t.Context(), uri, List, Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := new(Store).Generate(t.Context(), uri, List, Ed25519); !errors.Is(err, os.ErrExist) {
		t.Fatalf("second key at the same place: %v, want ErrExist", err)
	}
	if err := GenerateKeySource(filepath.Join(dir, "source")); !errors.Is(err, os.ErrExist) {
		t.Fatalf("second key source at the same place: %v, want ErrExist", err)
	}
	key, err := new(Store).OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	if !first.(ed25519.PublicKey).Equal(key.Public()) {
		t.Fatal("the first key is gone")
	}
}

func TestKeyForAnotherPurposeDoesNotOpen(t *testing.T) {
	_, uri := store(t)
	if _, err := new(Store).Generate(t.Context(), uri, List, Ed25519); err != nil {
		t.Fatal(err)
	}
	if _, err := new(Store).OpenSigner(t.Context(), uri, ExternalAuth); !errors.Is(err, ErrWrongPurpose) {
		t.Errorf("list key as terminal key: %v, want ErrWrongPurpose", err)
	}
	if _, err := new(Store).OpenWrapper(t.Context(), uri); !errors.Is(err, ErrWrongPurpose) {
		t.Errorf("list key as wrapper: %v, want ErrWrongPurpose", err)
	}
}

func TestWrappingSecretIsNoSigningKey(t *testing.T) {
	_, uri := store(t)
	if err := new(Store).GenerateWrapper(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Purpose{ExternalAuth, Wrap} {
		if _, err := new(Store).OpenSigner(t.Context(), uri, p); !errors.Is(err, ErrWrongPurpose) {
			t.Errorf("wrapping secret as %s key: %v, want ErrWrongPurpose", p, err)
		}
	}
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	if err := new(Store).Import(t.Context(), uri+"2", Wrap, key); !errors.Is(err, ErrWrongPurpose) {
		t.Errorf("signing key sealed for wrapping: %v, want ErrWrongPurpose", err)
	}
}

// A file that says it is a signing key and holds a secret, and the reverse:
// only somebody with the key source can make one.
func TestWrongKeyTypeInsideIsRefused(t *testing.T) {
	dir, uri := store(t)
	secret, err := readKeySource(filepath.Join(dir, "source"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		purpose Purpose
		keyType KeyType
		plain   []byte
		want    error
	}{
		{"secret for signing", List, secret32, make([]byte, 32), ErrWrongKeyType},
		{"no key inside", List, Ed25519, make([]byte, 32), ErrDamaged},
		{"short secret", Wrap, secret32, make([]byte, 31), ErrDamaged},
		{"key for wrapping", Wrap, Ed25519, make([]byte, 32), ErrWrongKeyType},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(dir, "key.pem")
			text := seal(tc.plain, secret, tc.purpose, tc.keyType, defaultKDF()).encode()
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			var err error
			if tc.purpose == Wrap {
				_, err = new(Store).OpenWrapper(t.Context(), uri)
			} else {
				_, err = new(Store).OpenSigner(t.Context(), uri, tc.purpose)
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestOnlyKnownKeyTypesAreSealed(t *testing.T) {
	_, uri := store(t)
	big, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{big, p521} {
		if err := new(Store).Import(t.Context(), uri, List, key); !errors.Is(err, ErrWrongKeyType) {
			t.Errorf("%T: %v, want ErrWrongKeyType", key, err)
		}
	}
}

func TestWrongSecretIsNamedAndNotShown(t *testing.T) {
	dir, uri := store(t)
	if _, err := new(Store).Generate(t.Context(), uri, List, Ed25519); err != nil {
		t.Fatal(err)
	}
	const other = "correct horse battery staple"
	if err := os.WriteFile(filepath.Join(dir, "other"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := new(Store).OpenSigner(t.Context(), sealedURI(dir, "key.pem", "other"), List)
	if !errors.Is(err, ErrWrongSecret) {
		t.Fatalf("got %v, want ErrWrongSecret", err)
	}
	if strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), "key.pem") {
		t.Errorf("error should name the file and not the secret: %v", err)
	}
}

func TestEveryHeaderIsAuthenticated(t *testing.T) {
	dir, uri := store(t)
	if _, err := new(Store).Generate(t.Context(), uri, List, Ed25519); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key.pem")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	zeros := func(n int) string { return strings.Repeat("A", n) }
	for header, value := range map[string]string{
		hKey: string(P256), hPurpose: string(ExternalAuth),
		hMemory: "19457", hPasses: "3", hThreads: "2",
		hSalt: zeros(22) + "==", hNonce: zeros(32),
	} {
		t.Run(header, func(t *testing.T) {
			old := block.Headers[header]
			block.Headers[header] = value
			defer func() { block.Headers[header] = old }()
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := new(Store).OpenSigner(t.Context(), uri, Purpose(block.Headers[hPurpose])); !errors.Is(err, ErrWrongSecret) {
				t.Errorf("edited %s: %v, want ErrWrongSecret", header, err)
			}
		})
	}
}

func TestMalformedSealedFileIsRefused(t *testing.T) {
	good := string(seal([]byte("x"), []byte("secret"), List, Ed25519, defaultKDF()).encode())
	if _, err := parseSealed([]byte(good)); err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q is not in the file", old)
		}
		return s
	}
	for name, text := range map[string]string{
		"empty":              "",
		"text before":        "hello\n" + good,
		"text behind":        good + "\n",
		"second block":       good + good,
		"no last newline":    strings.TrimSuffix(good, "\n"),
		"CRLF":               strings.ReplaceAll(good, "\n", "\r\n"),
		"other type":         strings.ReplaceAll(good, pemType, "PRIVATE KEY"),
		"newer version":      edit("Version: 1", "Version: 2"),
		"unknown header":     edit("Version:", "Comment: hi\nVersion:"),
		"header twice":       edit("Purpose: list\n", "Purpose: list\nPurpose: list\n"),
		"header missing":     edit("Purpose: list\n", ""),
		"bad purpose":        edit("Purpose: list", "Purpose: LIST"),
		"unknown key type":   edit("Key: ed25519", "Key: x448"),
		"memory too large":   edit("Memory-KiB: 19456", "Memory-KiB: 262145"),
		"memory too small":   edit("Memory-KiB: 19456", "Memory-KiB: 19455"),
		"memory overflowing": edit("Memory-KiB: 19456", "Memory-KiB: 4294986752"),
		"memory odd":         edit("Memory-KiB: 19456", "Memory-KiB: 019456"),
		"one pass":           edit("Passes: 2", "Passes: 1"),
		"eleven passes":      edit("Passes: 2", "Passes: 11"),
		"no thread":          edit("Threads: 1", "Threads: 0"),
		"five threads":       edit("Threads: 1", "Threads: 5"),
		"257 threads":        edit("Threads: 1", "Threads: 257"),
		"short salt":         edit("Salt: ", "Salt: AAAA"),
		"too large":          good + strings.Repeat("\n", maxSealed),
	} {
		if _, err := parseSealed([]byte(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

func TestKeySourceThatOthersReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644, 0o610} {
		write("secret", mode)
		_, err := readKeySource(path)
		if !errors.Is(err, ErrKeySource) || !strings.Contains(err.Error(), "chmod 0600 "+path) {
			t.Errorf("mode %o: %v, want ErrKeySource with the chmod to run", mode, err)
		}
	}
	for name, content := range map[string]string{
		"empty": "", "newline only": "\n", "too large": strings.Repeat("x", maxKeySource+1),
	} {
		write(content, 0o600)
		if _, err := readKeySource(path); !errors.Is(err, ErrKeySource) {
			t.Errorf("%s: %v, want ErrKeySource", name, err)
		}
	}
	for content, want := range map[string]string{
		"secret": "secret", "secret\n": "secret", "secret\n\n": "secret\n",
		strings.Repeat("x", maxKeySource): strings.Repeat("x", maxKeySource),
	} {
		write(content, 0o400)
		if got, err := readKeySource(path); err != nil || string(got) != want {
			t.Errorf("%.10q: got %.10q, %v", content, got, err)
		}
	}
	if _, err := readKeySource(filepath.Dir(path)); !errors.Is(err, ErrKeySource) {
		t.Errorf("a folder: %v, want ErrKeySource", err)
	}
	if _, err := readKeySource(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
}

// systemd shows a credential of a service that runs as a user as 0440.
func TestSystemdCredentialIsAKeySource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source")
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	for mode, ok := range map[os.FileMode]bool{0o440: true, 0o400: true, 0o460: false, 0o444: false} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte("secret"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := readKeySource(path); (err == nil) != ok {
			t.Errorf("mode %o: %v, want accepted = %v", mode, err, ok)
		}
	}
}

func TestWrappedSecretIsBoundToItsLabel(t *testing.T) {
	_, uri := store(t)
	if err := new(Store).GenerateWrapper(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	w, err := new(Store).OpenWrapper(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("scope key of 32 bytes, or so ...")
	blob, err := w.Wrap(secret, "scope-key:venue")
	if err != nil {
		t.Fatal(err)
	}
	w2, err := new(Store).OpenWrapper(t.Context(), uri) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w2.Unwrap(blob, "scope-key:venue"); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := w.Unwrap(blob, "scope-key:other"); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("other label: %v, want ErrWrongSecret", err)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, err := w.Unwrap(bad, "scope-key:venue"); !errors.Is(err, ErrWrongSecret) && !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range blob {
		if _, err := w.Unwrap(blob[:n], "scope-key:venue"); err == nil {
			t.Fatalf("cut to %d bytes: opens", n)
		}
	}
	if again, _ := w.Wrap(secret, "scope-key:venue"); bytes.Equal(again, blob) {
		t.Error("two wraps of one secret are equal: the nonce repeats")
	}
	for _, tc := range []struct {
		secret []byte
		label  string
	}{{nil, "l"}, {make([]byte, maxSecret+1), "l"}, {secret, ""}, {secret, strings.Repeat("l", 256)}} {
		if _, err := w.Wrap(tc.secret, tc.label); err == nil {
			t.Errorf("wrapped %d bytes under a label of %d", len(tc.secret), len(tc.label))
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	_, plain, _ := ed25519.GenerateKey(rand.Reader)
	_, uri := store(t)
	if err := new(Store).Import(t.Context(), uri, List, plain); err != nil {
		t.Fatal(err)
	}
	key, err := new(Store).OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	_, wuri := store(t)
	if err := new(Store).GenerateWrapper(t.Context(), wuri); err != nil {
		t.Fatal(err)
	}
	w, err := new(Store).OpenWrapper(t.Context(), wuri)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{key, w} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%x", "%s"} {
			if got := fmt.Sprintf(verb, v); !strings.HasPrefix(got, "keystore: ") || len(got) > 40 {
				t.Errorf("%s prints %q", verb, got)
			}
		}
	}
}

func TestCustodyTellsDiskFromMemory(t *testing.T) {
	memory, err := os.MkdirTemp("/dev/shm", "keystore")
	if err != nil {
		t.Skip("no /dev/shm: ", err)
	}
	defer os.RemoveAll(memory)
	if ok, err := onMemoryFS(memory); err != nil || !ok {
		t.Skip("/dev/shm is not a tmpfs here: ", err)
	}
	if err := GenerateKeySource(filepath.Join(memory, "source")); err != nil {
		t.Fatal(err)
	}
	got, err := CustodyOf("sealed:path=/key.pem;key-source=" + memory + "/source")
	if err != nil || got.DiskOpens || !strings.Contains(got.Text, "only together with") {
		t.Errorf("key source in memory: %v, %v", got, err)
	}
	here, err := filepath.Abs("keystore.go")
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := onMemoryFS(here); ok {
		t.Skip("the source tree lies in memory")
	}
	got, err = CustodyOf("sealed:path=/key.pem;key-source=" + here)
	if err != nil || !got.DiskOpens || !strings.HasSuffix(got.Text, "a copied disk opens it") {
		t.Errorf("key source on disk: %v, %v", got, err)
	}
}

// Property: what parses encodes to the same bytes.
func FuzzParseSealed(f *testing.F) {
	f.Add(seal([]byte("x"), []byte("secret"), List, Ed25519, defaultKDF()).encode())
	f.Add([]byte("-----BEGIN GATE-AGENT SEALED KEY-----\nVersion: 1\n\n-----END GATE-AGENT SEALED KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSealed(text)
		if err != nil {
			return
		}
		if got := s.encode(); !bytes.Equal(got, text) {
			t.Fatalf("parsed %q, encoded %q", text, got)
		}
	})
}

func TestSealedFileThatOthersReadIsRefused(t *testing.T) {
	dir, _ := store(t)
	uri := sealedURI(dir, "key", "source")
	if _, err := new(Store).Generate(t.Context(), uri, ExternalAuth, P256); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := new(Store).OpenSigner(t.Context(), uri, ExternalAuth); !errors.Is(err, ErrSealedFile) || !strings.Contains(err.Error(), "chmod 0600 "+path) {
			t.Errorf("mode %o: %v, want ErrSealedFile with the chmod to run", mode, err)
		}
	}
}
