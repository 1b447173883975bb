package keystore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// tpmWrapperOf makes a wrapping secret and opens it.
func tpmWrapperOf(t testing.TB, tpm swtpm, query string) Wrapper {
	t.Helper()
	uri := tpm.URI("81000020") + query
	if err := new(Store).GenerateWrapper(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	w, err := new(Store).OpenWrapper(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestSecretUnwrapsInItsTPMOnly(t *testing.T) {
	tpm, other := newTPM(t), newTPM(t)
	w, w2 := tpmWrapperOf(t, tpm, ""), tpmWrapperOf(t, other, "")
	for _, secret := range [][]byte{{1}, []byte("scope key of 32 bytes, or so ..."), make([]byte, maxSecret)} {
		blob, err := w.Wrap(secret, "scope-key:venue")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.Unwrap(blob, "scope-key:venue"); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if _, err := w.Unwrap(blob, "scope-key:other"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("other label: %v", err)
		}
		if _, err := w2.Unwrap(blob, "scope-key:venue"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("other TPM: %v", err)
		}
		if again, err := w.Wrap(secret, "scope-key:venue"); err != nil || bytes.Equal(again, blob) {
			t.Errorf("wrapped twice the same: %v", err)
		}
	}
	for _, tc := range []struct {
		secret []byte
		label  string
	}{{nil, "l"}, {make([]byte, maxSecret+1), "l"}, {[]byte("s"), ""}, {[]byte("s"), strings.Repeat("l", 256)}} {
		if _, err := w.Wrap(tc.secret, tc.label); err == nil {
			t.Errorf("wrapped %d bytes under a label of %d", len(tc.secret), len(tc.label))
		}
	}
	if n := tpm.loaded(t); n != 0 {
		t.Errorf("%d objects and sessions stay loaded", n)
	}
}

func TestWrapperSurvivesItsTPMsPowerCut(t *testing.T) {
	tpm := newTPM(t)
	w := tpmWrapperOf(t, tpm, "")
	blob, err := w.Wrap([]byte("secret"), "label")
	if err != nil {
		t.Fatal(err)
	}
	tpm.PowerOff(t)
	if _, err := w.Unwrap(blob, "label"); !errors.Is(err, ErrAbsent) {
		t.Errorf("the TPM is off: %v", err)
	}
	tpm.PowerOn(t)
	if got, err := w.Unwrap(blob, "label"); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWrapperWithAnAuthValue(t *testing.T) {
	tpm := newTPM(t)
	w := tpmWrapperOf(t, tpm, "?pin-source="+pinFile(t, "right"))
	blob, err := w.Wrap([]byte("secret"), "label")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Unwrap(blob, "label"); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := new(Store).OpenWrapper(t.Context(), tpm.URI("81000020")+"?pin-source="+pinFile(t, "wrong")); pinError(t, err).Left != 2 {
		t.Error(err)
	}
	if _, err := new(Store).OpenWrapper(t.Context(), tpm.URI("81000020")); !pinError(t, err).NotSent {
		t.Error(err)
	}
}

func TestSigningKeyOfATPMIsNoWrappingSecret(t *testing.T) {
	tpm := newTPM(t)
	if _, err := new(Store).Generate(t.Context(), tpm.URI("81000010"), List, P256); err != nil {
		t.Fatal(err)
	}
	if _, err := new(Store).OpenWrapper(t.Context(), tpm.URI("81000010")); !errors.Is(err, ErrWrongKeyType) {
		t.Error(err)
	}
	if _, err := new(Store).OpenWrapper(t.Context(), tpm.URI("81000020")); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
}

func TestChangedTPMBlobDoesNotUnwrap(t *testing.T) {
	w := tpmWrapperOf(t, newTPM(t), "")
	blob, err := w.Wrap([]byte("scope key of 32 bytes, or so ..."), "label")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(blob))
	refused := func(what string, n int, bad []byte) {
		t.Helper()
		if _, err := w.Unwrap(bad, "label"); !errors.Is(err, ErrWrongSecret) && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s %d: %v", what, n, err)
		}
	}
	for i := range blob {
		for _, x := range []byte{0x01, 0x80, 0xFF} {
			bad := bytes.Clone(blob)
			bad[i] ^= x
			refused("changed byte", i, bad)
		}
	}
	for n := range blob {
		refused("cut to", n, blob[:n])
	}
	refused("longer by", 1, append(bytes.Clone(blob), 0))
	if _, err := w.Unwrap(blob, "label"); err != nil {
		t.Errorf("the blob itself: %v", err)
	}
}

// Property: what parses encodes to the same bytes.
func FuzzParseTPMBlob(f *testing.F) {
	w := tpmWrapperOf(f, newTPM(f), "")
	blob, err := w.Wrap([]byte("secret"), "label")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add([]byte{tpmWrapVersion, 0, 0, 0, 0})
	f.Add([]byte{tpmWrapVersion, 0xFF, 0xFF, 1})
	f.Fuzz(func(t *testing.T, blob []byte) {
		b, err := parseTPMBlob(blob)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if got := b.encode(); !bytes.Equal(got, blob) {
			t.Fatalf("parsed %x, encoded %x", blob, got)
		}
	})
}

func BenchmarkWrapTPM(b *testing.B) {
	w := tpmWrapperOf(b, newTPM(b), "")
	for b.Loop() {
		blob, err := w.Wrap(make([]byte, 32), "label")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Unwrap(blob, "label"); err != nil {
			b.Fatal(err)
		}
	}
}
