package keystore

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

func TestTPMKeysComeAndGo(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	want := map[string]string{}
	public := map[string]crypto.PublicKey{}
	for h, typ := range map[string]KeyType{"81000010": P256, "81000011": RSA2048, "8100abcd": P384} {
		key, err := s.Generate(t.Context(), tpm.URI(h), List, typ)
		if err != nil {
			t.Fatal(err)
		}
		want[tpm.URI(h)], public[tpm.URI(h)] = string(typ), key
		if _, err := s.Generate(t.Context(), tpm.URI(h), List, P256); !errors.Is(err, ErrExists) {
			t.Errorf("a second key at %s: %v", h, err)
		}
	}
	if err := s.GenerateWrapper(t.Context(), tpm.URI("81000020")); err != nil {
		t.Fatal(err)
	}
	if err := s.GenerateWrapper(t.Context(), tpm.URI("81000010")); !errors.Is(err, ErrExists) {
		t.Errorf("a wrapping secret at the place of a key: %v", err)
	}
	want[tpm.URI("81000020")] = "storage key, p-256"
	check := func() {
		t.Helper()
		entries, err := s.List(t.Context(), "tpm:device="+tpm.Device())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(want) {
			t.Errorf("%d keys are listed, want %d", len(entries), len(want))
		}
		for _, e := range entries {
			if e.Type != want[e.URI] || e.Public == nil || public[e.URI] != nil && !SameKey(public[e.URI], e.Public) {
				t.Errorf("listed %+v, want %q", e, want[e.URI])
			}
			if public[e.URI] == nil {
				continue
			}
			k, err := s.OpenSigner(t.Context(), e.URI, List)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(signs(k), k.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	check()

	a, b := tpm.URI("81000010"), tpm.URI("8100abcd")
	if err := s.Destroy(t.Context(), a, List, public[b]); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key was meant: %v", err)
	}
	if err := s.Destroy(t.Context(), a, Wrap, nil); !errors.Is(err, ErrWrongKeyType) {
		t.Errorf("a wrapping secret was meant: %v", err)
	}
	if err := s.Destroy(t.Context(), tpm.URI("81000020"), List, public[a]); !errors.Is(err, ErrWrongKeyType) {
		t.Errorf("a key was meant: %v", err)
	}
	check()
	if err := s.Destroy(t.Context(), a, List, public[a]); err != nil {
		t.Fatal(err)
	}
	delete(want, a)
	check()
	if err := s.Destroy(t.Context(), a, List, public[a]); !errors.Is(err, ErrNoKey) {
		t.Errorf("destroyed twice: %v", err)
	}
	if err := s.Destroy(t.Context(), tpm.URI("81000020"), Wrap, nil); err != nil {
		t.Fatal(err)
	}
	delete(want, tpm.URI("81000020"))
	check()
	if n := tpm.loaded(t); n != 0 {
		t.Errorf("%d objects and sessions stay loaded", n)
	}
}

func TestDestroyedWrappingSecretDoesNotComeBack(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	uri := tpm.URI("81000020")
	var blob []byte
	for i := range 2 {
		if err := s.GenerateWrapper(t.Context(), uri); err != nil {
			t.Fatal(err)
		}
		w, err := s.OpenWrapper(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if _, err := w.Unwrap(blob, "label"); !errors.Is(err, ErrWrongSecret) {
				t.Errorf("opens with a new one: %v", err)
			}
			return
		}
		if blob, err = w.Wrap([]byte("secret"), "label"); err != nil {
			t.Fatal(err)
		}
		if err := s.Destroy(t.Context(), uri, Wrap, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Unwrap(blob, "label"); !errors.Is(err, ErrNoKey) {
			t.Errorf("it is gone: %v", err)
		}
	}
}

func TestImportedKeySignsInTheTPM(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	for i, typ := range []KeyType{RSA2048, P256, P384} {
		key, err := generateKey(typ)
		if err != nil {
			t.Fatal(err)
		}
		uri := tpm.URI(fmt.Sprintf("8100001%d", i))
		if err := s.Import(t.Context(), uri, List, key); err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		if err := s.Import(t.Context(), uri, List, key); !errors.Is(err, ErrExists) {
			t.Errorf("%s twice: %v", typ, err)
		}
		k, err := s.OpenSigner(t.Context(), uri, List)
		if err != nil {
			t.Fatal(err)
		}
		if !SameKey(k.Public(), key.Public()) {
			t.Errorf("%s: another key", typ)
		}
		digest := bytes.Repeat([]byte{7}, 32)
		sig, err := k.Sign(nil, digest, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, key.Public(), crypto.SHA256, false, digest, sig)
		// The key of the caller is as it was.
		if sig, err = key.Sign(nil, digest, crypto.SHA256); err != nil {
			t.Fatal(err)
		}
		verify(t, key.Public(), crypto.SHA256, false, digest, sig)
		if out, err := k.Exportable(t.Context()); err != nil || out {
			t.Errorf("%s: exportable: %v, %v", typ, out, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	key, err := generateKey(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Import(t.Context(), tpm.URI("81000020"), List, key); !errors.Is(err, ErrCannot) {
		t.Errorf("Ed25519: %v", err)
	}
}

// A storage key that somebody has provisioned serves, on either algorithm; it
// belongs to all, so it is neither ours to destroy nor to make.
func TestStorageKeyOfTheOwnerIsSharedAndLeftAlone(t *testing.T) {
	for name, template := range map[string]tpm2.TPMTPublic{"RSA": tpm2.RSASRKTemplate, "ECC": tpm2.ECCSRKTemplate} {
		t.Run(name, func(t *testing.T) {
			tpm := newTPM(t)
			c := tpm.raw(t)
			srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (tpm2.EvictControl{
				Auth: tpm2.TPMRHOwner, PersistentHandle: srkHandle,
				ObjectHandle: tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name},
			}).Execute(c); err != nil {
				t.Fatal(err)
			}
			if _, err := (tpm2.FlushContext{FlushHandle: srk.ObjectHandle}).Execute(c); err != nil {
				t.Fatal(err)
			}
			var s Store
			uri := tpm.URI("81000010") + "?pin-source=" + pinFile(t, "pin")
			if _, err := s.Generate(t.Context(), uri, List, P256); err != nil {
				t.Fatal(err)
			}
			k, err := s.OpenSigner(t.Context(), uri, List)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(signs(k), k.Close()); err != nil {
				t.Error(err)
			}
			key, err := generateKey(P256)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Import(t.Context(), tpm.URI("81000011"), List, key); err != nil {
				t.Error(err)
			}
			shared := tpm.URI("81000001")
			if _, err := s.OpenWrapper(t.Context(), shared); !errors.Is(err, ErrWrongKeyType) {
				t.Errorf("as wrapping secret: %v", err)
			}
			if err := s.Destroy(t.Context(), shared, Wrap, nil); !errors.Is(err, ErrCannot) {
				t.Errorf("destroying it: %v", err)
			}
			if _, err := s.Generate(t.Context(), shared, List, P256); !errors.Is(err, ErrCannot) {
				t.Errorf("taking its place: %v", err)
			}
			if n := tpm.loaded(t); n != 0 {
				t.Errorf("%d objects and sessions stay loaded", n)
			}
		})
	}
}

func TestOwnerWithAnAuthValueIsNamed(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	public, err := s.Generate(t.Context(), tpm.URI("81000010"), List, P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: tpm2.TPMRHOwner, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("owner")}}).Execute(tpm.raw(t)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Generate(t.Context(), tpm.URI("81000011"), List, P256)
	if err == nil || !strings.Contains(err.Error(), "owner hierarchy has an auth value") {
		t.Error(err)
	}
	err = s.Destroy(t.Context(), tpm.URI("81000010"), List, public)
	if err == nil || !strings.Contains(err.Error(), "owner hierarchy has an auth value") {
		t.Error(err)
	}
	k, err := s.OpenSigner(t.Context(), tpm.URI("81000010"), List)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(signs(k), k.Close()); err != nil {
		t.Errorf("what is there serves: %v", err)
	}
}
