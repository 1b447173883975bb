package keystore

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
)

func TestKeyThatFitsNothingIsRefused(t *testing.T) {
	h := newHSM(t)
	attr := pkcs11.NewAttribute
	h.rsaPair(3072, 1, "long")
	h.rsaPair(2048, 2, "twin")
	h.rsaPair(2048, 3, "twin")
	h.rsaPair(2048, 4, "decrypts", attr(pkcs11.CKA_SIGN, false), attr(pkcs11.CKA_DECRYPT, true))
	h.raw(func(s *p11Session) error {
		n := p11Name{[]byte{5}, "koblitz"}
		params, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
		if err != nil {
			return err
		}
		_, _, err = s.c.GenerateKeyPair(s.sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
			append(n.public(), attr(pkcs11.CKA_EC_PARAMS, params)), n.private())
		return err
	})
	for _, tc := range []struct {
		what string
		want error
		text string
	}{
		{"object=long", ErrWrongKeyType, "3072"},
		{"object=koblitz", ErrWrongKeyType, "1.3.132.0.10"},
		{"object=decrypts", ErrWrongKeyType, "may not be used"},
		{"object=twin", ErrAmbiguous, "id=02;object=twin, id=03;object=twin"},
		{"object=none", ErrNoKey, `token "gate"`},
		{"id=02;object=long", ErrNoKey, ""},
	} {
		if _, err := h.OpenSigner(t.Context(), h.uri(tc.what), ExternalAuth); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v with %q", tc.what, err, tc.want, tc.text)
		}
	}
	h.open("object=twin;id=03")
	entries, err := h.List(t.Context(), h.uri("object=x"))
	if err != nil || len(entries) != 4 {
		t.Errorf("%+v, %v", entries, err)
	}
}

// A certificate or public key was written beside a private key that it does not
// belong to.
func TestPublicHalfOfAnotherKeyIsRefused(t *testing.T) {
	h := newHSM(t)
	h.rsaPair(2048, 1, "a")
	h.rsaPair(2048, 2, "b")
	h.raw(func(s *p11Session) error {
		for id, class := range map[byte]uint{1: pkcs11.CKO_PRIVATE_KEY, 2: pkcs11.CKO_PUBLIC_KEY} {
			all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{id}))
			if err != nil {
				return err
			}
			if err := s.remove(all...); err != nil {
				return err
			}
		}
		all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))
		if err != nil {
			return err
		}
		return s.c.SetAttributeValue(s.sh, all[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{1})})
	})
	if _, err := h.OpenSigner(t.Context(), h.uri("id=01"), ExternalAuth); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "belongs to another") {
		t.Error(err)
	}
	// Without that public key, the private key's own is left.
	h.raw(func(s *p11Session) error {
		all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY))
		if err != nil {
			return err
		}
		return s.remove(all...)
	})
	signsFor(t, h.open("id=01"), crypto.SHA256)
}

func TestKeyThatWantsItsPINEachTimeGetsIt(t *testing.T) {
	h := newHSM(t)
	h.rsaPair(2048, 1, "a", pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_AUTHENTICATE, true))
	k := h.open("object=a")
	signsFor(t, k, crypto.SHA256, crypto.SHA384)
	h.setPIN("wrong-one")
	for range 3 {
		if err := signs(k); err == nil {
			t.Error("signs with the wrong PIN")
		}
		if _, ok := errors.AsType[*PINError](k.Check(t.Context())); !ok {
			t.Error(k.Lost())
		}
	}
}

func TestTokensThatLookAlikeAreToldApart(t *testing.T) {
	h := newHSM(t)
	h.initToken("gate")
	_, err := h.OpenSigner(t.Context(), h.uri("object=a"), ExternalAuth)
	if !errors.Is(err, ErrAmbiguous) || strings.Count(err.Error(), "serial=") != 2 {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(err.Error(), ";serial=")
	serial, _, _ := strings.Cut(after, ";")
	uri := strings.Replace(h.uri("object=a"), "token=gate", "serial="+serial, 1)
	if _, err := h.Generate(t.Context(), uri, ExternalAuth, P256); err != nil {
		t.Error(err)
	}
}

func TestModuleThatIsNoneIsAbsent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(file, []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".missing"} {
		s := new(Store)
		if _, err := s.OpenSigner(t.Context(), "pkcs11:module-path="+path+";token=a;object=a", Identity); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTokenThatHasSeenAWrongPINIsSpared(t *testing.T) {
	h := newHSM(t)
	if _, err := h.Generate(t.Context(), h.uri("object=a"), ExternalAuth, P256); err != nil {
		t.Fatal(err)
	}
	h.setPIN("wrong-one")
	k, err := h.Signer(h.uri("object=a"), ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	var e *PINError
	if err := k.Check(t.Context()); !errors.As(err, &e) || e.NotSent || e.Locked {
		t.Fatal(err)
	}
	h.setPIN(hsmPIN)
	for range 2 { // the flag of the token stands, whoever asks
		if _, err := h.OpenSigner(t.Context(), h.uri("object=a"), ExternalAuth); !errors.As(err, &e) || !e.NotSent {
			t.Fatal(err)
		}
	}
	again := &Store{RetryPIN: true}
	l, err := again.OpenSigner(t.Context(), h.uri("object=a"), ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Check(t.Context()), signs(k), k.Close(), l.Close(), again.Close()); err != nil {
		t.Error(err)
	}
}

func TestTokenWithoutPINShowsWhatItShowsEverybody(t *testing.T) {
	h := newHSM(t)
	want, err := h.Generate(t.Context(), h.uri("object=a"), ExternalAuth, P256)
	if err != nil {
		t.Fatal(err)
	}
	open, _, _ := strings.Cut(h.uri("object=a"), "?")
	entries, err := h.List(t.Context(), open)
	if err != nil || len(entries) != 1 || !SameKey(entries[0].Public, want) {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, err := h.OpenSigner(t.Context(), open, ExternalAuth); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "pin-source") {
		t.Error(err)
	}
}

func TestNoTextHoldsThePIN(t *testing.T) {
	h := newHSM(t)
	if _, err := h.Generate(t.Context(), h.uri("object=a"), ExternalAuth, P256); err != nil {
		t.Fatal(err)
	}
	if err := h.GenerateWrapper(t.Context(), h.uri("object=w")); err != nil {
		t.Fatal(err)
	}
	k := h.open("object=a")
	w, err := h.OpenWrapper(t.Context(), h.uri("object=w"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := h.List(t.Context(), h.uri("object=a"))
	if err != nil {
		t.Fatal(err)
	}
	said := []any{k, w, h.Store, entries, k.URI()}
	if err := errors.Join(w.Close(), k.Close()); err != nil {
		t.Fatal(err)
	}
	h.setPIN(hsmPIN + "-wrong")
	for range 2 {
		_, err := h.OpenSigner(t.Context(), h.uri("object=a"), ExternalAuth)
		_, err2 := h.List(t.Context(), h.uri("object=a"))
		said = append(said, err, err2)
	}
	said = append(said, h.Store)
	for _, v := range said {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", hsmPIN)) {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
	}
}
