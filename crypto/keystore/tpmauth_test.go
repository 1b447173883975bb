package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/crypto/chacha20poly1305"
)

// keyWithPIN makes a key with an auth value.
func keyWithPIN(t *testing.T, tpm swtpm, pin string) (uri, file string) {
	t.Helper()
	file = pinFile(t, pin)
	uri = tpm.URI("81000010") + "?pin-source=" + file
	if _, err := new(Store).Generate(t.Context(), uri, List, P256); err != nil {
		t.Fatal(err)
	}
	return uri, file
}

func tries(t *testing.T, tpm swtpm) int {
	t.Helper()
	d, err := readDictionary(tpm.raw(t))
	if err != nil {
		t.Fatal(err)
	}
	return d.tries
}

// guess sends wrong auth values to a key, as another program would.
func guess(t *testing.T, tpm swtpm, times int) {
	t.Helper()
	o, err := readObject(tpm.raw(t), 0x81000010)
	if err != nil {
		t.Fatal(err)
	}
	k := &tpmKey{tpmObject: o}
	if k.public, _, err = o.signer(); err != nil {
		t.Fatal(err)
	}
	for range times {
		_, err := tpm2.Sign{
			KeyHandle: o.with(tpm2.PasswordAuth([]byte("guess"))), Digest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(tpm.raw(t))
		if !errors.Is(err, tpm2.TPMRCAuthFail) {
			t.Fatal(err)
		}
	}
}

func TestWrongAuthValueIsSentToATPMOnce(t *testing.T) {
	tpm := newTPM(t)
	uri, file := keyWithPIN(t, tpm, "right")
	if k, err := new(Store).OpenSigner(t.Context(), uri, List); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(signs(k), k.Check(t.Context()), k.Close()); err != nil {
		t.Fatal(err)
	}
	write := func(pin string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	k, err := new(Store).Signer(uri, List)
	if err != nil {
		t.Fatal(err)
	}
	if e := pinError(t, k.Check(t.Context())); e.NotSent || e.Locked || !e.Known || e.Left != 2 {
		t.Errorf("%+v", e)
	}
	for range 3 {
		if e := pinError(t, k.Check(t.Context())); !e.NotSent {
			t.Errorf("%+v", e)
		}
		if e := pinError(t, signs(k)); !e.NotSent {
			t.Errorf("%+v", e)
		}
	}
	if n := tries(t, tpm); n != 1 {
		t.Errorf("the TPM has counted %d wrong ones, want 1", n)
	}
	// A program that starts again and again does not lock the TPM.
	for range 3 {
		_, err := new(Store).OpenSigner(t.Context(), uri, List)
		if e := pinError(t, err); !e.NotSent || !e.Known || e.Left != 2 {
			t.Errorf("%+v", e)
		}
	}
	// A person who has corrected it tries it once, and the TPM forgets.
	write("right")
	k, err = (&Store{RetryPIN: true}).OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(signs(k), k.Close()); err != nil {
		t.Error(err)
	}
	if n := tries(t, tpm); n != 0 {
		t.Errorf("the TPM still counts %d", n)
	}
	if _, err := new(Store).OpenSigner(t.Context(), uri, List); err != nil {
		t.Error(err)
	}
	if n := tpm.loaded(t); n > 1 { // of the connection that is left open: its storage key
		t.Errorf("%d objects and sessions stay loaded", n)
	}
}

func TestTPMInLockoutIsLocked(t *testing.T) {
	tpm := newTPM(t)
	uri, _ := keyWithPIN(t, tpm, "right")
	k, err := new(Store).OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	guess(t, tpm, 3)
	if e := pinError(t, signs(k)); !e.Locked {
		t.Errorf("%+v", e)
	}
	if e := pinError(t, k.Check(t.Context())); !e.Locked {
		t.Errorf("%+v", e)
	}
	if _, err := (&Store{RetryPIN: true}).OpenSigner(t.Context(), uri, List); !pinError(t, err).Locked {
		t.Error(err)
	}
	// A key without an auth value does not care.
	open := tpm.URI("81000011")
	if _, err := new(Store).Generate(t.Context(), open, List, P256); err != nil {
		t.Fatal(err)
	}
	if k, err := new(Store).OpenSigner(t.Context(), open, List); err != nil || signs(k) != nil {
		t.Error(err)
	}
}

func TestLockoutIsSeenByCheck(t *testing.T) {
	tpm := newTPM(t)
	uri, _ := keyWithPIN(t, tpm, "right")
	k, err := new(Store).OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	guess(t, tpm, 2)
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Errorf("a try is left: %v", err)
	}
	guess(t, tpm, 1)
	if e := pinError(t, k.Check(t.Context())); !e.Locked {
		t.Errorf("%+v", e)
	}
}

func TestMissingPINSourceCostsOneTry(t *testing.T) {
	tpm := newTPM(t)
	uri, _ := keyWithPIN(t, tpm, "right")
	uri, _, _ = strings.Cut(uri, "?")
	k, err := new(Store).Signer(uri, List)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Check(t.Context()); pinError(t, err).NotSent || !strings.Contains(err.Error(), "no pin-source") {
		t.Error(err)
	}
	for range 3 {
		if e := pinError(t, k.Check(t.Context())); !e.NotSent {
			t.Errorf("%+v", e)
		}
	}
	if n := tries(t, tpm); n != 1 {
		t.Errorf("the TPM has counted %d", n)
	}
}

// A TPM whose power is cut after it has seen an auth value counts it as a try
// (TPM 2.0 Library, part 1, §19.8.6): somebody may have cut it before it counted.
func TestPowerCutClosesAKeyWithAnAuthValue(t *testing.T) {
	tpm := newTPM(t)
	uri, _ := keyWithPIN(t, tpm, "right")
	k, err := new(Store).OpenSigner(t.Context(), uri, List)
	if err != nil {
		t.Fatal(err)
	}
	tpm.stop(t)
	tpm.PowerOn(t)
	_ = signs(k) // it is lost
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Errorf("after an orderly shutdown: %v", err)
	}
	tpm.PowerOff(t)
	tpm.PowerOn(t)
	_ = signs(k)
	if n := tries(t, tpm); n != 1 {
		t.Errorf("the TPM counts %d", n)
	}
	if e := pinError(t, k.Check(t.Context())); !e.NotSent || e.Left != 2 {
		t.Errorf("%+v", e)
	}
	if k, err = (&Store{RetryPIN: true}).OpenSigner(t.Context(), uri, List); err != nil || signs(k) != nil {
		t.Error(err)
	}
}

func TestAuthValueThatNoTPMTakesIsRefused(t *testing.T) {
	tpm := newTPM(t)
	for _, pin := range []string{strings.Repeat("x", 33), "a\x00b", "a\x00"} {
		uri := tpm.URI("81000010") + "?pin-source=" + pinFile(t, pin)
		if _, err := new(Store).Generate(t.Context(), uri, List, P256); !errors.Is(err, ErrKeySource) {
			t.Errorf("%q: %v", pin, err)
		}
	}
	if _, err := new(Store).Generate(t.Context(), tpm.URI("81000010")+"?pin-source="+pinFile(t, strings.Repeat("x", 32)), List, P256); err != nil {
		t.Error(err)
	}
}

// A tap listens on the bus.
type tap struct {
	transport.TPMCloser
	heard []byte
}

func (b *tap) Send(command []byte) ([]byte, error) {
	response, err := b.TPMCloser.Send(command)
	b.heard = append(append(b.heard, command...), response...)
	return response, err
}

func TestSecretsCrossTheBusEncrypted(t *testing.T) {
	tpm := newTPM(t)
	var s Store
	c, err := s.tpms.connect(tpm.Device())
	if err != nil {
		t.Fatal(err)
	}
	bus := &tap{TPMCloser: c.transport}
	c.transport = bus

	const pin = "canary of the bus"
	source := "?pin-source=" + pinFile(t, pin)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Generate(t.Context(), tpm.URI("81000010")+source, List, P256); err != nil {
		t.Fatal(err)
	}
	if err := s.Import(t.Context(), tpm.URI("81000011")+source, List, key); err != nil {
		t.Fatal(err)
	}
	if err := s.GenerateWrapper(t.Context(), tpm.URI("81000012")+source); err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"81000010", "81000011"} {
		k, err := s.OpenSigner(t.Context(), tpm.URI(h)+source, List)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(signs(k), k.Close()); err != nil {
			t.Error(err)
		}
	}
	w, err := s.OpenWrapper(t.Context(), tpm.URI("81000012")+source)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := w.Wrap([]byte("secret"), "label")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Unwrap(blob, "label"); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(bus.heard, []byte(pin)) {
		t.Error("the auth value is heard on the bus")
	}
	if bytes.Contains(bus.heard, scalar) {
		t.Error("the imported key is heard on the bus")
	}
	b, err := parseTPMBlob(blob)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(bus.heard) - chacha20poly1305.KeySize {
		aead, err := chacha20poly1305.NewX(bus.heard[i : i+chacha20poly1305.KeySize])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := aead.Open(nil, b.nonce, b.box, []byte(tpmWrapLabel+"label")); err == nil {
			t.Fatal("the key of a wrapped secret is heard on the bus")
		}
	}
}

func TestAuthValueIsNotPrinted(t *testing.T) {
	const pin = "canary-7351"
	tpm := newTPM(t)
	file := pinFile(t, pin)
	source := "?pin-source=" + file
	var s Store
	_, err1 := s.Generate(t.Context(), tpm.URI("81000010")+source, List, P256)
	err2 := s.GenerateWrapper(t.Context(), tpm.URI("81000011")+source)
	k, err3 := s.OpenSigner(t.Context(), tpm.URI("81000010")+source, List)
	w, err4 := s.OpenWrapper(t.Context(), tpm.URI("81000011")+source)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	// Again, with what is another one's.
	wrong := "?pin-source=" + pinFile(t, pin+"x")
	_, err5 := new(Store).OpenSigner(t.Context(), tpm.URI("81000010")+wrong, List)
	_, err6 := (&Store{RetryPIN: true}).OpenWrapper(t.Context(), tpm.URI("81000011")+wrong)
	for _, v := range []any{k, w, &s, pinError(t, err5), pinError(t, err6), err5, err6} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			text := fmt.Sprintf(verb, v)
			for _, bad := range []string{pin, fmt.Sprintf("%x", pin), strings.Trim(fmt.Sprint([]byte(pin)), "[]")} {
				if strings.Contains(text, bad) {
					t.Errorf("%T prints its auth value with %s", v, verb)
				}
			}
		}
	}
}
