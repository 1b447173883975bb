package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/halt"
	"github.com/google/go-tpm/tpm2"
)

func verify(t testing.TB, public crypto.PublicKey, hash crypto.Hash, pss bool, digest, signature []byte) {
	t.Helper()
	ok := false
	switch public := public.(type) {
	case *rsa.PublicKey:
		if pss {
			ok = rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
		}
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(public, digest, signature)
	}
	if !ok {
		t.Error("signature does not verify")
	}
}

func TestTPMKeysSign(t *testing.T) {
	tpm := newTPM(t)
	for i, typ := range []KeyType{RSA2048, P256, P384} {
		t.Run(string(typ), func(t *testing.T) {
			var s Store
			uri := tpm.URI(fmt.Sprintf("8100001%d", i))
			public, err := s.Generate(t.Context(), uri, ExternalAuth, typ)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := TypeOf(public); err != nil || got != typ {
				t.Fatalf("made %s, %v", got, err)
			}
			k, err := s.OpenSigner(t.Context(), uri, ExternalAuth)
			if err != nil {
				t.Fatal(err)
			}
			if !SameKey(k.Public(), public) {
				t.Error("opened key has another public half than the one made")
			}
			d256, d384 := sha256.Sum256([]byte("message")), sha512.Sum384([]byte("message"))
			for hash, digest := range map[crypto.Hash][]byte{crypto.SHA256: d256[:], crypto.SHA384: d384[:]} {
				sig, err := k.Sign(nil, digest, hash)
				if err != nil {
					t.Fatal(err)
				}
				verify(t, public, hash, false, digest, sig)
			}
			sig, err := k.Sign(nil, d256[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
			if typ == RSA2048 {
				if err != nil {
					t.Fatal(err)
				}
				verify(t, public, crypto.SHA256, true, d256[:], sig)
			} else if !errors.Is(err, ErrCannot) {
				t.Errorf("PSS with a curve: %v", err)
			}
			for name, o := range map[string]crypto.SignerOpts{
				"SHA-1": crypto.SHA1, "no hash": crypto.Hash(0), "short digest": crypto.SHA512,
			} {
				if _, err := k.Sign(nil, d256[:], o); !errors.Is(err, ErrCannot) {
					t.Errorf("%s: %v, want ErrCannot", name, err)
				}
			}
			if out, err := k.Exportable(t.Context()); err != nil || out {
				t.Errorf("exportable: %v, %v", out, err)
			}
			if err := errors.Join(k.Check(t.Context()), signs(k), k.Close(), s.Close()); err != nil {
				t.Error(err)
			}
			if n := tpm.loaded(t); n != 0 {
				t.Errorf("%d objects and sessions stay loaded", n)
			}
		})
	}
}

func TestTPMHasNoEd25519(t *testing.T) {
	var s Store
	_, err := s.Generate(t.Context(), newTPM(t).URI("81000010"), Identity, Ed25519)
	if !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), "take p-256") {
		t.Error(err)
	}
}

func TestTPMThatIsNotThereIsAbsent(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"missing", "file"} {
		_, err := new(Store).OpenSigner(t.Context(), "tpm:device="+filepath.Join(dir, name)+";handle=81000010", List)
		if !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := new(Store).OpenSigner(t.Context(), newTPM(t).URI("81000010"), List); !errors.Is(err, ErrNoKey) {
		t.Errorf("empty TPM: %v", err)
	}
}

func TestTPMObjectThatIsNoSigningKeyIsNamed(t *testing.T) {
	tpm := newTPM(t)
	own := tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true}
	with := func(t KeyType, f func(*tpm2.TPMTPublic)) tpm2.TPMTPublic {
		area, _ := signingArea(t)
		area.ObjectAttributes = own
		f(&area)
		return area
	}
	storage := tpm2.ECCSRKTemplate
	storage.Unique = tpm2.TPMUPublicID{}
	for i, tc := range []struct {
		area tpm2.TPMTPublic
		want string
	}{
		{storage, "a storage key, p-256"},
		{with(RSA2048, func(a *tpm2.TPMTPublic) { a.ObjectAttributes.Decrypt = true }), "a decryption key, rsa-2048"},
		{with(P256, func(a *tpm2.TPMTPublic) { a.ObjectAttributes.Decrypt, a.ObjectAttributes.SignEncrypt = true, true }), "decrypts as well"},
		{with(P256, func(a *tpm2.TPMTPublic) {
			a.ObjectAttributes.SignEncrypt, a.ObjectAttributes.UserWithAuth = true, false
		}), "only a policy"},
		{with(RSA2048, func(a *tpm2.TPMTPublic) {
			a.ObjectAttributes.SignEncrypt = true
			a.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 3072})
		}), "a signing key, rsa-3072"},
		{with(P256, func(a *tpm2.TPMTPublic) {
			a.ObjectAttributes.SignEncrypt, a.ObjectAttributes.Restricted = true, true
			a.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				CurveID: tpm2.TPMECCNistP256,
				Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			})
		}), "an attestation key, p-256"},
	} {
		h := 0x81000020 + tpm2.TPMHandle(i)
		tpm.persist(t, tc.area, "", h)
		_, err := new(Store).OpenSigner(t.Context(), tpm.URI(fmt.Sprintf("%08x", uint32(h))), List)
		if !errors.Is(err, ErrWrongKeyType) || !strings.Contains(err.Error(), strings.TrimPrefix(strings.TrimPrefix(tc.want, "a "), "an ")) {
			t.Errorf("%s: %v", tc.want, err)
		}
	}
}

func TestTPMThatReturnsIsFoundAgain(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	uri := tpm.URI("81000010")
	if _, err := s.Generate(t.Context(), uri, List, P256); err != nil {
		t.Fatal(err)
	}
	k, err := s.OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.OpenSigner(t.Context(), uri, List) // over the same connection
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.tpms.conns); n != 1 || s.tpms.conns[tpm.Device()].users != 2 {
		t.Errorf("%d connections", n)
	}
	for range 2 {
		tpm.PowerOff(t)
		for range 2 {
			if err := signs(k); !errors.Is(err, ErrAbsent) {
				t.Errorf("the TPM is off: %v", err)
			}
		}
		if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) {
			t.Errorf("the TPM is off: %v", err)
		}
		tpm.PowerOn(t)
		if err := signs(k); !errors.Is(err, ErrAbsent) {
			t.Errorf("nobody has looked for the TPM yet: %v", err)
		}
		if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
			t.Fatal(err)
		}
		if err := signs(other); !errors.Is(err, ErrAbsent) {
			t.Errorf("signs over a connection that broke: %v", err)
		}
		if err := errors.Join(other.Check(t.Context()), signs(other)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(k.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	if n := len(s.tpms.conns); n != 0 {
		t.Errorf("%d connections stay open", n)
	}
}

func TestTPMThatHangsIsGivenUp(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	uri := tpm.URI("81000010")
	if _, err := s.Generate(t.Context(), uri, List, P256); err != nil {
		t.Fatal(err)
	}
	k, err := s.OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	halt.Process(t, tpm.Process.Pid)
	for range 2 {
		if err := signs(k); !errors.Is(err, ErrAbsent) {
			t.Errorf("no answer: %v", err)
		}
	}
	// Nor does anybody wait who has given up, such as a program that is to end.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var own Store // with a connection of its own
	_, listed := own.List(ctx, uri)
	_, opened := own.OpenWrapper(ctx, tpm.URI("81000011"))
	_, made := own.Generate(ctx, tpm.URI("81000012"), List, P256)
	destroyed := own.Destroy(ctx, uri, List, k.Public())
	for _, err := range []error{listed, opened, made, destroyed} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up: %v", err)
		}
	}
	if err := s.Close(); !errors.Is(err, ErrAbsent) {
		t.Errorf("the store was closed under a call: %v", err)
	}
	if err := tpm.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Check(t.Context()), signs(k), k.Close()); err != nil {
		t.Error(err)
	}
}

func TestSchemeOfATPMKeyIsKept(t *testing.T) {
	tpm := newTPM(t)
	area, err := signingArea(RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	a := &area.ObjectAttributes
	a.FixedTPM, a.FixedParent, a.SensitiveDataOrigin, a.NoDA = true, true, true, true
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Scheme: tpm2.TPMTRSAScheme{
		Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
	}})
	tpm.persist(t, area, "", 0x81000010)
	k, err := new(Store).OpenSigner(t.Context(), tpm.URI("81000010"), List)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(nil, make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthAuto})
	if !errors.Is(err, ErrCannot) {
		t.Errorf("PSS: %v", err)
	}
	if _, err := k.Sign(nil, make([]byte, 64), crypto.SHA512); !errors.Is(err, ErrCannot) {
		t.Errorf("SHA-512: %v", err)
	}
	if err := signs(k); err != nil {
		t.Error(err)
	}
}

func TestEmulatorIsNoCustody(t *testing.T) {
	c, err := CustodyOf(newTPM(t).URI("81000010"))
	if err != nil || !c.DiskOpens {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = CustodyOf("tpm:device=/dev/null;handle=81000010")
	if err != nil || c.DiskOpens {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestManyKeysOnOneTPMTakeTurns(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	uri := tpm.URI("81000010")
	if _, err := s.Generate(t.Context(), uri, List, P256); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for range 8 {
		go func() {
			k, err := s.OpenSigner(context.Background(), uri, List)
			for range 5 {
				if err == nil {
					err = signs(k)
				}
			}
			if err == nil {
				err = k.Close()
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// duplicable is a policy that lets anybody duplicate: TPM2_PolicyCommandCode of
// TPM2_Duplicate (TPM 2.0 Library, part 3, §23.11).
func duplicable() []byte {
	h := sha256.New()
	h.Write(make([]byte, 32))
	h.Write([]byte{0, 0, 0x01, 0x6C, 0, 0, 0x01, 0x4B})
	return h.Sum(nil)
}

func TestTPMKeyThatCanLeaveIsExportable(t *testing.T) {
	tpm := newTPM(t)
	area, err := signingArea(P256)
	if err != nil {
		t.Fatal(err)
	}
	area.ObjectAttributes.SensitiveDataOrigin = true
	area.ObjectAttributes.NoDA = true
	for i, tc := range []struct {
		name   string
		policy []byte
		want   bool
	}{
		{"policy of everybody", duplicable(), true},
		{"policy of somebody", make([]byte, 32), true},
		{"policy of nobody", nil, false},
	} {
		area.AuthPolicy.Buffer = tc.policy
		h := 0x81000020 + tpm2.TPMHandle(i)
		tpm.persist(t, area, "", h)
		var s Store
		k, err := s.OpenSigner(t.Context(), tpm.URI(fmt.Sprintf("%08x", uint32(h))), List)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Exportable(t.Context()); err != nil || got != tc.want {
			t.Errorf("%s: %v, %v, want %v", tc.name, got, err, tc.want)
		}
		if err := errors.Join(signs(k), k.Close()); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkSignTPM(b *testing.B) {
	tpm := newTPM(b)
	pin := pinFile(b, "secret of the key")
	var s Store
	for i, tc := range []struct {
		name string
		typ  KeyType
		pin  string
	}{{"rsa-2048", RSA2048, ""}, {"p-256", P256, ""}, {"p-256 with pin-source", P256, "?pin-source=" + pin}} {
		b.Run(tc.name, func(b *testing.B) {
			uri := tpm.URI(fmt.Sprintf("8100001%d", i)) + tc.pin
			if _, err := s.Generate(b.Context(), uri, List, tc.typ); err != nil && !errors.Is(err, ErrExists) {
				b.Fatal(err)
			}
			k, err := s.OpenSigner(b.Context(), uri, List)
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			digest := make([]byte, 32)
			rand.Read(digest)
			for b.Loop() {
				if _, err := k.Sign(nil, digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func pinFile(t testing.TB, pin string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
